"""What happens while it trains, in plain words and on the person's own pictures: why some are kept aside, what the
network is shown, and how one picture becomes many. Nobody has to read it."""

from collections.abc import Sequence
from html import escape as esc

import numpy as np

from tl_core.data.imageset import RGB, ImageSet
from tl_core.data.pixels import PixelStore
from tl_core.data.split import split
from tl_core.models.catalogue import find
from tl_core.training.framing import preview
from tl_core.training.plan import Plan
from tl_ui.thumbnails import jpeg, strip
from tl_ui.words import say

_TAUGHT, _KEPT, _VIEWS = 5, 2, 6  # pictures shown
_SIDE = 72


def lessons(images: ImageSet, plan: Plan, language: str) -> str:
    """The lessons of a run by `plan` on `images` as HTML. For a thread of its own: it reads pictures and uses torch."""
    told = [_split(images, plan, language), _shown(images, plan, language)]
    if plan.recipe is not None:
        told.append(_views(images, plan, language))
    items = "".join(f"<li>{one}</li>" for one in told)
    summary = esc(say(language, "lessons.title"))
    return f'<details id="lessons-more"><summary>{summary}</summary><ol class="tl-lessons">{items}</ol></details>'


def _split(images: ImageSet, plan: Plan, language: str) -> str:
    """Which pictures teach and which examine."""
    parts, store = split(images, seed=plan.seed), PixelStore(images)
    taught, kept = (
        [store[i] for i in _spread(side, most)] for side, most in ((parts.train, _TAUGHT), (parts.test, _KEPT))
    )
    figures = (
        f"<div class='tl-sides'>{_figure(taught, say(language, 'lessons.taught', count=len(parts.train)))}"
        f"{_figure(kept, say(language, 'lessons.kept', count=len(parts.test)))}</div>"
    )
    return _told("split", language) + figures


def _shown(images: ImageSet, plan: Plan, language: str) -> str:
    """One picture as it is, and as the network gets it."""
    row, picture = find(plan.backbone), PixelStore(images)[len(images.pictures) // 2]
    seen = preview(picture, row.preprocessing)
    size = row.preprocessing.size
    figures = (
        f"<div class='tl-sides'>{_figure([picture], say(language, 'lessons.yours'), whole=True)}"
        f"{_figure([seen], say(language, 'lessons.seen', size=size), whole=True)}</div>"
    )
    return _told("backbone", language) + figures


def _views(images: ImageSet, plan: Plan, language: str) -> str:
    """Views of one picture as training makes them."""
    import torch

    from tl_core.training.augment import Augmentation, Views

    assert plan.recipe is not None
    at, store, size = len(images.pictures) // 2, PixelStore(images), plan.recipe.image_size
    frame = store.framed([at], find(plan.backbone).preprocessing)
    how, found = Augmentation(flip=plan.recipe.flip), []
    for epoch in range(_VIEWS):
        view = Views.draw(at + 1, how, seed=plan.seed, epoch=epoch).of(frame, np.array([at]), size)
        found.append(view[0].permute(1, 2, 0).round().to(torch.uint8).numpy())
    return _told("views", language) + _figure(found, say(language, "lessons.rounds", count=_VIEWS))


def _told(name: str, language: str) -> str:
    return f"<h3>{esc(say(language, f'lessons.{name}'))}</h3><p>{esc(say(language, f'lessons.{name}_told'))}</p>"


def _figure(pictures: Sequence[RGB], caption: str, *, whole: bool = False) -> str:
    url = jpeg(pictures[0]) if whole else strip(pictures, _SIDE)
    return f'<figure><img alt="" src="{url}"><figcaption>{esc(caption)}</figcaption></figure>'


def _spread(side: Sequence[int], most: int) -> list[int]:
    """At most so many of them, from all over."""
    return [side[at * len(side) // min(most, len(side))] for at in range(min(most, len(side)))]
