"""Measuring, on the user's own machine, what training and searching cost beside what others do."""
