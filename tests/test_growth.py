"""Pictures that a person has put right join the set: rows stay, classes are right, and training on it works."""

import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page
from tests.conftest import Zipper, picture
from tests.test_batch import on_disk, read
from tl_core.data.closer_look import FILE as LOOK
from tl_core.data.edits import Drop, Edit, LeaveOut, Move, Relabel, Rename, from_record, to_record
from tl_core.data.growth import grown
from tl_core.data.imageset import ImageSet, Reading
from tl_core.data.pile import Pile
from tl_core.data.pixels import PixelStore
from tl_core.data.understand import load, understand
from tl_core.errors import DiskFullError, TooLargeError
from tl_core.events import Finished, PicturesReady
from tl_core.jobs.runs import folder_of, new_key
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import train
from tl_ui.batch_step import BatchStep
from tl_ui.page import translations
from tl_ui.workspace import Workspace

Reader = Callable[[Path], ImageSet]


@pytest.fixture
def pile(tmp_path: Path, settings: Settings) -> Pile:
    """Five files, of which the third is broken."""
    content = {f"new {i}.jpg": picture(700 + i, shape="heart") for i in range(5)} | {"new 2.jpg": b"broken"}
    return read(on_disk(tmp_path / "new", content), settings)


def class_of(images: ImageSet) -> dict[int, str]:
    return {picture.row: images.class_names[picture.label] for picture in images.pictures}


def test_old_rows_stay_and_new_ones_come_behind_them_with_their_pixels(
    make_zip: Zipper, read_set: Reader, pile: Pile, settings: Settings, tmp_path: Path
) -> None:
    images = read_set(make_zip({"cats": 6, "dogs": 5}))
    old = Reading.load(images.folder)
    before = (images.folder / "reading.json").read_bytes(), (images.folder / "pixels.u8").read_bytes()
    new, edits = grown(old, (), pile, {4: "dogs", 0: "cats", 1: "birds"}, tmp_path / "grown", settings)
    assert new == Reading.load(tmp_path / "grown") and new.stored[:11] == old.stored
    assert [one.name for one in new.stored[11:]] == ["new 0.jpg", "new 1.jpg", "new 4.jpg"]
    after = load(tmp_path / "grown", edits)
    assert class_of(after) == class_of(images) | {11: "cats", 12: "birds", 13: "dogs"}
    ours, theirs = PixelStore(after), PixelStore(images)
    at = {picture.row: i for i, picture in enumerate(after.pictures)}
    assert all((ours[at[p.row]] == theirs[i]).all() for i, p in enumerate(images.pictures))
    assert all((ours[at[row]] == pile.pixels(place)).all() for row, place in ((11, 0), (12, 1), (13, 4)))
    thumbs = np.fromfile(tmp_path / "grown" / "thumbs.u8", np.uint8).reshape(14, -1)
    assert bytes(thumbs[13]) == pile.thumb(4) and (tmp_path / "grown" / "thumbs.u8").stat().st_size == 14 * 768
    # the set that was there is what it was
    assert before == ((images.folder / "reading.json").read_bytes(), (images.folder / "pixels.u8").read_bytes())
    assert from_record(to_record(edits)) == edits and not (tmp_path / "grown" / LOOK).exists()


@pytest.mark.parametrize(
    ("edits", "label", "others"),
    [
        ((Rename("cats", "felines"),), "felines", {"felines", "dogs", "ants"}),
        ((Rename("cats", "dogs"),), "dogs", {"dogs", "ants"}),
        ((Rename("dogs", "wolves"), Rename("cats", "dogs")), "dogs", {"wolves", "dogs", "ants"}),
        ((LeaveOut("dogs"), Rename("cats", "dogs")), "dogs", {"dogs", "ants"}),
        ((Move((0, 1, 2), "tigers"),), "tigers", {"cats", "dogs", "ants", "tigers"}),
        ((Move((0, 1, 2, 3), "dogs"), LeaveOut("ants")), "dogs", {"cats", "dogs"}),
        ((Drop((0,)), Relabel("folders")), "CATS", {"cats", "dogs", "ants"}),
    ],
    ids=["renamed", "merged", "swapped", "left out before", "moved", "emptied", "written otherwise"],
)
def test_the_class_is_right_whatever_was_changed_before(
    make_zip: Zipper,
    read_set: Reader,
    pile: Pile,
    settings: Settings,
    tmp_path: Path,
    edits: tuple[Edit, ...],
    label: str,
    others: set[str],
) -> None:
    images = read_set(make_zip({"cats": 4, "dogs": 4, "ants": 4}))
    told = load(images.folder, edits)
    reading, changed = grown(Reading.load(images.folder), edits, pile, {0: label, 3: label}, tmp_path / "g", settings)
    after = understand(reading, changed)
    name = {"CATS": "cats"}.get(label, label)
    assert class_of(after) == class_of(told) | {12: name, 13: name}
    assert set(after.class_names) == set(told.class_names) == others


