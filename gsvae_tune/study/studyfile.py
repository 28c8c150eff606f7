"""study.json: what a study is, and where it ran."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import secrets
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import gsvae_tune
from gsvae_tune.study.config import FORMAT_VERSION, StudyConfig
from gsvae_tune.study.errors import InputError
from gsvae_tune.study.faults import Fault
from gsvae_tune.study.loading import parse
from gsvae_tune.study.paths import StudyPaths
from gsvae_tune.study.records import read_json, write_json

# What study.json says of a storage that is a database: URLs may hold passwords.
ELSEWHERE = "a database"

_MAX_BYTES = 10_000_000
_MOST_COMMANDS = 1_000
_REQUIRED = {
    "": ("id", "created", "digest"),
    "config": ("storage", "arms"),
    "data": ("checksum", "images"),
}

_VERSIONS = ("torch", "ray", "optuna", "numpy", "pandas", "scikit-learn")


class DataFacts(Protocol):
    """What is recorded of the data (see `vae.data.Splits`)."""

    @property
    def checksum(self) -> str: ...
    @property
    def counts(self) -> dict[str, int]: ...


def check_study(paths: StudyPaths, config: StudyConfig, data: DataFacts) -> str:
    """Check, writing nothing, that a folder there is this study's; return the study's own id.

    The id is drawn when there is no study yet.

    Raises:
        InputError: the folder holds another study, other data, or its trials are elsewhere.
    """
    if not paths.exists():
        return secrets.token_hex(8)
    recorded = read_study(paths)
    _refuse_another(paths, recorded, config, data)
    return str(recorded["id"])


def write_study(
    paths: StudyPaths, config: StudyConfig, data: DataFacts, own_id: str, command: str | None = None
) -> None:
    """Write study.json, keeping when the study began and which commands have made it so far."""
    before = read_study(paths) if paths.exists() else {}
    known = before.get("commands")
    commands = [str(one) for one in known] if isinstance(known, list) else []
    if command is not None and command not in commands[-1:]:
        commands.append(command)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    stored = config.model_dump(mode="json")
    stored["storage"] = None if config.storage is None else ELSEWHERE
    value = {
        "format_version": FORMAT_VERSION,
        "id": own_id,
        "name": config.name,
        "digest": config.digest(),
        "seed": config.seed,
        "config": stored,
        "data": {"checksum": data.checksum, "images": data.counts},
        "created": before.get("created", now),
        "updated": now,
        "versions": versions(),
        "hardware": hardware(),
        "git_commit": git_commit(),
        "commands": commands[-_MOST_COMMANDS:],
    }
    write_json(paths.study, value)


def read_study(paths: StudyPaths) -> dict[str, Any]:
    """Return study.json.

    Raises:
        InputError: not there, not readable, or of another format version.
    """
    try:
        if paths.study.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")  # noqa: TRY301 - said like the others
        value = read_json(paths.study)
        version = value["format_version"]
        for part, keys in _REQUIRED.items():
            for key in keys:
                (value[part] if part else value)[key]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"is no readable study file: {type(error).__name__}: {error}", where=str(paths.study)
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"has format version {version}", where=str(paths.study), legal=str(FORMAT_VERSION)
        )
    return dict(value)


def read_config(paths: StudyPaths) -> StudyConfig:
    """Return the configuration a study's folder was made with."""
    stored = read_study(paths)["config"]
    return parse(stored | {"storage": None}, str(paths.study))


def mark_storage(paths: StudyPaths, *, elsewhere: bool) -> None:
    """Note in study.json that the trials are recorded in a database, or in the journal."""
    recorded = read_study(paths)
    recorded["config"]["storage"] = ELSEWHERE if elsewhere else None
    write_json(paths.study, recorded)


def require_storage(paths: StudyPaths, url: object) -> None:
    """Check that a study recorded in a database, or in its journal, is looked for there.

    Raises:
        InputError: otherwise.
    """
    elsewhere = read_study(paths)["config"]["storage"] is not None
    if elsewhere and url is None:
        raise InputError(
            "the trials of this study are recorded in a database",
            where=str(paths.root),
            legal="--storage URL, the one the study began with",
        )
    if not elsewhere and url is not None:
        raise InputError(
            "the trials of this study are recorded in its own journal",
            where=str(paths.root),
            legal="no --storage, or another --name or --out",
        )


def _refuse_another(
    paths: StudyPaths, recorded: Mapping[str, Any], config: StudyConfig, data: DataFacts
) -> None:
    old, new = _flat(read_config(paths).identity()), _flat(config.identity())
    changed = [
        f"    {key}: {json.dumps(old.get(key))} -> {json.dumps(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changed:
        raise InputError(
            "this folder holds the study under other settings (recorded -> asked for):\n"
            + "\n".join(changed),
            where=str(paths.root),
            legal="the recorded settings (search.trials may change), or another name",
            next_step="--name NAME or --out DIR for a study of its own; nothing was changed",
        )
    require_storage(paths, config.storage)
    if recorded["data"]["checksum"] != data.checksum:
        raise InputError(
            f"{Fault.DATA_CHANGED.value} (SHA-256 "
            f"{recorded['data']['checksum'][:12]}..., now {data.checksum[:12]}...)",
            where=str(paths.root),
            legal="the same data, or another name",
            next_step="--data-dir DIR, or --name NAME for a new study; nothing was changed",
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return flat


def versions() -> dict[str, str]:
    found = {"gsvae-tune": gsvae_tune.__version__, "python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """What the driver's machine is; each trial records the device it trained on."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def git_commit() -> str | None:
    """The commit of the source checkout this package runs from, None when installed."""
    checkout = Path(gsvae_tune.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    done = subprocess.run(  # noqa: S603 - fixed words and our own folder
        ["git", "-C", str(checkout), "rev-parse", "--verify", "HEAD"],  # noqa: S607 - the user's own git
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None
