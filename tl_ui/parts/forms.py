"""HTML made by our Python whose buttons and forms talk back to it, without a script of its own for each.

In the HTML (all of it escaped by whoever made it):

- `<button data-act="drop" data-class="3">`: a click is the act `drop`. So is a change of an `<input>` or `<select>`
  with `data-act`, and submitting a `<form data-act="rename">`.
- Along go the element's other `data-` attributes, and the named fields of its form or nearest `data-fields` element.
- Repeated elements should have a `data-key` (or id): what is kept from one showing to the next is matched by it.
- `data-focus="key"`: where the keyboard goes on when the element that was in use is gone.
- `data-appear`: comes into view when it was not there before; `data-arrive`: when the whole part was empty before.
- `<details id>` stay as the visitor left them.

What the visitor has typed or ticked stays theirs until an act takes it along; then the server's HTML counts again.
Acts wait in line in the browser (acts.js). Only the act travels to the server, never the HTML.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape as esc
from typing import Any

import gradio as gr

from tl_ui.parts.part import on_act, source

__all__ = ["Act", "button", "form", "on_act", "read"]

_MAX_NAMES = 200  # names of data or fields
_MAX_NAME = 100  # characters of a name
_MAX_VALUE = 10_000  # characters of a value
_MAX_VALUES = 50_000  # values in all


@dataclass(frozen=True)
class Act:
    """What a visitor did: its name, the data of the element, and every field's values. All of it is the client's."""

    act: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def field(self, name: str) -> str:
        """The first value of a field, or an empty text."""
        return next(iter(self.fields.get(name, ())), "")


def button(act: str, text: str, *, primary: bool = False, **data: object) -> str:
    """A button that does `act`; `text` is HTML already, `data` go along with the act."""
    along = "".join(f' data-{name}="{esc(str(value))}"' for name, value in data.items())
    kind = ' class="tl-primary"' if primary else ""
    return f'<button type="button" data-act="{act}"{along}{kind}>{text}</button>'


def form(elem_id: str, value: str = "", *, visible: bool = True) -> gr.HTML:
    """A part that shows `value`, HTML that our Python made and escaped, and sends acts to the handler of `on_act`."""
    return gr.HTML(
        value,
        elem_id=elem_id,
        visible=visible,
        html_template='<div class="tl-part tl-form" tabindex="-1"></div>',
        css_template=source("buttons.css", "forms.css"),
        js_on_load=source("acts.js", "forms.js"),
    )


def read(value: object) -> Act:
    """The act in a `gr.EventData` or its dictionary. Whatever is not as it should be is left out; never raises."""
    record = value._data if isinstance(value, gr.EventData) else value
    if not isinstance(record, dict):
        return Act()
    name = record.get("act")
    fields: dict[str, tuple[str, ...]] = {}
    left = _MAX_VALUES
    for key, item in _named(record.get("fields")):
        values = [text for text in (item if isinstance(item, list) else [item]) if _is_text(text, _MAX_VALUE)][:left]
        left -= len(values)
        fields[key] = tuple(values)
    data = {key: item for key, item in _named(record.get("data")) if _is_text(item, _MAX_VALUE)}
    return Act(name if _is_text(name, _MAX_NAME) else "", data, fields)


def _named(record: object) -> list[tuple[str, Any]]:
    items = record.items() if isinstance(record, dict) else ()
    return [(key, item) for key, item in items if _is_text(key, _MAX_NAME)][:_MAX_NAMES]


def _is_text(value: object, limit: int) -> bool:
    # A lone surrogate is no text: it can be neither written nor sent again.
    return isinstance(value, str) and len(value) <= limit and _encodable(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
