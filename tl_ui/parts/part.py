"""What a part is made of: a `gr.HTML` with a script and a style of our own beside it, and acts to hear of.

They are functions that return a `gr.HTML`, not subclasses: Gradio writes a `.pyi` file beside every subclass.
"""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from tl_ui.words import DEFAULT, LANGUAGES, LOCALES, table

_HERE = Path(__file__).parent


def source(*names: str) -> str:
    """The files `names` of this folder as one text: a part's scripts or styles."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


def browser_words(prefix: str) -> dict[str, dict[str, str]]:
    """For each of the browser's names of a language, the words whose keys start with `prefix`, without it.

    A script picks by `navigator.language`, exactly as Gradio picks the fixed labels, so both are in one language.
    """
    return {
        locale: {key.removeprefix(prefix): text for key, text in table(language).items() if key.startswith(prefix)}
        for language in (DEFAULT, *LANGUAGES)
        for locale in LOCALES[language]
    }


def on_act(part: gr.HTML, fn: Any, inputs: Any = None, outputs: Any = None, **options: Any) -> Dependency:
    """Let `fn` handle the part's acts; it takes a `gr.EventData` beside its inputs and reads it with `read`.

    A part sends one act at a time and waits until its handler has ended, in whatever way; call this once a part.
    """
    handled: Dependency = part.act(fn, inputs, outputs, **{"trigger_mode": "multiple"} | options)
    over = f"() => document.querySelector('#{part.elem_id} .tl-part')?.dispatchEvent(new Event('tl-handled'))"
    for ended in (handled.then, handled.failure):  # with 6.31, `then` comes after success only
        ended(None, None, None, js=over, api_visibility="private", show_progress="hidden")
    return handled
