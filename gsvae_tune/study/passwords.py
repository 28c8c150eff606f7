"""Passwords of storages: taken out of URLs, so that nothing prints, records or passes one on.

A URL without its password is what messages, commands and other processes get to see. The password
is put back only where the connection is made (`search.database`). The standard library alone: the
command line takes passwords out of its arguments before it imports anything else.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import unquote, unquote_plus

# Read once, then gone, so that no process started from here inherits them.
VARIABLE = "GSVAE_STORAGE_PASSWORD"  # the user's: of every database URL that holds none
HANDED = "GSVAE_STORAGE_PASSWORDS_HANDED_ON"  # our own: JSON, URL -> what was in it

_IN_QUERY = ("password", "passwd", "sslpassword")  # what drivers call their secrets
_URL = re.compile(r"[A-Za-z][\w+.-]*://.*", re.DOTALL)

_handed: dict[str, dict[str, str]] = {}
_general: list[str] = []


def without_password(url: str) -> str:
    """Return a URL without its password; a text that is no URL is not repeated."""
    return split(url)[0] if _URL.fullmatch(url) else "(a text that is no URL)"


def split(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its secrets, and them, decoded, by the driver's name for each."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url, {}
    secrets: dict[str, str] = {}
    first = rest.find("@")
    user = rest[:first].partition(":")[0]
    if first >= 0 and "/" not in user:  # else the @ is in a file's name
        # A password may hold an @ that should have been written %40.
        query = re.compile(r"\?[\w.]+=").search(rest, first)
        last = rest.rfind("@", 0, query.start() if query else None)
        name, colon, password = rest[:last].partition(":")
        if colon:
            secrets["password"] = unquote(password)
            rest = name + rest[last:]
    address, question, settings = rest.partition("?")
    kept = []
    for part in settings.split("&"):
        key, _, value = part.partition("=")
        if unquote_plus(key).lower() in _IN_QUERY:
            secrets[unquote_plus(key).lower()] = unquote_plus(value)
        else:
            kept.append(part)
    shown = address + (question if kept else "") + "&".join(kept)
    return scheme + mark + shown, secrets


def complete(url: str) -> tuple[str, dict[str, str]]:
    """Return what `split` does, with the password this process was given where the URL has none."""
    bare, secrets = split(url)
    secrets = secrets or dict(_handed.get(bare, {}))
    general = [*_general, os.environ.get(VARIABLE, "")][0]
    if not secrets and general:
        secrets = {"password": general}
    return bare, secrets


def take_from_environment() -> None:
    """Take the passwords out of the environment, for `complete` to find."""
    _handed.update(json.loads(os.environ.pop(HANDED, "{}")))
    if password := os.environ.pop(VARIABLE, ""):
        _general[:] = [password]


def take_from_arguments(words: list[str]) -> list[str]:
    """Return command line words without passwords, keeping those for `hand_on` and `complete`.

    Whatever flag it follows, what looks like a URL with a password is taken for one.
    """
    return [_URL.sub(lambda found: _kept(found.group()), word) for word in words]


def _kept(text: str) -> str:
    url = text.rstrip("\"'")  # --set storage="..." is YAML
    bare, secrets = split(url)
    if secrets:
        _handed[bare] = secrets
    return bare + text[len(url) :]


def hand_on() -> None:
    """Put the passwords into the environment of a process that takes this one's place."""
    os.environ[HANDED] = json.dumps(_handed)
    if _general:
        os.environ[VARIABLE] = _general[0]
