"""Every word of the page, by key and language: `en.json` here, plus the sentences the core brings along.

`t(key)` is for fixed labels (the browser picks the language), `say(language, key, ...)` for sentences with values.
"""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tl_core import errors, wording

if TYPE_CHECKING:
    import gradio as gr

LANGUAGES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.json")))
DEFAULT = "en"


@cache
def table(language: str) -> dict[str, str]:
    """All words of one language; where it has none, English."""
    words: dict[str, str] = json.loads((Path(__file__).parent / f"{language}.json").read_text(encoding="utf-8"))
    return (core_words() if language == DEFAULT else table(DEFAULT)) | words


@cache
def core_words() -> dict[str, str]:
    """The core's English sentences under the page's keys."""
    sentences = {f"error.{kind.code}": kind.sentence for kind in _error_kinds(errors.TLError)}
    for prefix, words in (("skip", wording.SKIP_REASONS), ("remark", wording.REMARKS), ("stage", wording.STAGES)):
        sentences |= {f"{prefix}.{code}": text for code, text in words.items()}
    return sentences


def _error_kinds(kind: type[errors.TLError]) -> list[type[errors.TLError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in _error_kinds(below))]


def say(language: str, key: str, **values: object) -> str:
    """The sentence `key` in `language`, filled in."""
    return table(language)[key].format(**values)


def error_sentence(language: str, error: errors.TLError) -> str:
    """What a person should read of `error`."""
    return say(language, f"error.{error.code}", **error.values)


def language_of(request: "gr.Request | None") -> str:
    """The first language of the visitor's browser that the page speaks."""
    wanted = request.headers.get("accept-language", "") if request is not None else ""
    for choice in wanted.split(","):
        language = choice.split(";")[0].strip().split("-")[0].lower()
        if language in LANGUAGES:
            return language
    return DEFAULT
