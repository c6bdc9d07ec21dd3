"""What a visitor meets first: what this is for, a finished model to play with, and examples to train with one click."""

import base64
from html import escape as esc
from typing import Any

import gradio as gr

from tl_core.data.imageset import RGB
from tl_ui import figures
from tl_ui.handlers import PRIVATE, speaks
from tl_ui.language import everywhere
from tl_ui.living_example import EXAMPLES, LivingExample
from tl_ui.parts import draw_digit
from tl_ui.words import language_of, say
from tl_ui.workspace import Workspace

NAMES = ("shapes", "textures", "digits")
TAKE = "example"  # the act of a card
_SAID = 3  # answers shown
_TO_SOURCES = """() => {
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  const there = document.querySelector('#sources');
  there?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth' });
  there?.querySelector('[role=tab][aria-selected=true]')?.focus({ preventScroll: true });
}"""
_ASKED: dict[str, Any] = {**PRIVATE, "concurrency_limit": 8}


class Opening:
    """Draws the welcome; `box` is hidden once there are pictures."""

    def __init__(self, work: Workspace, t: gr.I18n) -> None:
        self._work, self.example = work, LivingExample(work)
        with gr.Column(elem_id="opening") as self.box, gr.Row(elem_classes=["tl-hero"]):
            with gr.Column(scale=6, min_width=300):
                gr.HTML(
                    f"<h2>{everywhere('opening.title')}</h2><p>{everywhere('opening.lead')}</p>",
                    elem_classes=["tl-welcome"],
                )
                with gr.Row(elem_classes=["tl-ways"]):
                    mine = gr.Button(t("opening.mine"), variant="primary", elem_id="mine")
                    self.first = gr.Button(t("opening.first"), elem_id="example-first")
                gr.Markdown(t("opening.private"), elem_classes=["tl-quiet"])
            with gr.Column(scale=5, min_width=300, elem_classes=["tl-alive"]):
                gr.HTML(f"<h2>{everywhere('opening.alive')}</h2>")
                pad = draw_digit.draw_digit("draw")
        mine.click(None, None, None, js=_TO_SOURCES)
        draw_digit.on_act(pad, self.answer, None, pad, **_ASKED)

    @speaks
    def answer(self, request: gr.Request, event: gr.EventData) -> Any:
        """What the finished model says to a drawing."""
        pixels = draw_digit.read(event)
        return gr.skip() if pixels is None else draw_digit.answer(self._answer(pixels, language_of(request)))

    def _answer(self, pixels: RGB, language: str) -> str:
        report = self.example.wait()
        if report is None:
            return figures.hint(say(language, "opening.not_alive"))
        found = self._work.predictor(report.bundle).predict([pixels], top_k=_SAID)[0]
        rows = "".join(_row(label, share) for label, share in found.ranking)
        if found.strange:
            return f'<p>{esc(say(language, "use.strange"))}</p><ul class="tl-classes">{rows}</ul>'
        made = say(
            language,
            "opening.made",
            count=report.training.get("train_pictures", 0),
            seconds=max(1, round(report.seconds)),
            hundred=round(100 * report.shown.accuracy),
        )
        return (
            f'<p class="tl-said-digit">{esc(found.label)}</p><ul class="tl-classes">{rows}</ul>'
            f'<p class="tl-quiet">{esc(made)}</p>'
        )


def _row(label: str, share: float) -> str:
    return (
        f'<li><span class="tl-name">{esc(label)}</span><span class="tl-bar"><i style="width:{share:.0%}"></i></span>'
        f'<span class="tl-count">{100 * share:.0f} %</span></li>'
    )


def gallery(*, usable: bool = True) -> str:
    """The examples as cards whose buttons do the act `example`; not `usable` while one is being read."""
    off = "" if usable else " disabled"
    cards = "".join(
        f'<li data-key="{name}"><img alt="" width="384" height="96" src="{_STRIPS[name]}">'
        f"<h3>{everywhere(f'data.example.{name}')}</h3><p>{everywhere(f'data.example.{name}_told')}</p>"
        f'<button type="button" id="example-{name}" data-act="{TAKE}" data-name="{name}"{off}>'
        f"{everywhere('data.example.try')}</button></li>"
        for name in NAMES
    )
    return f'<ul class="tl-examples">{cards}</ul>'


def _strip(name: str) -> str:
    """The strip of pictures that `examples.make_data` made of an example, as a data URL."""
    data = (EXAMPLES / f"{name}.jpg").read_bytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


_STRIPS = {name: _strip(name) for name in NAMES}
