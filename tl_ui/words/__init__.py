"""Every word of the page, by key and language: `en.json` here, plus the sentences the core brings along.

`t(key)` is for fixed labels (the browser picks the language), `say(language, key, ...)` for sentences with values.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tl_core import (
    dataset_errors,  # noqa: F401  # their kinds are among those below
    errors,
    hub_errors,  # noqa: F401
    queue_errors,  # noqa: F401
    wording,
)
from tl_core.filling import fill

if TYPE_CHECKING:
    import gradio as gr

LANGUAGES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.json")))
DEFAULT = "en"
_COOKIE = re.compile(r"(?:^|;)\s*tl_language=([a-z]+)")
COOKIE = "tl_language"  # in which the page tells the server what it is shown in
# The name that Gradio's own translation matches, exactly; the page gives it no other (tl_ui.language).
LOCALES = {language: "zh-CN" if language == "zh" else language for language in LANGUAGES}


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
    return fill(table(language)[key], **values)


def duration(language: str, seconds: float) -> str:
    """Seconds as people say them in `language`."""
    text = wording.duration(seconds)
    return " ".join(part if part.isdecimal() else say(language, f"unit.{part}") for part in text.split())


def error_sentence(language: str, error: errors.TLError) -> str:
    """What a person should read of `error`."""
    return say(language, f"error.{error.code}", **error.values)


def language_of(request: "gr.Request | None") -> str:
    """The language of the page that asks, else the first one known of those that the browser or program asks for."""
    headers: Mapping[str, str] = {} if request is None else request.headers
    told = _COOKIE.search(headers.get("cookie", ""))
    wanted = [told[1]] if told else headers.get("accept-language", "").split(",")
    asked = (name.split(";")[0].strip().lower().split("-")[0] for name in wanted)
    return next((name for name in asked if name in LANGUAGES), DEFAULT)
