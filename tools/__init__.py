"""For developers: the recipe of the embedded backbone, and pictures of the page."""