def test_every_way_to_read_the_classes_knows_the_new_pictures(
    make_zip: Zipper, read_set: Reader, pile: Pile, settings: Settings, tmp_path: Path
) -> None:
    content: dict[str, bytes | int] = {
        f"{part}/{name}/{name}{part}{i}.jpg": picture(start + i, shape=shape)
        for part, start, count in (("train", 0, 6), ("test", 50, 3))
        for name, shape in (("Cats", "star"), ("dogs", "circle"))
        for i in range(count)
    }
    rows = [f"{path.rsplit('/', 1)[1]},{'red' if i % 2 else 'blue'}" for i, path in enumerate(content)]
    content["labels.csv"] = "\n".join(["file,label", *rows]).encode()
    images = read_set(make_zip(content))
    old = Reading.load(images.folder)
    assert len(old.ways) >= 2
    assert old.way("").id == next(way.id for way in old.ways if "Cats" in way.labels)
    reading, edits = grown(old, (), pile, {0: "Cats"}, tmp_path / "g", settings)
    row = len(old.stored)
    for before, way in zip(old.ways, reading.ways, strict=True):
        assert way.labels[:row] == before.labels and way.parts[:row] == before.parts
        assert way.labels[row] == "Cats" and way.parts[row] == ("train" if any(before.parts) else "")
        assert row in class_of(understand(reading, (*edits, Relabel(way.id))))
    assert reading.way("").parts[row] == "train"


def test_too_many_pictures_or_too_little_room_leaves_nothing(
    make_zip: Zipper, read_set: Reader, pile: Pile, settings: Settings, tmp_path: Path
) -> None:
    old = Reading.load(read_set(make_zip({"a": 3, "b": 3})).folder)
    with pytest.raises(TooLargeError, match="Found 7 pictures in “pictures.zip”; at most 6"):
        grown(old, (), pile, {0: "a"}, tmp_path / "g", replace(settings, max_pictures=6))
    with pytest.raises(DiskFullError):
        grown(old, (), pile, {0: "a"}, tmp_path / "g", replace(settings, free_disk_reserve=10**18))
    assert not (tmp_path / "g").exists()


def test_training_on_the_grown_set_learns_the_new_class(
    make_zip: Zipper, read_set: Reader, settings: Settings, tmp_path: Path
) -> None:
    images = read_set(make_zip({"star": 14, "circle": 14}))
    hearts = {f"{i}.jpg": picture(i, shape="heart") for i in range(12)}
    new = read(on_disk(tmp_path / "hearts", hearts), settings)
    _, edits = grown(Reading.load(images.folder), (), new, dict.fromkeys(range(12), "heart"), tmp_path / "g", settings)
    set_ = load(tmp_path / "g", edits)
    assert set_.counts() == (14, 12, 14) and set_.class_names == ("circle", "heart", "star")
    plan = make_plan(Wishes(), Facts.of(set_), local=(EMBEDDED,), machine=Machine(settings))
    *_, last = train(set_, tmp_path / "run", plan=plan, settings=settings, device="cpu")
    assert isinstance(last, Finished) and last.accuracy > 0.8


@pytest.fixture
def work(settings: Settings) -> Iterator[Workspace]:
    made = Workspace(settings)
    yield made
    made.sets.close()


def test_a_grown_set_has_a_key_of_its_own_and_is_looked_at_anew(
    make_zip: Zipper, read_set: Reader, pile: Pile, work: Workspace
) -> None:
    images = read_set(make_zip({"cats": 6, "dogs": 5}))
    edits = (Rename("cats", "felines"),)
    key = work.sets.grow(images.folder, edits, pile, {0: "felines"}, after=(Rename("felines", "tigers"), Drop((0,))))
    found = work.sets.images(key)
    assert found is not None and found.class_names == ("dogs", "tigers") and found.counts() == (5, 6)
    assert work.sets.name(key) == "pictures.zip" and not work.sets.lost(key)
    assert work.sets.holds(key, images.folder) and work.sets.holds(key, found.folder)
    assert not work.sets.holds(key, pile.folder) and not work.sets.holds("A" * 22, images.folder)
    log = work.sets.log(key)
    assert log is not None and isinstance(log.new()[-1], PicturesReady)
    end = time.monotonic() + 60
    while not (found.folder / LOOK).exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    # what cannot be grown leaves no set behind
    there = set(work.settings.sets_dir.iterdir())
    with pytest.raises(TooLargeError):
        Workspace(Settings(**vars(work.settings) | {"max_pictures": 3})).sets.grow(images.folder, (), pile, {0: "dogs"})
    assert set(work.settings.sets_dir.iterdir()) == there


