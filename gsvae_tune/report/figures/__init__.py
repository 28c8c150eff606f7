"""Figures, one function each: tidy frames in, a matplotlib figure out. No number is worked out."""
