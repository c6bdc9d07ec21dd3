"""The card says what is true of a model and nothing else, in both languages; names and notes in it stay text."""

import json
import re
import string
import subprocess
import sys
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image

from tl_core.bundle import card_figure
from tl_core.bundle.card import card
from tl_core.bundle.card_facts import CardFacts, Checked, Example, Language, Publication
from tl_core.bundle.card_scores import FEW
from tl_core.bundle.markdown import markdown_paragraphs, markdown_text
from tl_core.data.pixels import Preprocessing
from tl_core.evaluation.conformal import Likely
from tl_core.evaluation.metrics import Evaluation, evaluate
from tl_core.models.catalogue import EMBEDDED, Backbone, find

LANGUAGES: tuple[Language, ...] = ("en", "zh")
WORDS = Path(__file__).parents[1] / "tl_core" / "bundle" / "card_words"
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![](http://127.0.0.1:9/t.png)",
    "<form action=http://evil.example>",
    "<div style=position:fixed>",
    "{{7*7}}",
    "$\\frac{",
    "x" * 10_000,
    "a\n---\nb: c",
    "a | b `c` ~~d~~",
    "http://evil.example/x",
    "www.evil.example",
    "someone@evil.example",
    "<https://evil.example>",
    "猫 &amp; 狗",
    "\u202egnp.exe",
)


@dataclass(frozen=True)
class Strange:
    threshold: float
    false_alarm: float | None


@dataclass(frozen=True)
class Info:
    """A description as bundles have it."""

    backbone: Backbone
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    evaluation: Evaluation
    training: dict[str, Any]
    created: str = "2026-11-25T07:54:42+00:00"
    unknown: Strange | None = None
    likely: Likely | None = None
    crossed: Evaluation | None = None


TRAINING = {
    "train_pictures": 90,
    "pictures_per_class": {"train": [60, 20, 10], "test": [12, 6, 2]},
    "official_split": False,
    "moved_copies": 0,
    "copies": 7,
    "skipped": 2,
    "stopped": False,
    "seed": 5,
    "strategy": "frozen",
    "head": "linear",
    "effort": "quick",
    "balance": True,
}


def scored(names: tuple[str, ...], counts: tuple[int, ...] | None = None, *, wrong: float = 0.3) -> Evaluation:
    """Scores of a model that is wrong about so many pictures."""
    rng, classes = np.random.default_rng(3), len(names)
    labels = np.repeat(np.arange(classes), counts or (6,) * classes)
    said = np.where(rng.random(len(labels)) < wrong, (labels + 1) % classes, labels)
    chances = np.full((len(labels), classes), 0.1 / classes, dtype=np.float32)
    chances[np.arange(len(labels)), said] += 0.9
    places = range(len(labels))
    return evaluate(chances, labels.tolist(), names, pictures=places, groups=places, uncalibrated=chances)


def facts(names: tuple[str, ...] = ("ants", "bees", "猫"), row: Backbone = EMBEDDED, **changes: Any) -> CardFacts:
    head = changes.pop("head", "linear")
    info = Info(row, names, row.preprocessing, scored(names, (12, 6, 2) if len(names) == 3 else None), dict(TRAINING))
    return CardFacts(replace(info, **changes), head, {"torch": "2.11.0", "timm": "1.0.22"})


def prose(text: str) -> str:
    """The card without its front matter and programs."""
    return re.sub(r"```.*?```", "", body(text), flags=re.DOTALL)


def body(text: str) -> str:
    return text.split("---\n", 2)[2]


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_known_is_said(language: Language) -> None:
    crossed = replace(scored(("ants", "bees", "猫")), accuracy=0.8123)
    known = facts(unknown=Strange(0.557, 0.013), likely=Likely(0.2, 0.946, 1.3), crossed=crossed)
    text = card(known, language=language, publication=Publication("alice/x", "apache-2.0", "my own photos"))
    scores = known.info.evaluation
    by_class = (scores.balanced, scores.macro_f1, *scores.balanced_interval, *scores.macro_f1_interval)
    by_test = (scores.accuracy, *scores.interval, scores.majority, scores.calibration_error)
    for number in (*by_test, *by_class, 0.013, 0.946, 0.8123):
        assert f"{number:.1%}" in text
    for told in ("0.557", "ants", "my own photos", "apache-2.0", EMBEDDED.title, "torch 2.11.0", " 7 ", " 5"):
        assert told in text
    assert "{" not in prose(text) and "None" not in prose(text)


def test_both_languages_are_complete() -> None:
    tables = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in WORDS.glob("*.json")}
    assert set(tables) == set(LANGUAGES)
    fields = {
        language: {
            key: {field for _, field, *_ in string.Formatter().parse(text) if field} for key, text in words.items()
        }
        for language, words in tables.items()
    }
    assert fields["en"] == fields["zh"]
    assert all(text or key == "join.sentences" for words in tables.values() for key, text in words.items())
    source = "".join(path.read_text(encoding="utf-8") for path in WORDS.parent.glob("card*.py"))
    made = ("scores.", "figure.", "made.", "head.", "kind.", "strategy.", "effort.", "limits.")  # put together there
    unused = [key for key in tables["en"] if key not in source and not key.startswith(made)]
    assert not unused, "words that no card says"


