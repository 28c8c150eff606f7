"""Stacked pairs of Gumbel-Softmax VAEs: data, networks, bounds, training. No Ray, no Optuna."""
