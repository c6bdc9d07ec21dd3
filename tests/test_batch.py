"""Many files at once: a row for every one in order, whatever is wrong with it; sorted; put right by a person."""

import csv
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from PIL import Image

from tests.children import Watch, decoders
from tests.conftest import Trained, Zipper, encode, picture
from tl_core.bundle.batch import answers, doubtful, unsure
from tl_core.bundle.predictor import Prediction, Predictor
from tl_core.bundle.sorted_zip import FolderNames, safe_name, sort_into
from tl_core.bundle.table import predictions_csv
from tl_core.data.pile import NOT_REACHED, Filed, Pile, read_pile
from tl_core.errors import BrokenArchiveError, DiskFullError, TooLargeError
from tl_core.events import Progress
from tl_core.settings import Settings
from tl_ui import batch_view
from tl_ui.batch_view import Batch
from tl_ui.parts.forms import Act

FOLDERS = FolderNames("not sure", "unlike anything taught", "could not be read")
HOSTILE = "<img src=x onerror=alert(1)> & \"'"


def read(files: list[tuple[str, Path]], settings: Settings, *, stop_after: int = 10**9) -> Pile:
    """The pile of `files`, stopped once that many are read."""
    folder = settings.data_dir / "scratch" / "batch"
    folder.mkdir(parents=True, exist_ok=True)
    done, pile = [0], None
    for step in read_pile(files, folder, settings, should_stop=lambda: done[0] >= stop_after):
        if isinstance(step, Progress):
            done[0] = step.done
        else:
            pile = step
    assert pile is not None and not decoders()
    return pile


def on_disk(folder: Path, content: dict[str, bytes]) -> list[tuple[str, Path]]:
    folder.mkdir(exist_ok=True)
    files = []
    for number, (name, data) in enumerate(content.items()):
        (folder / str(number)).write_bytes(data)
        files.append((name, folder / str(number)))
    return files


def problems(pile: Pile) -> list[str]:
    return [file.problem or type(file.error).__name__.replace("NoneType", "") for file in pile.files]


BROKEN = {17: b"", 111: picture(1)[:700], 250: b"a note, not a picture", 499: b"\xff\xd8\xff\0"}
REASONS = {17: "empty_file", 111: "damaged", 250: "not_a_picture", 499: "damaged"}


def five_hundred() -> dict[str, bytes]:
    """A folder of 500 files, four of them broken."""
    some = [picture(seed, size=(64, 48)) for seed in range(20)]
    return {f"holiday/{i}.jpg": BROKEN.get(i, some[i % 20]) for i in range(500)}


@pytest.mark.parametrize("packed", [False, True], ids=["files", "zip"])
@pytest.mark.slow
def test_500_files_with_four_broken_ones_are_500_rows_in_order(
    tmp_path: Path, settings: Settings, make_zip: Zipper, trained: Trained, packed: bool
) -> None:
    content = five_hundred()
    files = [("all.zip", make_zip(dict(content)))] if packed else on_disk(tmp_path / "many", content)
    pile = read(files, settings)
    assert [file.name for file in pile.files] == list(content)
    assert {at: file.problem for at, file in enumerate(pile.files) if file.problem} == REASONS
    predictor, found = Predictor(trained.bundle), dict[int, Prediction]()
    for some in answers(predictor, pile):
        assert len(some) <= 32
        found |= some
    assert sorted(found) == pile.readable and len(found) == 496
    # row 40 shows the same picture as row 20, and is answered alike; the pixels are those of its own file
    assert (pile.pixels(40) == pile.pixels(20)).all() and (pile.pixels(41) != pile.pixels(20)).any()
    assert found[40].ranking[0][0] == found[20].ranking[0][0]
    rows = [(file.name, found.get(at, file.problem)) for at, file in enumerate(pile.files)]
    lines = list(csv.DictReader(io.StringIO(predictions_csv(rows, predictor.info.class_names)[1:])))
    assert len(lines) == 500 and [line["file"] for line in lines] == list(content)
    assert [line["problem"] for line in lines if line["problem"]] == list(REASONS.values())