def test_rows_add_up_and_intervals_hold_their_shares() -> None:
    known = facts()
    rows = [line.split("|")[1:-1] for line in card(known).splitlines() if line.startswith("| ") and "–" in line]
    assert [int(row[2]) for row in rows] == [60, 20, 10]
    assert sum(int(row[3]) for row in rows) == known.info.evaluation.tested
    for row in rows:
        for cell in row[4:]:
            share, low, high = (
                float(part) for part in cell.replace("(", " ").replace(")", " ").replace("–", " ").split()
            )
            assert low <= share <= high and high - low > 0.1, "few pictures tell little"


def test_a_class_that_was_never_named_or_never_tested_has_no_figure() -> None:
    names = ("a", "b", "c")
    text = card(facts(names, evaluation=scored(names, (20, 20, 0), wrong=0)))
    row = next(line for line in text.splitlines() if line.startswith("| 3 |"))
    assert row.count(" – ") == 2
    assert "There were no test pictures of these classes" in text and f"fewer than {FEW}" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_older_bundles_do_not_say_is_left_out(language: Language) -> None:
    names = ("a", "b")
    older = replace(scored(names), calibration_error=None, calibration_error_before=None)
    text = card(CardFacts(Info(EMBEDDED, names, EMBEDDED.preprocessing, older, {}, created="")), language=language)
    full = card(facts(names), language=language)
    assert len(text) < len(full) and "None" not in prose(text)
    for key in ("scores.train", "made.seed", "made.split_unseeded", "made.effort", "made.created", "made.versions"):
        said = json.loads((WORDS / f"{language}.json").read_text(encoding="utf-8"))[key]
        assert f"| {said} |" not in text and f"{said} " not in text.replace("##", "")


@pytest.mark.parametrize(
    "value",
    [7, -1, "x", "<b>", None, [], {}, True, 1.5, float("nan"), 10**400, {"train": ["<b>", -1, True]}, ["a"] * 3],
)
def test_case_66_a_senseless_training_record_is_not_repeated(value: Any) -> None:
    training = {key: value for key in TRAINING} | {"share": value, "epochs": value, "strategy": value}
    text = card(facts(training=training))
    assert "<b>" not in text and not re.search(r"\bnan\b|None", prose(text))


def test_front_matter_claims_what_is_true() -> None:
    row = find("dinov2_small")
    data = ModelCard(card(facts(row=row), publication=Publication("alice/zoo", "apache-2.0"))).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("timm", "image-classification", "apache-2.0")
    assert data.base_model == "timm/vit_small_patch14_dinov2.lvd142m" and data.base_model_relation == "finetune"
    assert data.model_name == "zoo" and data.eval_results is not None
    (result,) = data.eval_results
    assert result.metric_type == "accuracy" and result.metric_value == round(
        scored(("a", "b", "c"), (12, 6, 2)).accuracy, 4
    )
    assert "held out" in result.dataset_name and "(20 pictures)" in result.dataset_name


@pytest.mark.parametrize("name", ["built_in", "resnet18"])
def test_weights_without_a_page_on_the_hub_are_told_in_words(name: str) -> None:
    text = card(facts(row=find(name)))
    data = ModelCard(text).data
    assert data.base_model is None and data.license is None, "nobody chose one"
    assert "no page on the Hub" in text and "none was stated" in text


def test_terms_of_the_weights_own_are_named() -> None:
    data = ModelCard(card(facts(row=find("dinov3_small")), publication=Publication("a/b", "other"))).data
    assert data.license == "other" and data.license_name == "dinov3-license"
    assert data.license_link == "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "head"), [("built_in", "gru"), ("built_in", "forest"), ("squeezenet1_1", "linear")])
def test_a_model_that_timm_cannot_express_says_so(name: str, head: str, language: Language) -> None:
    files = frozenset({"model.onnx", "predict.py"})
    published = Publication("alice/x", files=files, checked=Checked(12, 12, 0.0004))
    text = card(facts(row=find(name), head=head), language=language, publication=published)
    data = ModelCard(text).data
    assert data.library_name == "onnx" and not {"timm", "transformers"} & set(data.tags)
    assert "create_model" not in text and "pipeline(" not in text
    assert "python predict.py" in text and "tl_core predict" in text and "0.0004" in text


def test_examples_are_widgets_with_the_models_own_answers() -> None:
    example = Example("examples/1.jpg", (("ants", 0.75), ("猫\n---", 0.25)))
    text = card(facts(), publication=Publication("alice/x", examples=(example,)))
    (widget,) = ModelCard(text).data.widget
    assert widget["src"] == "examples/1.jpg"
    assert widget["output"] == [{"label": "ants", "score": 0.75}, {"label": "猫 ---", "score": 0.25}]
    assert "![1](examples/1.jpg)" in text
    assert "examples" not in card(facts())


