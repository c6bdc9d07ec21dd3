"""Text from strangers as literal Markdown, and tables of it."""

import re
from collections.abc import Iterable, Sequence

from tl_core.errors import plain

_MARKS = "&<>|`[](){}*_#!~$\\:"
_JOINER = "\u2060"  # invisible and without width
# What GitHub's and the Hub's Markdown make a link of without any mark, also after entities are read.
_LINKS = re.compile(r"(?<=://)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)


def markdown_text(text: str, limit: int = 200) -> str:
    """`text` from a stranger as literal Markdown, at most `limit` characters of it: nothing in it becomes a tag, a
    link, an image or a table cell."""
    line = _LINKS.sub(_JOINER, plain(text, limit))
    return "".join(f"&#{ord(c)};" if c in _MARKS else c for c in line)


def markdown_paragraphs(text: str, limit: int = 2_000) -> str:
    """Some lines of `text` from a stranger as quoted paragraphs, so that nobody takes them for ours; "" for none."""
    lines = [line for line in text[:limit].splitlines() if plain(line)]
    return "\n>\n".join(f"> \u200b{markdown_text(line, limit)}" for line in lines)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
