"""Features to a model: see `run.train` for the whole story of a run."""