def test_archives_and_pictures_in_any_mixture_keep_their_order(
    tmp_path: Path, settings: Settings, make_zip: Zipper
) -> None:
    zipped = make_zip(
        {
            "deep/er/10.jpg": picture(10),
            "deep/2.jpg": picture(2),
            "notes.txt": b"hello",
            "__MACOSX/deep/._2.jpg": b"junk",
            ".DS_Store": b"junk",
            "inner.zip": b"PK\3\4",
        },
        "a.zip",
    )
    with tarfile.open(tmp_path / "b.tgz", "w:gz") as tar:
        for number in (2, 1):
            entry = tarfile.TarInfo(f"{number}.png")
            data = picture(number, ending="png")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    (tmp_path / "broken").write_bytes(zipped.read_bytes()[:-40])
    files = [
        *on_disk(tmp_path / "some", {"last.jpg": picture(1), "Thumbs.db": b"junk"}),
        ("a.zip", zipped),
        ("broken.zip", tmp_path / "broken"),
        *on_disk(tmp_path / "more", {"first.jpg": picture(2)}),
        ("b.tgz", tmp_path / "b.tgz"),
        ("a.zip", zipped),
    ]
    pile = read(files, settings)
    inside = ["deep/2.jpg", "deep/er/10.jpg", "inner.zip", "notes.txt"]
    assert [file.name for file in pile.files] == [
        "last.jpg",
        *(f"a.zip/{name}" for name in inside),
        "broken.zip",
        "first.jpg",
        "b.tgz/1.png",
        "b.tgz/2.png",
        *(f"a (2).zip/{name}" for name in inside),
    ]
    per_zip = ["", "", "nested_archive", "not_a_picture"]
    assert problems(pile) == ["", *per_zip, "BrokenArchiveError", "", "", "", *per_zip]
    assert pile.ignored == 5  # Thumbs.db, and two in each of the zips
    # every picture is its own, whichever upload it came in, and its file is there as it came
    assert (
        pile.original(0) == picture(1)
        and pile.original(6) == picture(2)
        and pile.original(7) == picture(1, ending="png")
    )
    assert (pile.pixels(1) == pile.pixels(6)).all() and pile.thumb(1) == pile.thumb(6) != pile.thumb(2)
    assert pile.original(4) == b"hello" and pile.original(3) is None


def test_an_archive_alone_that_cannot_be_opened_is_refused_with_its_sentence(
    tmp_path: Path, settings: Settings, make_zip: Zipper
) -> None:
    (tmp_path / "x").write_bytes(make_zip({"1.jpg": picture(1)}).read_bytes()[:-40])
    with pytest.raises(BrokenArchiveError, match="“x.zip” is incomplete"):
        read([("x.zip", tmp_path / "x")], settings)


@pytest.mark.parametrize("packed", [False, True], ids=["files", "zip"])
def test_more_files_than_allowed_are_refused(
    tmp_path: Path, settings: Settings, make_zip: Zipper, packed: bool
) -> None:
    content = {f"{i}.jpg": picture(1) if i else b"" for i in range(9)}
    files = [("a.zip", make_zip(dict(content)))] if packed else on_disk(tmp_path / "f", content)
    with pytest.raises(TooLargeError, match="Found 9 files .* at most 8 can be used"):
        read(files, replace(settings, max_batch=8))
    with pytest.raises(TooLargeError):
        read(
            [("a.zip", make_zip({"1.jpg": picture(1)})), *on_disk(tmp_path / "g", content)][:9],
            replace(settings, max_batch=8),
        )


def test_stopping_keeps_what_is_there_and_names_the_rest(tmp_path: Path, settings: Settings, make_zip: Zipper) -> None:
    big = encode(Image.effect_noise((1600, 1200), 60).convert("RGB"))  # seconds for all of them
    files = [*on_disk(tmp_path / "f", {f"{i}.jpg": big for i in range(400)}), ("z.zip", make_zip({"a": 2}))]
    pile = read(files, settings, stop_after=1)
    assert len(pile.files) == 401 and pile.files[400] == Filed("z.zip", problem=NOT_REACHED)
    assert pile.files[0].picture is not None and problems(pile)[399] == NOT_REACHED


@pytest.mark.slow
def test_memory_stays_small_however_many_pictures_there_are(
    tmp_path: Path, settings: Settings, trained: Trained
) -> None:
    big = [encode(Image.effect_noise((1600, 1200), 60 + i).convert("RGB")) for i in range(3)]
    pile_of = on_disk(tmp_path / "f", {f"{i}.jpg": big[i % 3] for i in range(240)})
    predictor = Predictor(trained.bundle)
    with Watch() as watch:
        tracemalloc.start()
        pile = read(pile_of, settings)
        found = {at: one for some in answers(predictor, pile) for at, one in some.items()}
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    pixels = sum(pile.picture(at).height * pile.picture(at).width * 3 for at in found)
    assert len(found) == 240 and pixels > 90e6  # all of them at once would be this much
    assert peak < 40e6, f"{peak / 1e6:.0f} MB"
    assert 0 < watch.highest < 700e6


