"""Measured against the limit and against what people would use instead; figures go to RESULTS.md, with the machine."""
