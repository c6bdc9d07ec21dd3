"""Every word of the page, by key and language: `en.json` here, plus the sentences the core brings along.

`t(key)` is for fixed labels (the browser picks the language), `say(language, key, ...)` for sentences with values.
"""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tl_core import (
    dataset_errors,  # noqa: F401  # their kinds are among those below
    errors,
    hub_errors,  # noqa: F401
    wording,
)

if TYPE_CHECKING:
    import gradio as gr

LANGUAGES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.json")))
DEFAULT = "en"
# The browsers' names that Gradio's own translation matches, exactly; any other name gets English there, so here too.
LOCALES = {language: ("zh-CN", "zh-TW") if language == "zh" else (language,) for language in LANGUAGES}


@cache
def table(language: str) -> dict[str, str]:
    """All words of one language; where it has none, English."""
    words: dict[str, str] = json.loads((Path(__file__).parent / f"{language}.json").read_text(encoding="utf-8"))
    return (core_words() if language == DEFAULT else table(DEFAULT)) | words


@cache
def core_words() -> dict[str, str]:
    """The core's English sentences under the page's keys."""
    sentences = {f"error.{kind.code}": kind.sentence for kind in _error_kinds(errors.TLError)}
    tables = {
        "skip": wording.SKIP_REASONS,
        "finding": wording.FINDINGS,
        "fix": wording.FIXES,
        "edit": wording.EDITS,
        "trait": wording.TRAITS,
        "way": wording.WAYS,
        "export_problem": wording.EXPORT_PROBLEMS,
        "stage": wording.STAGES,
        "notice": wording.NOTICES,
        "reason": wording.REASONS,
    }
    for prefix, words in tables.items():
        sentences |= {f"{prefix}.{code}": text for code, text in words.items()}
    return sentences


def _error_kinds(kind: type[errors.TLError]) -> list[type[errors.TLError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in _error_kinds(below))]


def say(language: str, key: str, **values: object) -> str:
    """The sentence `key` in `language`, filled in."""
    return table(language)[key].format(**values)


def duration(language: str, seconds: float) -> str:
    """Seconds as people say them in `language`."""
    text = wording.duration(seconds)
    return " ".join(part if part.isdecimal() else say(language, f"unit.{part}") for part in text.split())


def error_sentence(language: str, error: errors.TLError) -> str:
    """What a person should read of `error`."""
    return say(language, f"error.{error.code}", **error.values)


def language_of(request: "gr.Request | None") -> str:
    """The language the visitor's browser shows the fixed labels in, so that sentences match them."""
    wanted = request.headers.get("accept-language", "") if request is not None else ""
    first = wanted.split(",")[0].split(";")[0].strip().lower()
    return next((language for language, names in LOCALES.items() if first in map(str.lower, names)), DEFAULT)
