"""gsvae-tune: studies of the softmax temperature tau in Gumbel-Softmax VAEs.

    >>> study = gsvae_tune.load_study("studies/digits")
    >>> study.trials, study.replicates, study.epochs  # DataFrames; `gsvae-tune columns` explains
    >>> gsvae_tune.show(study, "sensitivity-start")  # a figure with its question and its answer

Importing the package is cheap: torch, ray and optuna are loaded by the layers that need them.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsvae_tune.report.exhibits.gallery import show as show
    from gsvae_tune.report.loaded import load_study as load_study

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Give `load_study` and `show`, which need pandas and optuna, to those who ask for them."""
    if name not in {"load_study", "show"}:
        raise AttributeError(name)
    with warnings.catch_warnings():
        # Optuna's progress bar, which is not used, asks for ipywidgets in every notebook.
        warnings.filterwarnings("ignore", "IProgress not found")
        if name == "load_study":
            from gsvae_tune.report.loaded import load_study

            return load_study
        from gsvae_tune.report.exhibits.gallery import show

        return show
