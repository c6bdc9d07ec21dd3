"""A trained model as a folder that explains itself and never runs code when opened."""
