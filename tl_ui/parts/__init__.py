"""Parts of the page that Gradio does not bring along, each with its script and style beside it."""
