"""Gradio in half the time: imported without what only editors of code want of it.

At every import Gradio reads the source of each of its components, parses it, and writes type stubs beside it; that is
half of what importing it costs (measured with 6.31.0). It leaves those out whose file it is not told.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STUBS = "gradio.component_meta"


@contextmanager
def without_stubs() -> Iterator[None]:
    """For the imports inside."""
    tell = inspect.getfile

    def told(thing: Any) -> str:
        if sys._getframe(1).f_globals["__name__"] == _STUBS:
            raise OSError("no stubs")
        return tell(thing)

    inspect.getfile = told
    try:
        yield
    finally:
        inspect.getfile = tell
