"""Numbers behind the figures: tidy frames in, tidy frames out. No figure, no file, no study."""
