"""A data set of the Hugging Face Hub becomes a folder of pictures and a table of what is known about them."""