class Found(HTMLParser):
    """The tags of rendered Markdown and where they lead."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self._code = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._code = tag == "code"
        self.addresses += [value or "" for name, value in attributes if name in ("href", "src", "action", "style")]

    def handle_endtag(self, tag: str) -> None:
        self._code = False

    def handle_data(self, data: str) -> None:
        """What GitHub and the Hub make links of without any mark (mdast-util-gfm-autolink-literal), entities read."""
        if not self._code:
            self.addresses += re.findall(r"(?:https?://|www\.)[-.\w]+|[-.\w+]+@[-\w]+\.[-\w]+", data, re.IGNORECASE)


def rendered(text: str) -> Found:
    """As a Markdown renderer that lets HTML through and makes links of bare addresses would show it."""
    found = Found()
    found.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_case_73_names_and_notes_stay_text(language: Language) -> None:
    notes = "\n\n".join(("# big", "- item", "1. one", "    code", "===", "> quote", "```", *HOSTILE))
    known = facts(HOSTILE, evaluation=scored(HOSTILE))
    published = Publication(
        "alice/x", "<b>", data_note=notes, notes=notes, examples=(Example("examples/1.jpg", ((HOSTILE[0], 1.0),)),)
    )
    text = card(known, language=language, publication=published)
    assert len(text) < 60_000
    data = ModelCard(text).data
    assert data.pipeline_tag == "image-classification" and "b" not in data.to_dict()
    plain = rendered(
        body(
            card(
                facts(),
                language=language,
                publication=Publication("alice/x", "mit", "n", "n", examples=published.examples),
            )
        )
    )
    hostile = rendered(body(text))
    assert hostile.tags == plain.tags, "no tag that a harmless card has not"
    assert set(hostile.addresses) == set(plain.addresses), "no address that is not ours"


@pytest.mark.parametrize("text", HOSTILE)
def test_case_70_text_reads_as_it_was_written(text: str) -> None:
    """What is shown is the text: only what cannot be seen is added or left out."""
    shown: list[str] = []

    class Text(HTMLParser):
        def handle_data(self, data: str) -> None:
            shown.append(data)

    Text().feed(MarkdownIt("commonmark").render("A " + markdown_text(text)))
    seen = "".join(shown).replace("\u2060", "").strip().removeprefix("A ")
    expected = " ".join(text.replace("\u202e", "").split())
    assert seen == (expected if len(expected) <= 200 else expected[:199] + "…")


def test_case_73_the_longest_card_is_still_short() -> None:
    names = tuple(f"{at:03}" + "|" * 197 for at in range(1_000))
    text = card(facts(names, evaluation=scored(names)))
    assert len(text) < 200_000 and "and 800 more classes" in text


def test_notes_are_quoted_and_bounded() -> None:
    text = markdown_paragraphs("# one\n\n" + "y" * 5_000)
    assert text.startswith(">") and all(line.startswith(">") for line in text.splitlines()) and len(text) < 2_100
    assert markdown_paragraphs("\n \n") == ""


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("classes", "kind"), [(2, "matrix"), (12, "matrix"), (30, "matrix"), (31, "pairs")])
def test_case_70_the_figure_is_drawn_for_any_names(classes: int, kind: str, language: Language, tmp_path: Path) -> None:
    names = tuple(dict.fromkeys((*HOSTILE[:9], "\U0001f980", "שלום", *map(str, range(40)))))[:classes]
    names = names if classes > 2 else ("$\\frac{", "猫")
    assert card_figure.draw(scored(names), tmp_path / "f.png", language=language) == kind
    image = Image.open(tmp_path / "f.png")
    assert image.width == 780 and "Software" not in image.info, "two pixels for each point of a phone's 390"


def test_names_without_glyphs_are_numbered_as_in_the_table() -> None:
    assert card_figure._label(4, "\U0010fffd\U0010fffd") == "5"
    assert card_figure._label(4, "שלום") == "5", "it would run backwards"
    assert card_figure._label(0, "ants") == "1  ants"


def test_many_classes_without_mistakes_need_no_figure(tmp_path: Path) -> None:
    names = tuple(map(str, range(40)))
    assert card_figure.draw(scored(names, wrong=0), tmp_path / "f.png") is None
    assert not (tmp_path / "f.png").exists()


def test_the_figure_can_be_read_by_lightness_alone() -> None:
    from matplotlib import colormaps

    shades = colormaps[card_figure._COLOURS](np.linspace(0, 1, 50))[:, :3] @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(shades) < 0).all()


def test_a_card_without_a_figure_loads_no_plotting() -> None:
    code = "import sys, tl_core.bundle.card; assert not {'matplotlib', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
