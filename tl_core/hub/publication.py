"""The folder that is pushed: exactly the files of a publication, copied, with the full card among them.

A bundle's own files go as they are; the card is written anew, with the figure, the example pictures that the person
ticked, and the ONNX file with the program that asks it. Nothing else that lies beside them can slip in.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tl_core.bundle import card_figure
from tl_core.bundle.bundle import FORMAT
from tl_core.bundle.card import card
from tl_core.bundle.card_facts import CardFacts, Checked, Example, Language, Publication
from tl_core.bundle.card_usage import ONNX, SCRIPT
from tl_core.bundle.files import CARD, MANIFEST, MAX_JSON, present
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.errors import DamagedBundleError, NotABundleError, refuse_foreign
from tl_core.exports.record import Agreement
from tl_core.exports.script import SOURCES
from tl_core.hub.access import check_name
from tl_core.hub_errors import NothingRunsItError
from tl_core.models.catalogue import CATALOGUE
from tl_core.models.heads import describe

FIGURE, EXAMPLES = "confusion.png", "examples"
MAX_EXAMPLES = 12
_REQUIREMENTS = "requirements.txt"
_SIDE = 640  # pixels of an example's longer side at most
_ANSWERS = 5


@dataclass(frozen=True)
class PublicationWish:
    """What goes into a publication beside the bundle. `repo_id` is "user/name", `licence` the Hub's word for one;
    `data_note` and `notes` are the person's own words about the pictures and the model; `examples` the pictures that
    were ticked, (H, W, 3) uint8; `onnx` the exported file, and `agreement` how it answers."""

    repo_id: str = ""
    language: Language = "en"
    licence: str = ""
    data_note: str = ""
    notes: str = ""
    examples: Sequence[RGB] = ()
    onnx: Path | None = None
    agreement: Agreement | None = None


def stage(bundle: Path, into: Path, wish: PublicationWish) -> list[str]:
    """Copy what is to be pushed of the model in `bundle` into the folder `into`, which is there when it is complete;
    gives the files' paths in it, with "/" between folders.

    Raises RepoNameError for a name that cannot be, BundleError for a bundle that cannot be used, NothingRunsItError for
    a model that timm cannot express when there is no ONNX file of it.
    """
    if wish.repo_id:
        check_name(wish.repo_id)
    refuse_foreign(into, MANIFEST)
    predictor = Predictor(bundle)
    facts = CardFacts(predictor.info, describe(predictor.model.head)["kind"], _versions(bundle))
    if not facts.expressible and wish.onnx is None:
        raise NothingRunsItError
    temporary = into.with_name(f"{into.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    names = [name for name in present(bundle) if name != CARD]
    for name in names:
        shutil.copyfile(bundle / name, temporary / name)
    _free_the_card(temporary / MANIFEST)
    if wish.onnx is not None:
        names += _runnable(wish.onnx, temporary)
    examples = _examples(predictor, wish.examples[:MAX_EXAMPLES], temporary)
    try:
        kind = card_figure.draw(facts.info.evaluation, temporary / FIGURE, language=wish.language)
        published = Publication(
            repo_id=wish.repo_id,
            licence=wish.licence,
            data_note=wish.data_note,
            notes=wish.notes,
            files=frozenset(names),
            figure=FIGURE if kind else "",
            figure_kind=kind or "matrix",
            checked=_checked(wish),
            examples=examples,
        )
        text = card(facts, language=wish.language, publication=published)
    except (TypeError, ValueError, IndexError, OverflowError) as error:  # scores of a stranger's that are no numbers
        raise DamagedBundleError(name=bundle.name, reason="its scores are no numbers") from error
    (temporary / CARD).write_text(text, encoding="utf-8")
    shutil.rmtree(into, ignore_errors=True)
    temporary.replace(into)
    return [CARD, *names, *([FIGURE] if kind else []), *(example.file for example in examples)]


def needs_onnx(bundle: Path) -> bool:
    """Whether the model in `bundle` can only be published with its ONNX file. Reads its description alone, without
    torch; raises NotABundleError where there is none."""
    record = _description(bundle)
    head = record.get("head", {"kind": "linear"})  # format 1 had no other
    if not isinstance(head, dict):
        raise NotABundleError(name=bundle.name, reason=f"{MANIFEST} describes no head")
    foreign = {row.id for row in CATALOGUE if row.library != "timm"}
    return head.get("kind") != "linear" or record.get("backbone") in foreign


def _free_the_card(manifest: Path) -> None:
    """Make an older manifest one of today's, where it counts the card among the files that never change."""
    record = json.loads(manifest.read_text(encoding="utf-8"))
    if record["files"].pop(CARD, None) is not None:
        manifest.write_text(json.dumps(record | {"format": FORMAT}, ensure_ascii=False), encoding="utf-8")


def _runnable(onnx: Path, folder: Path) -> list[str]:
    """The ONNX file and the program that asks it."""
    shutil.copyfile(onnx, folder / ONNX)
    for name in (SCRIPT, _REQUIREMENTS):
        shutil.copyfile(SOURCES / name, folder / name)
    return [ONNX, SCRIPT, _REQUIREMENTS]


def _examples(predictor: Predictor, pictures: Sequence[RGB], folder: Path) -> tuple[Example, ...]:
    """The pictures as files under names of ours, drawn anew from their pixels: no metadata, nothing behind the end."""
    if not pictures:
        return ()
    (folder / EXAMPLES).mkdir()
    found = []
    answers = predictor.predict(pictures, top_k=_ANSWERS)
    for number, (pixels, answer) in enumerate(zip(pictures, answers, strict=True), start=1):
        image = Image.fromarray(pixels, "RGB") if pixels.ndim == 3 else Image.fromarray(pixels).convert("RGB")
        image.thumbnail((_SIDE, _SIDE))
        file = f"{EXAMPLES}/{number}.jpg"
        image.save(folder / file, "JPEG", quality=90)
        found.append(Example(file, answer.ranking))
    return tuple(found)


def _checked(wish: PublicationWish) -> Checked | None:
    found = wish.agreement
    if found is None or wish.onnx is None:
        return None
    return Checked(found.compared, found.agree, found.largest, found.yours)


def _versions(bundle: Path) -> dict[str, str]:
    """With which packages the bundle was made, as far as it says so."""
    found = _description(bundle).get("versions")
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(name): number for name, number in pairs if isinstance(number, str)}


def _description(bundle: Path) -> dict[str, object]:
    file = bundle / MANIFEST
    try:
        if file.stat().st_size > MAX_JSON:
            raise ValueError
        record = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError
    except (OSError, ValueError, RecursionError) as error:
        raise NotABundleError(name=bundle.name, reason=f"{MANIFEST} is missing or cannot be read") from error
    return record
