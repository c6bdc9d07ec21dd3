"""For those who wait: told when it is done, with a sound or in another window, and a link to come back by.

The script (waiting.js) also puts the progress into the title of the page. Nothing goes back to the server. What the
visitor wants is kept in the browser; both ways of telling are off until they are asked for.
"""

import gradio as gr

from tl_ui.parts.part import part

__all__ = ["NOTHING", "shown", "waiting"]

NOTHING: dict[str, object] = {}


def waiting(elem_id: str) -> gr.HTML:
    """The part; give it what `shown` makes."""
    return part(elem_id, "waiting", "waiting", ("make.js",), "part.waiting.")


def shown(key: str, *, running: bool, finished: bool, percent: int) -> dict[str, object]:
    """What the part shows of the run behind `key`; of one that is over without a result nothing."""
    state = "running" if running else "finished" if finished else "over"
    return {"key": key, "state": state, "percent": percent}
