"""gsvae-tune: studies of the softmax temperature tau in Gumbel-Softmax VAEs.

Importing the package is cheap: torch, ray and optuna are loaded by the layers that need them.
"""

__version__ = "0.1.0"
