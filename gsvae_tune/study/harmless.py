"""Text from outside - names, paths, errors - that can command neither a terminal nor a page."""

from __future__ import annotations

import re

# Control characters but newline and tab, what turns the direction of writing, and surrogates,
# which no terminal's encoding takes.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """Return the text with every character that could command a terminal replaced by U+FFFD."""
    return UNSAFE.sub("\ufffd", text)
