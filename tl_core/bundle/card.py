"""The model card: the README.md inside a bundle, which the Hub shows. It says what is known and nothing else.

Class names and the person's own words in it are hostile text. The short card of a bundle on this machine and the full
one of a publication are one text: sections that nothing is known of are left out.
"""

import re
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from tl_core.bundle.card_facts import CardFacts, Language, Publication, Words, percent, share, version_list
from tl_core.bundle.card_scores import lead, limits, scores, trust
from tl_core.bundle.card_usage import ONNX, usage
from tl_core.bundle.markdown import markdown_paragraphs, markdown_text, table
from tl_core.errors import plain

OTHER = "other"  # the Hub's word for terms it has no word for


def card(facts: CardFacts, *, language: Language = "en", publication: Publication | None = None) -> str:
    """Markdown with YAML front matter (written by huggingface_hub, never by hand: names come from users).

    Raises ValueError or TypeError for scores that are no numbers, as only a hostile bundle has them.
    """
    words, published = Words(language), publication or Publication()
    title = published.repo_id.rpartition("/")[2] or words("title", count=len(facts.info.class_names))
    notes = markdown_paragraphs(published.notes)
    sections = {
        "": "\n\n".join([lead(facts, words), *([words("notes"), notes] if notes else [])]),
        "scores": scores(facts, words, published),
        "trust": trust(facts, words),
        "limits": limits(facts, words),
        "examples": _examples(published, words),
        "use": usage(facts, words, published),
        "made": _made(facts, words),
        "licences": _licences(facts, words, published),
    }
    parts = [f"# {title}"]
    for key, text in sections.items():
        if text:
            parts += [f"## {words(key)}", text] if key else [text]
    front = front_matter(facts, words, published).to_yaml(line_break="\n")
    return f"---\n{front}\n---\n\n" + "\n\n".join(parts) + "\n"


def front_matter(facts: CardFacts, words: Words, published: Publication) -> ModelCardData:
    """What the Hub reads: only what is true of this model."""
    scored, base = facts.info.evaluation, base_model(facts)
    which = "index.official" if facts.flag("official_split") else "index.own"
    result = EvalResult(
        task_type="image-classification",
        dataset_type="imagefolder",
        dataset_name=words(which, tested=f"{scored.tested:d}"),
        dataset_split="test",
        metric_type="accuracy",
        metric_value=round(float(scored.accuracy), 4),
    )
    onnx = ["onnx"] if ONNX in published.files else []
    known = ["timm", "transformers"] if facts.expressible else []
    more: dict[str, Any] = {}
    if base:
        more["base_model_relation"] = "finetune"
    if published.licence == OTHER:
        more |= _terms(facts.info.backbone.weights_licence)
    if published.examples:
        more["widget"] = [_widget(at, example.file, example.answers) for at, example in enumerate(published.examples)]
    return ModelCardData(
        model_name=published.repo_id.rpartition("/")[2] or "image-classifier",
        license=published.licence or None,
        library_name="timm" if facts.expressible else "onnx" if onnx else "transfer-lab",
        pipeline_tag="image-classification",
        tags=["image-classification", *known, *onnx, "transfer-lab"],
        base_model=base or None,
        metrics=["accuracy"],
        eval_results=[result],
        **more,
    )


def base_model(facts: CardFacts) -> str:
    """The Hub's name of the weights it started from; "" where they are not there."""
    row = facts.info.backbone
    return "/".join(row.hub_file.split("/")[:2]) if row.source == "timm" else ""


def _terms(weights_licence: str) -> dict[str, str]:
    """Name and address of the weights' own terms, which a model under "other" is under: "name: words, address"."""
    name, _, rest = weights_licence.partition(":")
    address = re.search(r"https://[^\s,]+", rest)
    good = re.fullmatch(r"[a-z0-9.-]+", name)
    return {"license_name": name, "license_link": address[0]} if good and address else {}


def _widget(at: int, file: str, answers: tuple[tuple[str, float], ...]) -> dict[str, Any]:
    output = [{"label": plain(label, 200), "score": round(float(score), 4)} for label, score in answers]
    return {"src": file, "example_title": str(at + 1), "output": output}