def test_the_set_that_grows_is_the_one_the_model_was_made_from(
    make_zip: Zipper, read_set: Reader, pile: Pile, work: Workspace
) -> None:
    with gr.Blocks():
        step = BatchStep(work, translations(work.settings), gr.BrowserState({}))
    images = read_set(make_zip({"cats": 6, "dogs": 5}))
    key = work.sets.grow(images.folder, (), pile, {0: "cats"})
    folder = work.sets.images(key).folder  # type: ignore[union-attr]
    before, later = (Rename("cats", "felines"),), (Drop((1,)),)
    work.sets.change(key, before)
    run = work.start(key, Wishes(), "cpu")
    work.sets.change(key, (*before, *later))
    base = step._base({"set": key, "run": run})
    assert base is not None and (base.folder, base.before, base.after) == (folder, before, later)
    work.sets.change(key, later)  # what the run began with was undone
    base = step._base({"set": key, "run": run})
    assert base is not None and (base.before, base.after) == (later, ())
    base = step._base({"set": "", "run": run})
    assert base is not None and (base.folder, base.before) == (folder, before)
    # a model that was opened has no pictures, but the browser may have a set
    opened_model = new_key()
    (folder_of(work.settings.runs_dir, opened_model) or Path()).mkdir(parents=True)
    assert step._base({"set": "", "run": opened_model}) is None
    base = step._base({"set": key, "run": opened_model})
    assert base is not None and base.folder == folder
    shutil.rmtree(folder)
    assert step._base({"set": key, "run": run}) is None


def newest_set(app: App) -> ImageSet:
    folder = max(app.data.glob("sets/*/set"), key=lambda path: path.stat().st_mtime)
    return load(folder, from_record(json.loads((folder.parent / "edits.json").read_text())))


class TestPage:
    """A batch on the page."""

    pytestmark = NEEDS_BROWSER

    @pytest.mark.slow
    def test_a_batch_is_put_right_and_joins_the_set(
        self, context: Any, app: App, make_zip: Zipper, tmp_path: Path
    ) -> None:
        page = opened(context, app)
        page.click("#example-shapes")
        train_on_page(page)
        page.click("#to-results")
        page.click("#to-use")
        page.get_by_role("tab", name="Many pictures").click()
        content: dict[str, bytes | int] = {f"x/{i}.jpg": picture(800 + i, shape="star") for i in range(14)}
        page.set_input_files("#many-upload input[type=file]", str(make_zip({**content, "bad.txt": b"hello"})))
        page.wait_for_selector("#many-answers table tbody tr:nth-child(15)", timeout=60_000)
        assert page.locator("#many-answers img").count() == 14
        first = page.locator("#many-answers tbody tr").first.inner_text()
        assert "bad.txt" in first and "not a picture of a kind" in first
        assert "15 files: 14 recognised" in page.inner_text("#many-told")

        page.click("#many-sort")
        page.wait_for_selector("#many-sorted:visible")
        with page.expect_download() as waiting:
            page.click("#many-sorted")
        with zipfile.ZipFile(waiting.value.path()) as archive:
            assert len(archive.namelist()) == 16 and "could not be read/bad.txt" in archive.namelist()

        assert page.locator("#many-review li").count() == 12
        assert page.is_disabled("#many-add")
        card = page.locator("#many-review li").first
        card.locator("select").select_option(label="heart")
        page.wait_for_selector("#many-add:has-text('Add these 1')")
        assert "✓ heart" in card.inner_text()
        page.locator("#many-review li").nth(1).locator("button").click()
        page.wait_for_selector("#many-add:has-text('Add these 2')")
        page.locator("#many-review li").nth(1).locator("select").select_option(label="leave it out")
        page.wait_for_selector("#many-add:has-text('Add these 1')")
        page.click("#many-add")
        page.wait_for_selector("#many-grown:has-text('1 to “heart”')")
        page.wait_for_selector("#many-train:visible")
        assert not page.is_visible("#many-review") and page.is_visible("#many-answers table")
        grown_set = newest_set(app)
        last = grown_set.pictures[-1]
        assert grown_set.class_names[last.label] == "heart" and last.name.startswith("x/")
        assert last.row == grown_set.stored - 1 == max(picture.row for picture in grown_set.pictures)
        assert list((app.data / "scratch").glob("*")) == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
