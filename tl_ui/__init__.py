"""The page. Gradio lives here and nowhere below; opening this package imports neither gradio nor torch."""