def _examples(published: Publication, words: Words) -> str:
    parts = []
    for at, example in enumerate(published.examples):
        answers = words("join.list").join(
            f"{markdown_text(label, 60)} {percent(score)}" for label, score in example.answers[:3]
        )
        parts.append(f"![{at + 1}]({example.file})\n\n{words('examples.answer', answers=answers)}")
    return "\n\n".join(parts)


def _made(facts: CardFacts, words: Words) -> str:
    sentences = [*_split(facts, words), _how(facts, words)]
    settings = table((words("made.setting"), words("made.value")), _settings(facts, words))
    return f"{words.sentences(*sentences)}\n\n{settings}".strip()


def _split(facts: CardFacts, words: Words) -> list[str]:
    """How test pictures were chosen, and what became of copies, as far as it was noted down."""
    official, seed, said = facts.flag("official_split"), facts.count("seed"), []
    if official is not None:
        own = words("made.split_unseeded") if seed is None else words("made.split_own", seed=seed)
        said.append(words("made.split_official") if official else own)
    if facts.flag("went_on"):
        said.append(words("made.went_on"))
    if (moved := facts.count("moved_copies")) is not None and moved:
        said.append(words("made.moved", moved=moved))
    if (copies := facts.count("copies")) is not None:
        said.append(words("made.copies", copies=copies) if copies else words("made.no_copies"))
    elif official is not None:
        said.append(words("made.together"))
    if skipped := facts.count("skipped"):
        said.append(words("made.skipped", skipped=skipped))
    return said


def _how(facts: CardFacts, words: Words) -> str:
    head = words(f"head.{facts.head}") if f"head.{facts.head}" in words else ""
    strategy = facts.said("strategy", ("frozen", "last", "all"))
    if not head or not strategy:
        return ""
    if strategy == "frozen":
        return words("made.frozen", head=head)
    told = words("made.tuned", part=words(f"made.{strategy}"), head=head)
    found = share(facts.info.training.get("share"))
    return told if found is None else words.sentences(told, words("made.share", share=f"{found:.0%}"))


def _settings(facts: CardFacts, words: Words) -> list[tuple[str, str]]:
    info, p = facts.info, facts.info.preprocessing
    strategy, balance = facts.said("strategy", ("frozen", "last", "all")), facts.flag("balance")
    effort = facts.said("effort", ("quick", "balanced", "best"))
    found = {
        "backbone": f"[{info.backbone.title}]({info.backbone.url})",
        "input": words("made.pixels", size=f"{p.size:d}", framing=words(f"made.{p.framing}")),
        "strategy": words(f"strategy.{strategy}") if strategy else "",
        "head": words(f"kind.{facts.head}") if f"kind.{facts.head}" in words else "",
        "epochs": _number(facts.count("epochs")),
        "effort": words(f"effort.{effort}") if effort else "",
        "balance": "" if balance is None else words("made.yes" if balance else "made.no"),
        "seed": _number(facts.count("seed")),
        "created": markdown_text(info.created, 40),
        "versions": version_list(facts.versions),
    }
    return [(words(f"made.{key}"), value) for key, value in found.items() if value]


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:d}"


def _licences(facts: CardFacts, words: Words, published: Publication) -> str:
    """The chain: what this model, the weights, the pictures and the program may be used for, as far as anybody said."""
    row, base = facts.info.backbone, base_model(facts)
    which = "licences.other" if published.licence == OTHER else "licences.model"
    chosen = words(which, licence=markdown_text(published.licence, 60))
    where = words("licences.on_hub", base=base) if base else words("licences.not_on_hub")
    key = "licences.embedded" if row.source == "embedded" else "licences.weights"
    weights = words.sentences(words(key, title=row.title, url=row.url, licence=row.weights_licence), where)
    lines = [chosen if published.licence else words("licences.no_model"), weights]
    lines.append(words("licences.code"))
    note = markdown_paragraphs(published.data_note)
    lines.append(words("licences.data") if note else words("licences.no_data"))
    return "\n".join(f"- {line}" for line in lines) + (f"\n\n{note}" if note else "")
