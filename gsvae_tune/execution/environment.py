"""Environment variables that Ray reads at import: quiet, and closed to other machines."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

_ALWAYS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we write our own records
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: everything is on disk already
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a short trial may end before it reports
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's experiment state is disposable
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a banner even when told to be silent
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial with gpu 0 sees what the machine has
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def on_cluster() -> bool:
    """Whether a Ray cluster is named to run on; else Ray is started here, for this study."""
    return bool(os.environ.get("RAY_ADDRESS"))


def close_token_file() -> None:
    """Let nobody else read the token that Ray keeps for this user: Ray itself leaves it open."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    with suppress(OSError):  # none there, or somebody else's
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def prepare() -> None:
    """Set the variables, leaving what the user has set."""
    for name, value in _ALWAYS.items():
        os.environ.setdefault(name, value)
    if not on_cluster():
        # Listens on 127.0.0.1 alone (it is the switch for systems that ask about open ports)...
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # ... and takes orders only from who knows a token that lives as long as this process. In
        # the environment it is readable by this user alone, and no token file is left behind.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