def test_what_a_small_upload_unpacks_to_does_not_fill_the_disk(tmp_path: Path, settings: Settings) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(10):
            archive.writestr(f"{i}.jpg", picture(1) + bytes(300_000))
    pile = read([("a.zip", tmp_path / "a.zip")], replace(settings, max_upload=1_000_000))
    kept = [file.original is not None for file in pile.files]
    assert kept == [True] * 3 + [False] * 7 and len(pile.readable) == 10
    assert (pile.folder / "originals").stat().st_size < 1_000_000


def sure(label: str, confidence: float, *, strange: bool = False, likely: tuple[str, ...] = ()) -> Prediction:
    return Prediction(((label, confidence), ("other", 1 - confidence)), 0.9 if strange else 0.1, strange, likely=likely)


def pile_of_texts(folder: Path, names: list[str]) -> Pile:
    """A pile whose files hold their own numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "originals").write_bytes(b"".join(b"%04d" % i for i in range(len(names))))
    return Pile(folder, tuple(Filed(name, original=(4 * i, 4)) for i, name in enumerate(names)))


NASTY = (
    "../../etc/passwd",
    "..\\..\\windows\\system.ini",
    "C:\\evil.jpg",
    "/abs.jpg",
    "CON.jpg",
    "com1",
    "LPT¹.txt",
    "a\x00b\n.jpg",
    "trailing. . ",
    "...",
    ".hidden",
    "x" * 300 + ".jpeg",
    "猫" * 200 + ".png",
    "a:b*c?.jpg",
    "\u202egpj.exe",
    "",
    "nul .tar.gz",
    "-rf",
)


def test_every_name_in_the_sorted_zip_is_safe_and_no_file_is_lost(tmp_path: Path, settings: Settings) -> None:
    names = [*NASTY, "IMG.JPG", "img.jpg", "Img.jpg", "e\u0301.jpg", "\u00e9.jpg", "ﬁ.jpg", "fi.jpg", "img (2).jpg"]
    labels = [*NASTY, "Cats", "cats", "predictions.csv", "not sure", "NOT SURE", "could not be read"]
    pile = pile_of_texts(tmp_path / "pile", names * len(labels))
    found = {at: sure(labels[at // len(names)], 0.9) for at in range(len(pile.files))}
    target = tmp_path / "sorted.zip"
    made = sort_into(target, pile, found, FOLDERS, settings, least=0.6, table=("predictions.csv", "\ufefftable"))
    assert made.files == len(pile.files) and made.missing == 0
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        told = archive.namelist()
        held = sorted(archive.read(name) for name in told if "/" in name)
    assert held == sorted(b"%04d" % i for i in range(len(pile.files)))
    assert told[0] == "predictions.csv" and len({name.casefold() for name in told}) == len(told)
    assert len({name.split("/")[0] for name in told[1:]}) == len(set(labels))
    for name in told[1:]:
        folder, file = name.split("/")
        for part in (folder, file):
            assert part.strip(". ") and not part.startswith(".") and not part.endswith((".", " ")), repr(part)
            assert not PureWindowsPath(part).is_reserved() and len(part.encode()) <= 200, repr(part)
            assert part.isprintable() and not set('<>:"\\|?*') & set(part), repr(part)


@pytest.mark.parametrize("text", NASTY)
def test_a_safe_name_stays_what_it_is(text: str) -> None:
    assert safe_name(safe_name(text)) == safe_name(text) != ""
    assert safe_name("猫 1.jpg") == "猫 1.jpg"


def test_what_is_unsure_strange_or_unreadable_is_sorted_apart(tmp_path: Path, settings: Settings) -> None:
    names = ["sure.jpg", "unsure.jpg", "strange.jpg", "damaged.jpg", "gone.zip"]
    pile = pile_of_texts(tmp_path / "pile", names)
    pile = replace(pile, files=(*pile.files[:3], replace(pile.files[3], problem="damaged"), Filed("gone.zip")))
    found = {0: sure("ants", 0.6), 1: sure("ants", 0.59), 2: sure("ants", 0.99, strange=True)}
    target = tmp_path / "sorted.zip"
    made = sort_into(target, pile, found, FOLDERS, settings, least=0.6, table=("t.csv", "x"))
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == [
            "t.csv",
            "ants/sure.jpg",
            "not sure/unsure.jpg",
            "unlike anything taught/strange.jpg",
            "could not be read/damaged.jpg",
        ]
    assert (made.files, made.missing) == (4, 1)
    with pytest.raises(DiskFullError):
        sort_into(
            target, pile, found, FOLDERS, replace(settings, free_disk_reserve=10**18), least=0.6, table=("t", "x")
        )


def test_the_most_doubtful_come_first() -> None:
    found = {0: sure("a", 0.9), 1: sure("a", 0.4), 2: sure("a", 0.99, strange=True), 3: sure("a", 0.6)}
    assert doubtful(found) == [2, 1, 3, 0] and unsure(list(found.values()), 0.6) == 2


def test_the_table_tells_what_else_it_could_be() -> None:
    one = sure("=ants", 0.5, likely=("=ants", "=bees", "wasps"))
    lines = list(csv.DictReader(predictions_csv([("a.jpg", one), ("b.jpg", sure("x", 0.9))], ("x",))[1:].splitlines()))
    assert [line["could also be"] for line in lines] == ["'=bees; wasps", ""]


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    names = [f"{HOSTILE}{i}.jpg" for i in range(30)]
    pile = pile_of_texts(tmp_path / "pile", [*names, "bad.jpg"])
    pile = replace(pile, files=(*pile.files[:30], Filed(HOSTILE, error=BrokenArchiveError(name=HOSTILE))))
    found = {at: sure((HOSTILE, "b")[at % 2], at / 30, likely=(HOSTILE, "b")) for at in range(30)}
    found[7] = sure("b", 0.9, strange=True)
    yield Batch("run", pile, found, (HOSTILE, "b"), "", {})


@pytest.mark.parametrize("language", ["en", "zh"])
def test_names_are_text_in_the_table_and_on_the_cards(batch: Batch, language: str) -> None:
    table = batch_view.table(batch.pile, batch.found, lambda at: "data:,", language)
    assert table.count("<tr>") == 32 and table.count("<img") == 30 and "<img src=x" not in table
    cards = batch_view.review(batch, lambda at: "data:,", 0.6, language)
    assert cards.count("<li ") == 12 and cards.count("<img") == 12 and "<img src=x" not in cards
    assert cards.index('data-key="7"') < cards.index('data-key="0"') < cards.index('data-key="1"')  # strange, unsure


def did(act: str, fields: dict[str, tuple[str, ...]] | None = None, **data: str) -> Act:
    return Act(act, data, fields or {})


def test_a_person_confirms_corrects_and_leaves_out(batch: Batch) -> None:
    def after(start: Batch, *acts: Act) -> dict[int, str]:
        for one in acts:
            start = batch_view.decided(one, start)
        return dict(start.decided)

    assert after(batch, did("right", row="1")) == {1: "b"}
    assert after(batch, did("right", row="1"), did("choose", {"to": ("0",)}, row="1")) == {1: HOSTILE}
    assert after(batch, did("right", row="1"), did("choose", {"to": ("",)}, row="1")) == {}
    left = batch_view.decided(did("choose", {"to": ("out",)}, row="1"), batch)
    assert dict(left.decided) == {1: ""} and left.labels == {}
    page = after(batch, did("choose", {"to": ("out",)}, row="7"), did("all-right", page="0"))
    assert len(page) == 12 and page[7] == "" and page[0] == HOSTILE
    assert batch_view.decided(did("page", page="2"), batch).page == 2
    for hostile in (
        did("right", row="30"),
        did("right", row="-1"),
        did("right", row="x" * 99),
        did("choose", {"to": ("2",)}, row="1"),
        did("choose", {}, row="1"),
        did("all-right", page="99999"),
        did("drop"),
    ):
        assert after(batch, hostile) == {}
    assert "tl-cards" in batch_view.review(replace(batch, page=99), lambda at: "data:,", 0.6, "en")


def test_why_a_file_has_no_answer_is_said(batch: Batch) -> None:
    told: Any = [
        batch_view.problem(file, "en")
        for file in (Filed("a", problem="damaged"), Filed("a", problem=NOT_REACHED), batch.pile.files[-1])
    ]
    assert told[0] == "the picture is damaged or cut off" and told[1] == "stopped before it was its turn"
    assert "is incomplete" in told[2]
