"""The page as a file to run, which a Hugging Face Space needs at the top: all of it is in tl_ui/serve.py."""

from tl_ui.serve import SETTINGS, main

__all__ = ["SETTINGS", "main"]

if __name__ == "__main__":
    main()
