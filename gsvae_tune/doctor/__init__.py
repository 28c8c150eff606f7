"""Whether a study's files are whole and agree with each other, and mending what can be mended."""
