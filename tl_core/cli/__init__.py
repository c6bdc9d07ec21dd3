"""The command line: see `commands.main`."""

from tl_core.cli.commands import main

__all__ = ["main"]
