"""To the Hugging Face Hub and back, with a token that lives in the arguments of one call."""
