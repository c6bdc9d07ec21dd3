"""The command `transfer-lab`: alone it opens the page; `transfer-lab train …` is the command line, without Gradio."""

import sys


def main() -> int:
    """What was typed behind the name decides: a word is a command, options alone are the page's."""
    if sys.argv[1:] and not sys.argv[1].startswith("-"):
        from tl_core.cli import main as command_line

        return command_line()
    from tl_ui.serve import main as serve

    serve(open_browser=True)
    return 0
