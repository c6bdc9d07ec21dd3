"""What a part is made of: a `gr.HTML` with a script and a style of our own beside it, and acts to hear of.

They are functions that return a `gr.HTML`, not subclasses: Gradio writes a `.pyi` file beside every subclass.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from tl_ui.words import LANGUAGES, LOCALES, table

_HERE = Path(__file__).parent


def source(*names: str) -> str:
    """The files `names` of this folder as one text: a part's scripts or styles."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


def browser_words(prefix: str) -> dict[str, dict[str, str]]:
    """By the name that `navigator.language` has on our page, the words whose keys start with `prefix`, without it."""
    return {
        LOCALES[language]: {k.removeprefix(prefix): text for k, text in table(language).items() if k.startswith(prefix)}
        for language in LANGUAGES
    }


def part(elem_id: str, file: str, kind: str, scripts: Sequence[str], words: str, **props: Any) -> gr.HTML:
    """An empty element of the class `tl-<kind>` that the scripts fill, at last `<file>.js`, styled by `<file>.css`.
    They know the words whose keys start with `words`, and `props`."""
    return gr.HTML(
        elem_id=elem_id,
        html_template=f'<div class="tl-part tl-{kind}"></div>',
        apply_default_css=False,
        css_template=source("buttons.css", f"{file}.css"),
        js_on_load=source("words.js", *scripts, f"{file}.js"),
        words=browser_words(words),
        **props,
    )


def on_act(part: gr.HTML, fn: Any, inputs: Any = None, outputs: Any = None, **options: Any) -> Dependency:
    """Let `fn` handle the part's acts; it takes a `gr.EventData` beside its inputs and reads it with `read`.

    A part sends one act at a time and waits until its handler has ended, in whatever way; call this once a part.
    """
    handled: Dependency = part.act(fn, inputs, outputs, **{"trigger_mode": "multiple"} | options)
    over = f"() => document.querySelector('#{part.elem_id} .tl-part')?.dispatchEvent(new Event('tl-handled'))"
    for ended in (handled.then, handled.failure):  # with 6.31, `then` comes after success only
        ended(None, None, None, js=over, api_visibility="private", show_progress="hidden")
    return handled
