"""What a model card is made from. Bundles come from strangers too, so numbers in them are looked at before use."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from tl_core.data.pixels import Preprocessing
from tl_core.errors import plain
from tl_core.evaluation.metrics import Evaluation
from tl_core.filling import fill
from tl_core.models.catalogue import Backbone

Language = Literal["en", "zh"]


class Strangeness(Protocol):
    """From which score on a picture is like nothing that was taught, and how often that was said wrongly."""

    @property
    def threshold(self) -> float: ...
    @property
    def false_alarm(self) -> float | None: ...


class Promise(Protocol):
    """How often one of the classes that are called likely was right, and how many those were on average."""

    @property
    def coverage(self) -> float | None: ...
    @property
    def size(self) -> float | None: ...


class Described(Protocol):
    """A bundle's description (`BundleInfo`), as far as a card needs it."""

    @property
    def backbone(self) -> Backbone: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def evaluation(self) -> Evaluation: ...
    @property
    def training(self) -> dict[str, Any]: ...
    @property
    def created(self) -> str: ...
    @property
    def unknown(self) -> Strangeness | None: ...
    @property
    def likely(self) -> Promise | None: ...
    @property
    def crossed(self) -> Evaluation | None: ...


@dataclass(frozen=True)
class CardFacts:
    """A model as its bundle knows it: `head` is the kind of its head, `versions` those of the packages it was made
    with, by name. What an older bundle does not say is left out of its card."""

    info: Described
    head: str = "linear"
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def expressible(self) -> bool:
        """Whether timm has the whole classifier, so that timm and transformers load it."""
        return self.info.backbone.library == "timm" and self.head == "linear"

    def count(self, key: str) -> int | None:
        """A whole number of the training record, if there is one."""
        return whole(self.info.training.get(key))

    def said(self, key: str, among: tuple[str, ...]) -> str:
        """A word of the training record, if it is one of those `among`; else ""."""
        found = self.info.training.get(key)
        return found if isinstance(found, str) and found in among else ""

    def flag(self, key: str) -> bool | None:
        found = self.info.training.get(key)
        return found if isinstance(found, bool) else None

    def taught(self) -> tuple[int | None, ...]:
        """Training pictures of each class, None where it is not known."""
        found = self.info.training.get("pictures_per_class")
        counts = found.get("train") if isinstance(found, dict) else None
        names = self.info.class_names
        if not isinstance(counts, list | tuple) or len(counts) != len(names):
            return (None,) * len(names)
        return tuple(whole(count) for count in counts)


@dataclass(frozen=True)
class Example:
    """A picture that is published with the model: its `file` in the repository, and what the model says of it."""

    file: str
    answers: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Checked:
    """How `model.onnx` answers on so many pictures: how many get the same class as here, and the largest difference of
    any probability. `yours` says whether they were the person's own."""

    compared: int
    agree: int
    largest: float
    yours: bool = True


@dataclass(frozen=True)
class Publication:
    """What only the published card can say. `repo_id` is "user/name"; `licence` the Hub's name of the licence chosen,
    "" for none; `data_note` and `notes` are the person's own words; `files` those beside the bundle's own."""

    repo_id: str = ""
    licence: str = ""
    data_note: str = ""
    notes: str = ""
    files: frozenset[str] = frozenset()
    figure: str = ""  # the file, and
    figure_kind: Literal["matrix", "pairs"] = "matrix"
    checked: Checked | None = None
    examples: tuple[Example, ...] = ()


def whole(value: object) -> int | None:
    """`value` where it is a whole number that can count something."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None


def share(value: object) -> float | None:
    """`value` where it is a number from 0 to 1."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1
    return float(value) if good else None  # type: ignore[arg-type]


def percent(value: float) -> str:
    return f"{value:.1%}"


def version_list(versions: Mapping[str, str]) -> str:
    """Names and numbers, "torch 2.11.0, timm 1.0.22"; nothing else gets through."""
    known = {plain(name, 30): plain(number, 30) for name, number in list(versions.items())[:20]}
    return ", ".join(
        f"{name} {number}"
        for name, number in known.items()
        if name.isalnum() and number.replace(".", "").replace("+", "").isalnum() and number.isascii()
    )


class Words:
    """The fixed sentences of one language."""

    def __init__(self, language: Language) -> None:
        self.table = _table(language)

    def __call__(self, key: str, **values: object) -> str:
        return fill(self.table[key], **values) if values else self.table[key]

    def sentences(self, *said: str) -> str:
        """Sentences after each other, as the language sets them; empty ones are none."""
        return self.table["join.sentences"].join(filter(None, said))

    def __contains__(self, key: str) -> bool:
        return key in self.table


@cache
def _table(language: Language) -> dict[str, str]:
    found: dict[str, str] = json.loads((Path(__file__).parent / "card_words" / f"{language}.json").read_text("utf-8"))
    return found
