"""A pad to draw a digit on, and what a finished model says to it: the page alive before anybody has trained anything.

The script (draw_digit.js) turns strokes into what the digits that taught the model are, (8, 8) numbers from 0 to 16 of
how much ink each cell has (https://doi.org/10.24432/C50P49), and sends them as the act `draw`, read by `read`. Whoever
cannot draw shows it one of a few digits that it was not taught.
"""

import itertools
import json
from typing import Any

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image

from tl_core.data.imageset import RGB
from tl_ui.parts.part import on_act, part, source

__all__ = ["answer", "draw_digit", "on_act", "read"]

_CELLS, _MOST = 64, 16
_serial = itertools.count(1)


def draw_digit(elem_id: str) -> gr.HTML:
    """The part; handle its acts with `on_act`, and give it an `answer`."""
    samples = json.loads(source("digit_samples.json"))
    return part(elem_id, "draw_digit", "draw", ("acts.js", "make.js"), "part.draw.", samples=samples)


def answer(html: str) -> dict[str, Any]:
    """What the part shows; two answers of the same words are still two."""
    return {"serial": next(_serial), "html": html}


def read(value: object) -> RGB | None:
    """The picture in a `gr.EventData` or its dictionary, the client's; None for what is no drawing."""
    record: Any = value._data if isinstance(value, gr.EventData) else value
    cells = record.get("cells") if isinstance(record, dict) and record.get("act") == "draw" else None
    if not isinstance(cells, list) or len(cells) != _CELLS:
        return None
    if not all(type(cell) is int and 0 <= cell <= _MOST for cell in cells):
        return None
    return np.asarray(digit_picture(np.reshape(cells, (8, 8))).convert("RGB"))


def digit_picture(cells: npt.ArrayLike) -> Image.Image:
    """The grey picture of (8, 8) numbers from 0 to 16, of how much ink each cell of a digit has."""
    tones = (255 - np.asarray(cells, dtype=np.float64) * (255 / 16)).round().astype(np.uint8)
    return Image.fromarray(tones).resize((64, 64), Image.Resampling.BICUBIC)
