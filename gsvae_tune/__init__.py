"""gsvae-tune: studies of the softmax temperature tau in Gumbel-Softmax VAEs.

Importing the package is cheap: torch, ray and optuna are loaded by the layers that need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsvae_tune.report.loaded import load_study as load_study

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Give `load_study`, which needs pandas and optuna, to those who ask for it."""
    if name == "load_study":
        from gsvae_tune.report.loaded import load_study

        return load_study
    raise AttributeError(name)
