"""The recipe that made the embedded backbone: see LOG.md for what was tried and README.md for how to repeat it."""
