"""The entry point: every verb registers itself with the application when it is imported."""

from __future__ import annotations

import sys

from gsvae_tune.cli import catalogue, measuring, studies  # noqa: F401 - they register their verbs
from gsvae_tune.cli.application import app, guarded


def main() -> None:
    """Turn user errors into one message and an exit code."""
    sys.exit(guarded(app))


if __name__ == "__main__":
    main()
