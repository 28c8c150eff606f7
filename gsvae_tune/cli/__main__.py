"""The entry point: every verb registers itself with the application when it is imported."""

from __future__ import annotations

import signal
import sys
from types import ModuleType
from typing import Any

from gsvae_tune.cli.arguments import hide_passwords


def main() -> None:
    """Turn user errors, and being told to stop, into one message and an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's Ctrl-C
    try:
        hide_passwords()
        application = _application()
        code = application.guarded(application.app)
    except KeyboardInterrupt:  # while it was being imported
        sys.stderr.write("interrupted; nothing had begun\n")
        code = 130
    sys.exit(code)


def _application() -> ModuleType:
    """Import all verbs, which takes long beside the hiding of a password."""
    from gsvae_tune.cli import (  # noqa: F401
        application,
        catalogue,
        copying,
        doctoring,
        measuring,
        reporting,
        studies,
    )

    return application


def __getattr__(name: str) -> Any:
    """Give `app` and `guarded` to those who call the application themselves."""
    if name in {"app", "guarded"}:
        return getattr(_application(), name)
    raise AttributeError(name)


if __name__ == "__main__":
    main()
