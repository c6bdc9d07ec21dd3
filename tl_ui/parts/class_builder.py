"""Name a class, add pictures to it from files or the camera: a training set without a zip.

The script (class_builder.js, camera.js) shows what the server keeps and sends acts, handled by `on_act`:

    def act(memory, request: gr.Request, event: gr.EventData):
        return class_builder.apply(collection_of(memory), event, language_of(request))

`shown` gives the part's value when the page is loaded; `.use(handler)` hears of "Use these pictures". A picture is
uploaded and recorded at once. What the browser can show by itself it shows from its own copy; thumbnails are asked for
after a reload, and for pictures that only our decoder can read.
"""

import base64
import itertools
from collections.abc import Callable
from typing import Any

import gradio as gr

from tl_core.errors import TLError
from tl_ui.collection import Collection, begun
from tl_ui.parts.part import on_act, part
from tl_ui.parts.uploads import uploaded
from tl_ui.words import error_sentence, say

__all__ = ["apply", "class_builder", "on_act", "shown"]

_MAX_FILES = 2_000  # of one act; the script sends fewer
_MAX_THUMBS = 60
_MAX_TEXT = 200
# Every answer differs from the one before it, so that the browser hears of each.
_serial = itertools.count(1)

Value = dict[str, Any]
_SCRIPTS = ("acts.js", "uploads.js", "make.js", "camera.js", "class_card.js")


def class_builder(elem_id: str) -> gr.HTML:
    """The part; see the module for what to connect."""
    return part(elem_id, "class_builder", "builder", _SCRIPTS, "part.classes.")


def shown(collection: Collection | None, language: str, **more: object) -> Value:
    """What the part shows of `collection`; without one, the two empty classes it would begin with."""
    kept = collection is not None and collection.exists()
    classes = collection.classes() if kept and collection else begun(_first_names(language)).classes
    return {
        "serial": next(_serial),
        "classes": [{"id": one.id, "name": one.name, "pictures": one.pictures} for one in classes],
        "ready": bool(kept and collection and collection.ready()),
        **more,
    }


def apply(collection: Collection, value: object, language: str) -> Value:
    """Do what an act says to `collection`, which is begun if need be, and give what the part shows then.

    `value` is a `gr.EventData` or its dictionary, the client's. What the collection refuses is said in the value.
    """
    record = value._data if isinstance(value, gr.EventData) else value
    act = record if isinstance(record, dict) else {}
    does = _ACTS.get(act.get("act")) if isinstance(act.get("act"), str) else None
    try:
        collection.start(_first_names(language))
        answer = does(collection, act, language) if does is not None else {}
    except TLError as error:
        answer = {"refused": error_sentence(language, error)}
    return shown(collection, language, **answer)


def _first_names(language: str) -> list[str]:
    return [say(language, "part.classes.numbered", number=number) for number in (1, 2)]


def _text(act: dict[str, Any], key: str) -> str:
    value = act.get(key)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and len(value) <= _MAX_TEXT else ""


def _list(act: dict[str, Any], key: str, limit: int) -> list[Any]:
    value = act.get(key)
    return value[:limit] if isinstance(value, list) else []


def _add_class(collection: Collection, act: dict[str, Any], language: str) -> Value:
    taken = {one.name for one in collection.classes()}
    numbers = itertools.count(len(taken) + 1)
    names = (say(language, "part.classes.numbered", number=number) for number in numbers)
    return {"new": collection.add_class(next(name for name in names if name not in taken))}


def _rename(collection: Collection, act: dict[str, Any], language: str) -> Value:
    collection.rename(_text(act, "class"), _text(act, "name"))
    return {}


def _remove_class(collection: Collection, act: dict[str, Any], language: str) -> Value:
    collection.remove_class(_text(act, "class"))
    return {}


def _remove(collection: Collection, act: dict[str, Any], language: str) -> Value:
    collection.remove_picture(_text(act, "class"), _text(act, "picture"))
    return {}


def _add(collection: Collection, act: dict[str, Any], language: str) -> Value:
    """`files` are pairs of the script's own key and the uploaded path; the answer gives each key its picture's id."""
    pairs = [pair for pair in _list(act, "files", _MAX_FILES) if isinstance(pair, list) and len(pair) == 2]
    found = [(str(key), file) for key, path in pairs if (file := uploaded(path)) is not None]
    ids = collection.add_pictures(_text(act, "class"), [file for _, file in found])
    return {"added": {key: picture for (key, _), picture in zip(found, ids, strict=True)}}


def _thumbs(collection: Collection, act: dict[str, Any], language: str) -> Value:
    wanted = [picture for picture in _list(act, "pictures", _MAX_THUMBS) if isinstance(picture, str)]
    found = collection.thumbnails(wanted)
    return {"thumbs": {picture: _thumb(found.get(picture, ""), language) for picture in wanted}}


def _thumb(shown: bytes | str, language: str) -> dict[str, str]:
    if isinstance(shown, bytes):
        return {"src": f"data:image/jpeg;base64,{base64.b64encode(shown).decode()}"}
    return {"why": say(language, f"skip.{shown}") if shown else ""}


_ACTS: dict[str, Callable[[Collection, dict[str, Any], str], Value]] = {
    "add_class": _add_class,
    "rename": _rename,
    "remove_class": _remove_class,
    "remove": _remove,
    "add": _add,
    "thumbs": _thumbs,
}
