"""Ready-made data the project drew itself, and the whole job without a page."""
