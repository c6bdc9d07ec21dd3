"""One picture to ask the model about: chosen, dropped, pasted, taken with the camera, or looked at live.

The script (try_picture.js, camera.js) shows HTML that our Python made and sends acts, read by `read`:

- `picture`: a file it has uploaded (`path`), opened later by the limited child like every upload.
- `frame`: what the live camera sees, as plain RGB bytes made by the browser's canvas. So nothing has to be decoded: a
  child process for each would take 0.4 s. One is under way at a time, at most one in 0.7 s.
- `why`: the slower things to say of the picture that was just answered.
- `alarms`: another place of the slider; it goes along with every other act, too.
- `back`: an answer is on the page again after something else was shown, perhaps of another model by now.
"""

import base64
import binascii
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from tl_core.data.imageset import RGB
from tl_ui.parts.part import on_act, part
from tl_ui.parts.uploads import uploaded

__all__ = ["ALARMS", "Ask", "on_act", "read", "shown", "try_picture"]

# How many of 100 pictures of the taught kinds may be called unknown: at least, at most, and as the bundle has it.
ALARMS = (1, 30, 5)
_LONGEST_FRAME = 256  # pixels; more than this the script never sends
# Every answer differs from the one before it, so that the browser hears of each.
_serial = itertools.count(1)


@dataclass(frozen=True)
class Ask:
    """What a visitor wants: `kind` is an act of the module's list or empty, `file` the picture's where it is one,
    `pixels` (H, W, 3) the frame's; `alarms` is the slider's place."""

    kind: str = ""
    file: Path | None = None
    pixels: RGB | None = None
    alarms: int = ALARMS[2]


def try_picture(elem_id: str) -> gr.HTML:
    """The part; handle its acts with `on_act`, and give it what `shown` makes."""
    least, most, usual = ALARMS
    alarms = {"least": least, "most": most, "usual": usual}
    scripts = ("acts.js", "uploads.js", "make.js", "camera.js")
    return part(elem_id, "try_picture", "try", scripts, "part.try.", alarms=alarms)


def shown(
    *,
    answer: str = "",
    pictures: str = "",
    likes: str = "",
    alarms: str = "",
    spoken: str = "",
    refused: str = "",
    measured: bool = False,
    more: bool = False,
) -> dict[str, Any]:
    """What the part shows: pieces of HTML, escaped by whoever made them; `spoken` and `refused` are plain text.

    `spoken` is read out whenever it changes. `measured`: the slider moves something. `more`: ask for `why` next.
    """
    return {
        "serial": next(_serial),
        "answer": answer,
        "pictures": pictures,
        "likes": likes,
        "alarms": alarms,
        "spoken": spoken,
        "refused": refused,
        "measured": measured,
        "more": more,
    }


def read(value: object) -> Ask:
    """The act in a `gr.EventData` or its dictionary, the client's; one that is not as it should be is no act at all."""
    record = value._data if isinstance(value, gr.EventData) else value
    if not isinstance(record, dict):
        return Ask()
    least, most, usual = ALARMS
    place = record.get("alarms")
    alarms = place if isinstance(place, int) and least <= place <= most else usual
    kind = record.get("act")
    if kind == "picture":
        file = uploaded(record.get("path"))
        return Ask("picture", file=file, alarms=alarms) if file is not None else Ask()
    if kind == "frame":
        pixels = _frame(record.get("width"), record.get("height"), record.get("pixels"))
        return Ask("frame", pixels=pixels, alarms=alarms) if pixels is not None else Ask()
    return Ask(kind, alarms=alarms) if kind in ("why", "alarms", "back") else Ask()


def _frame(width: object, height: object, text: object) -> RGB | None:
    """(height, width, 3) from base64 of exactly so many bytes, else None."""
    if not (isinstance(width, int) and isinstance(height, int) and isinstance(text, str)):
        return None
    if not (0 < width <= _LONGEST_FRAME and 0 < height <= _LONGEST_FRAME):
        return None
    size = 3 * width * height
    if len(text) != 4 * -(-size // 3):
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    return np.frombuffer(data, np.uint8).reshape(height, width, 3).copy() if len(data) == size else None
