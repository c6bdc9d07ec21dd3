"""Pure: the model's answer about one picture as escaped HTML, said as one would say it to a friend."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as esc
from typing import TYPE_CHECKING

from PIL import Image

from tl_core.data.imageset import RGB
from tl_ui.words import say

if TYPE_CHECKING:  # the page starts without torch
    from tl_core.bundle.predictor import Prediction

_LONGEST = 480  # pixels of a picture as it is shown
_NAMED = 6  # classes that a sentence lists


@dataclass(frozen=True)
class Like:
    """A training picture like the one tried: its data URL and its class."""

    url: str
    label: str


def picture_url(pixels: RGB) -> str:
    """(H, W, 3) as the data URL of a JPEG that is large enough to look at."""
    image = Image.fromarray(pixels)
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BILINEAR, reducing_gap=2.0)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def answer(found: "Prediction", strange: bool, language: str) -> str:
    """The answer in big words, the classes of which one is right 95 times out of 100, and bars of the likeliest.

    A strange picture is called that first of all, and the figures, which say nothing then, are under a fold.
    """
    if strange:
        return (
            f'<section id="one-answer"><p id="one-strange" class="tl-strange">{esc(say(language, "use.strange"))}</p>'
            f"<details><summary>{esc(say(language, 'use.strange_names'))}</summary>{_bars(found)}</details></section>"
        )
    sentence = _likely(found, language)
    likely = f"<p>{esc(sentence)}</p>" if sentence else ""
    return (
        f'<section id="one-answer" aria-label="{esc(say(language, "use.answer"))}">'
        f'<p class="tl-headline">{esc(_sure(found, language))}</p>{likely}{_bars(found)}</section>'
    )


def spoken(found: "Prediction", strange: bool, live: bool, language: str) -> str:
    """What is read out: the whole answer, or while it changes all the time only the class."""
    if strange:
        return say(language, "use.strange")
    if live:
        return found.label
    return " ".join(part for part in (_sure(found, language), _likely(found, language)) if part)


def pictures(picture: str, why: str, label: str, language: str) -> str:
    """The picture that was tried and, once it is known, what the model looked at in it; both are data URLs."""
    name = esc(say(language, "use.picture"))
    figures = f'<figure id="one-picture"><img alt="" src="{esc(picture)}"><figcaption>{name}</figcaption></figure>'
    if why:
        alt, caption = esc(say(language, "use.why_alt", name=label)), esc(say(language, "use.why"))
        figures += f'<figure id="one-why"><img alt="{alt}" src="{esc(why)}"><figcaption>{caption}</figcaption></figure>'
    return figures


def likes(found: Sequence[Like], language: str) -> str:
    """The training pictures that are most like the one tried, most alike first."""
    if not found:
        return ""
    items = "".join(
        f'<li><figure><img alt="" src="{esc(like.url)}"><figcaption>{esc(like.label)}</figcaption></figure></li>'
        for like in found
    )
    return f'<p>{esc(say(language, "use.likes"))}</p><ul class="tl-likes" id="one-likes">{items}</ul>'


def alarms(percent: int, tested: tuple[int, int] | None, language: str) -> str:
    """What a place of the slider means, and where it was tested, what it came to: so many called unknown of how many
    test pictures."""
    meant = say(language, "use.alarms_meant", percent=percent)
    came_to = "" if tested is None else say(language, "use.alarms_tested", count=tested[0], total=tested[1])
    return f'<p id="one-alarms-told" role="status">{esc(meant)}<br>{esc(came_to)}</p>'


def no_alarms(language: str) -> str:
    """The sentence instead, for a model with which nothing can be measured."""
    return f'<p class="tl-quiet">{esc(say(language, "use.alarms_none"))}</p>'


def _sure(found: "Prediction", language: str) -> str:
    percent = round(100 * found.confidence)
    if percent > 99:  # nothing is certain
        return say(language, "use.very_sure", name=found.label)
    return say(language, "use.sure", name=found.label, percent=percent)


def _likely(found: "Prediction", language: str) -> str:
    """Nothing for one name, which the answer says already, nor for both of two classes, which everybody knows."""
    names = found.likely
    if len(names) < 2 or len(found.ranking) == 2:
        return ""
    if len(names) == 2:
        return say(language, "use.likely_two", first=names[0], second=names[1])
    listed = say(language, "use.comma").join(names[:_NAMED])
    return say(language, "use.likely_more", count=len(names), names=listed + ("…" if len(names) > _NAMED else ""))


def _bars(found: "Prediction") -> str:
    rows = "".join(
        f'<li><span class="tl-name">{esc(name)}</span>'
        f'<span class="tl-bar"><i style="width:{100 * share:.1f}%"></i></span>'
        f'<span class="tl-count">{"&lt; 1" if share < 0.005 else round(100 * share)} %</span></li>'
        for name, share in found.ranking
    )
    return f'<ul class="tl-classes">{rows}</ul>'
