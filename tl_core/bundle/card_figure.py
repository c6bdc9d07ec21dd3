"""The figure of a model card: which classes are taken for which, readable on a phone and by the colour-blind.

390 points wide, as a phone shows it, at two pixels a point. Class names are text from strangers: no mathematics is read
in them, and one that the fonts of this machine cannot write is shown by its number in the card's table.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tl_core.bundle.card_facts import Language, Words
from tl_core.bundle.card_scores import confused_pairs
from tl_core.errors import plain
from tl_core.evaluation.metrics import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MATRIX_UP_TO = 30  # classes; above, the pairs that are mixed up most
_COUNTS_UP_TO = 14  # classes with the number of pictures in each cell
_EVERY_UP_TO = 20  # classes with a number under every column
_PAIRS = 15
_WIDTH, _DPI = 3.9, 200  # inches of 100 points each
_NAME = 16  # characters
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Microsoft YaHei", "PingFang SC", "WenQuanYi Micro Hei")
_COLOURS = "Blues"  # one hue from light to dark: read by lightness alone
_BAR, _INK = "#2b6cb0", "#1a202c"


def draw(scored: Evaluation, target: Path, *, language: Language = "en") -> Literal["matrix", "pairs"] | None:
    """Write the figure as a PNG to `target` and say which of the two it is; None, and no file, where many classes were
    never mixed up."""
    from matplotlib import rc_context

    kind: Literal["matrix", "pairs"] = "matrix" if len(scored.class_names) <= MATRIX_UP_TO else "pairs"
    words = Words(language)
    if not _writable(words("figure.answer") + words("figure.truth")):
        words = Words("en")
    with rc_context({"font.family": list(_fonts()), "font.size": 8, "text.color": _INK, "text.parse_math": False}):
        figure = _matrix(scored, words) if kind == "matrix" else _pairs(scored, words)
        if figure is None:
            return None
        figure.savefig(target, dpi=_DPI, facecolor="white", metadata={"Software": None})
    return kind


def _matrix(scored: Evaluation, words: Words) -> "Figure":
    """Rows the true classes, columns the answers; each cell the share of its row."""
    from matplotlib.figure import Figure

    counts = np.array(scored.confusion, dtype=float)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    classes = len(counts)
    figure = Figure(figsize=(_WIDTH, _WIDTH if classes > 4 else _WIDTH * (0.4 + 0.13 * classes)), layout="constrained")
    axes = figure.add_subplot()
    size = 8 if classes <= _COUNTS_UP_TO else 6.5
    axes.imshow(shares, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto")
    labels = [_label(at, name) for at, name in enumerate(scored.class_names)]
    axes.set_yticks(range(classes), labels, fontsize=size)
    some = range(0, classes, 1 if classes <= _EVERY_UP_TO else 2)
    axes.set_xticks(some, [str(at + 1) for at in some], fontsize=size)
    axes.set_ylabel(words("figure.truth"))
    axes.set_xlabel(words("figure.answer"))
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e2e8f0", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
    small = size if classes <= _COUNTS_UP_TO else 5.5
    for row, column in zip(*np.nonzero(counts), strict=True):
        if classes <= _COUNTS_UP_TO or row != column:
            ink = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=small, color=ink)
    return figure


def _pairs(scored: Evaluation, words: Words) -> "Figure | None":
    """The pairs mixed up most, a bar each with its names above it."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    pairs = confused_pairs(scored, _PAIRS)
    if not pairs:
        return None
    figure = Figure(figsize=(_WIDTH, 0.7 + 0.36 * len(pairs)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(pairs))[::-1]
    axes.barh(places, [count for *_, count in pairs], height=0.35, color=_BAR)
    for place, (truth, answer, count) in zip(places, pairs, strict=True):
        names = [_label(at, scored.class_names[at]) for at in (truth, answer)]
        axes.text(0, place + 0.24, f" {names[0]} → {names[1]}: {count}", va="bottom", ha="left", fontsize=7.5)
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(pairs) - 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(words("figure.count"))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def _label(at: int, name: str) -> str:
    """A class by number and name, or by its number alone where the name cannot be written."""
    shown = plain(name, _NAME)
    return f"{at + 1}  {shown}" if shown and _writable(shown) else f"{at + 1}"


@cache
def _fonts() -> tuple[str, ...]:
    """The fonts of this machine, among those known, that are tried for each letter in turn."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in _FONTS if name in there) or ("DejaVu Sans",)  # which comes with matplotlib


@cache
def _glyphs() -> frozenset[int]:
    """The characters that those fonts can write."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    def letters(name: str) -> Any:
        return FT2Font(font_manager.findfont(font_manager.FontProperties(family=[name]))).get_charmap()

    return frozenset(code for name in _fonts() for code in letters(name))


def _writable(text: str) -> bool:
    """Whether every character has a glyph, and all run from left to right without joining, which nothing here sets."""
    return all(ord(c) in _glyphs() and not 0x0590 <= ord(c) <= 0x1CFF for c in text)
