"""The line at the top of the page: what it is, and the languages it speaks."""

from html import escape as esc

import gradio as gr

from tl_ui.language import SWITCH, names
from tl_ui.words import LOCALES

# Layers, each smaller than the one below, and what they were lent for: transfer.
_MARK = (
    '<svg viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">'
    '<rect x="2" y="20" width="28" height="9" rx="3" class="deep"/>'
    '<rect x="6" y="11" width="20" height="7" rx="3" class="middle"/>'
    '<circle cx="16" cy="5.5" r="3.5" class="top"/></svg>'
)


def top_bar(title: str) -> gr.HTML:
    """The bar; a click on a language's name puts the page into it, also next time."""
    choices = "".join(
        f'<button type="button" data-language="{code}" lang="{LOCALES[code]}">{esc(name)}</button>'
        for code, name in names().items()
    )
    return gr.HTML(
        elem_id="top-bar",
        html_template=f'<header class="tl-top"><h1>{_MARK}{esc(title)}</h1><nav>{choices}</nav></header>',
        apply_default_css=False,
        js_on_load=f"""
          const choose = {SWITCH};
          for (const button of element.querySelectorAll('[data-language]')) {{
            const now = button.lang === document.documentElement.lang;
            button.setAttribute('aria-pressed', String(now));
            button.addEventListener('click', () => now || choose(button.dataset.language));
          }}
        """,
    )
