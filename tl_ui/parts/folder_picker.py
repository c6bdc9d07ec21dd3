"""A button for class folders, also dropped ones: what an ordinary file field loses, the folders' names, is kept.

The script (folder_picker.js) leaves out what computers make by themselves (.DS_Store), uploads the rest in batches and
fires one event, `picked`. Its list of files travels as an uploaded file of its own, one `["path", "folder/name"]` a
line, because for many files it is larger than the page accepts as an event.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from tl_core.errors import TooLargeError
from tl_core.settings import Settings
from tl_ui.parts.part import browser_words, source
from tl_ui.parts.uploads import uploaded

_MAX_LINE = 16_384  # two paths of 4,096 characters, escaped
_MAX_REL = 4_096

_TEMPLATE = """
<div class="tl-part tl-picker">
  <p class="tl-how"></p>
  <button type="button" class="tl-folder"></button> <button type="button" class="tl-pictures" hidden></button>
  <input type="file" class="tl-folder-input" webkitdirectory multiple tabindex="-1" aria-hidden="true">
  <input type="file" class="tl-pictures-input" accept="image/*" multiple tabindex="-1" aria-hidden="true">
  <p class="tl-status" role="status" aria-live="polite"></p>
  <progress hidden></progress> <button type="button" class="tl-cancel" hidden></button>
</div>
"""


def folder_picker(elem_id: str, settings: Settings) -> gr.HTML:
    """The part; `.picked(handler, ...)` hears of each finished upload, the handler reads its event with `picked`."""
    return gr.HTML(
        elem_id=elem_id,
        html_template=_TEMPLATE,
        apply_default_css=False,
        css_template=source("buttons.css", "folder_picker.css"),
        js_on_load=source("words.js", "uploads.js", "folder_picker.js"),
        words=browser_words("part.folder."),
        limits={"files": settings.max_entries, "bytes": settings.max_upload},
    )


def picked(value: object, settings: Settings) -> tuple[tuple[str, Path], ...]:
    """The uploaded files as (path in the chosen folders, file on disk), in the order they were sent.

    `value` is a `gr.EventData` or its dictionary, the client's; entries that are not as they should be are left out.
    Raises TooLargeError when there are more than the settings allow.
    """
    record = value._data if isinstance(value, gr.EventData) else value
    listed = uploaded(record.get("list")) if isinstance(record, dict) else None
    files = []
    for rel, file in _entries(listed) if listed else ():
        if len(files) == settings.max_entries:
            limit = f"{settings.max_entries:,}"
            raise TooLargeError(name=rel.split("/")[0], found=f"> {limit}", unit="files", limit=limit)
        files.append((rel, file))
    return tuple(files)


def _entries(listed: Path) -> Iterator[tuple[str, Path]]:
    with listed.open("rb") as lines:
        while line := lines.readline(_MAX_LINE):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            path, rel = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
            if isinstance(rel, str) and 0 < len(rel) <= _MAX_REL and (file := uploaded(path)) is not None:
                yield rel.encode("utf-8", "replace").decode(), file
