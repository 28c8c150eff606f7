"""Stacked pairs of Gumbel-Softmax VAEs: data, networks, bounds, training. Knows neither Ray nor Optuna."""
