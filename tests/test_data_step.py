"""Step 1 in a real browser: every way in, what was understood of it, and every change a person can make to it."""

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.browser import NEEDS_BROWSER, App, opened, train_on_page, upload
from tests.conftest import Zipper, picture, shared

pytestmark = NEEDS_BROWSER
SHAPES = ("star", "circle", "heart")


def understood(page: Any, sentence: str = "") -> str:
    """The text of what was understood, once it says `sentence` and the closer look is over."""
    page.wait_for_selector("#understood .tl-cards", timeout=60_000)
    if sentence:
        page.wait_for_selector(f"#understood:has-text('{sentence}')")
    page.wait_for_selector("#understood:not(:has-text('Looking closer'))", timeout=60_000)
    text: str = page.inner_text("#understood")
    return text


def classes(page: Any) -> dict[str, int]:
    """Name and number of every card."""
    heads = page.locator("#understood .tl-card-head")
    found = heads.evaluate_all("all => all.map(head => [head.children[0].textContent, head.children[1].textContent])")
    return {name: int(number.split()[0]) for name, number in found}


def card(page: Any, label: str) -> Any:
    return page.locator(f"#understood .tl-cards > li:has(b:text-is('{label}'))")


def eventually(page: Any, expected: dict[str, int]) -> None:
    for _ in range(100):
        if classes(page) == expected:
            return
        page.wait_for_timeout(100)
    assert classes(page) == expected


def drawn(folder: Path, label: str, count: int, shape: str) -> list[Path]:
    """`count` pictures in a folder called `label`."""
    (folder / label).mkdir(parents=True)
    files = [folder / label / f"{i}.jpg" for i in range(count)]
    for i, file in enumerate(files):
        file.write_bytes(picture(i, shape=shape))
    return files


@pytest.mark.slow
def test_the_leak_of_the_monkeys_is_shown_with_what_it_fakes(context: Any, app: App) -> None:
    page = opened(context, app)
    upload(page, shared("monkeys10.zip"))
    text = understood(page)
    assert "1096 for training, 272 for validation" in text
    assert "which fakes the score: a quick model seemed" in text
    finding = page.locator("#understood [data-key=leak_faked]")
    finding.get_by_role("button", name="Look at them").click()
    finding.locator(".tl-cases li:nth-child(12)").wait_for()
    assert finding.locator(".tl-cases img").count() >= 24
    assert page.locator("#to-train:visible").count() == 1


@pytest.mark.slow
def test_copies_conflicts_and_small_pictures_are_settled_by_one_click_each(
    context: Any, app: App, make_zip: Zipper
) -> None:
    same, twice = picture(80), picture(81, shape="heart")
    content: dict[str, bytes | int] = {"a": 8, "b": 8, "a/same.jpg": same, "b/same.jpg": same, "a/1.jpg": twice}
    content |= {"a/2.jpg": twice, "b/speck.jpg": picture(5, size=(20, 20))}
    page = opened(context, app)
    upload(page, make_zip(content))
    understood(page, "1 picture is in more than one class")
    conflict = page.locator("#understood [data-key=copies_across_classes]")
    conflict.get_by_role("button", name="Look at them").click()
    conflict.get_by_role("button", name="Keep it in “b”").click()
    page.wait_for_selector("#understood:not(:has-text('more than one class'))")
    page.locator("#understood [data-key=copies]").get_by_role("button", name="Keep one of each").click()
    page.wait_for_selector("#understood:not(:has-text('exact copies'))")
    page.locator("#understood [data-key=tiny]").get_by_role("button", name="Leave them all out").click()
    page.wait_for_selector("#understood:not(:has-text('smaller than 32'))")
    eventually(page, {"a": 9, "b": 9})
    page.reload()
    understood(page)
    eventually(page, {"a": 9, "b": 9})
    assert "Your changes: 3" in page.inner_text("#understood")
    page.get_by_role("button", name="Undo the last change").click()
    eventually(page, {"a": 9, "b": 10})
    page.get_by_role("button", name="Undo all changes").click()
    eventually(page, {"a": 11, "b": 10})


def test_classes_are_renamed_merged_left_out_and_pictures_moved_and_the_model_knows(
    context: Any, app: App, make_zip: Zipper
) -> None:
    page = opened(context, app)
    upload(page, make_zip({"a": 12, "b": 12, "c": 12, "d": 12}))
    understood(page)
    card(page, "a").get_by_text("Change this class").click()
    card(page, "a").locator("input[name=to]").fill("<b>stars</b>")
    card(page, "a").get_by_role("button", name="Rename").click()
    eventually(page, {"<b>stars</b>": 12, "b": 12, "c": 12, "d": 12})
    card(page, "d").get_by_text("Change this class").click()
    card(page, "d").locator("select[name=into]").select_option("b")
    card(page, "d").get_by_role("button", name="Merge", exact=True).click()
    eventually(page, {"<b>stars</b>": 12, "b": 24, "c": 12})
    card(page, "c").get_by_text("Change this class").click()
    card(page, "c").get_by_role("button", name="Leave this class out").click()
    eventually(page, {"<b>stars</b>": 12, "b": 24})

    card(page, "b").get_by_role("button", name="Show all pictures").click()
    ticks = page.locator("#understood .tl-tick input")
    for at in (0, 1, 2):
        ticks.nth(at).check()
    page.locator("#understood .tl-pick select[name=to]").select_option("<b>stars</b>")
    page.locator("#understood .tl-pick").get_by_role("button", name="Move", exact=True).click()
    eventually(page, {"<b>stars</b>": 15, "b": 21})
    page.locator("#understood .tl-tick input").first.check()
    page.get_by_role("button", name="Leave the ticked ones out").click()
    eventually(page, {"<b>stars</b>": 15, "b": 20})

    train_on_page(page)
    page.click("#to-results")
    page.wait_for_selector(".tl-headline")
    assert page.locator(".tl-confusion thead th").all_inner_texts()[1:] == ["<b>stars</b>", "b"]
    newest = max(app.data.glob("runs/*/request.json"), key=lambda file: file.stat().st_mtime)
    kinds = [edit["do"] for edit in json.loads(newest.read_text())["edits"]]
    assert kinds == ["rename", "rename", "leave_out", "move", "drop"]


@pytest.mark.slow
def test_classes_guessed_from_file_names_have_to_be_confirmed(context: Any, app: App, make_zip: Zipper) -> None:
    shapes = {"cat": "star", "dog": "circle"}
    content = {f"{name}.{i}.jpg": picture(i, shape=shape) for name, shape in shapes.items() for i in range(9)}
    page = opened(context, app)
    upload(page, make_zip(content))
    text = understood(page)
    assert "guessed from the file names: “cat”, “dog”" in text
    assert page.locator("#to-train:visible").count() == 0
    page.get_by_role("button", name="Yes, use these classes").click()
    page.wait_for_selector("#to-train:visible")
    assert classes(page) == {"cat": 9, "dog": 9}


def test_a_table_offers_its_columns(context: Any, app: App, make_zip: Zipper) -> None:
    content = {f"pictures/{i:02}.jpg": picture(i, shape=SHAPES[i % 3]) for i in range(24)}
    rows = [
        ["file", "shape", "colour"],
        *([f"{i:02}.jpg", SHAPES[i % 3], "red" if i % 2 else "blue"] for i in range(24)),
    ]
    table = "\n".join(",".join(row) for row in rows).encode()
    page = opened(context, app)
    upload(page, make_zip({**content, "labels.csv": table}))
    understood(page)
    first = classes(page)
    assert set(first.values()) in ({8}, {12})
    other = "colour" if len(first) == 3 else "shape"
    options = page.locator("#understood select[name=way] option").all_text_contents()
    page.locator("#understood select[name=way]").select_option(label=next(text for text in options if other in text))
    eventually(page, {"blue": 12, "red": 12} if other == "colour" else dict.fromkeys(SHAPES, 8))


@pytest.mark.slow
def test_zips_and_tars_of_one_class_each_are_one_set(context: Any, app: App, make_zip: Zipper, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "hearts.tar.gz", "w:gz") as archive:
        for file in drawn(tmp_path, "loose", 6, "heart"):
            archive.add(file, file.name)
    stars = make_zip({f"{i}.jpg": picture(i) for i in range(6)}, "stars.zip")
    page = opened(context, app)
    page.set_input_files("#upload input[type=file]", [str(stars), str(tmp_path / "hearts.tar.gz")])
    understood(page)
    assert classes(page) == {"hearts": 6, "stars": 6}


@pytest.mark.slow
def test_a_chosen_folder_keeps_its_class_folders(context: Any, app: App, tmp_path: Path) -> None:
    for label, shape in zip(("stars", "circles"), SHAPES, strict=False):
        drawn(tmp_path / "my pictures", label, 6, shape)
    (tmp_path / "my pictures" / ".DS_Store").write_bytes(b"junk")
    page = opened(context, app)
    page.set_input_files("#folder .tl-folder-input", str(tmp_path / "my pictures"))
    understood(page, "“my pictures” holds 12 pictures in 2 classes")
    assert classes(page) == {"circles": 6, "stars": 6}


@pytest.mark.slow
def test_pictures_from_the_camera_and_from_files_become_classes_and_survive_a_reload(
    context: Any, app: App, tmp_path: Path
) -> None:
    page = opened(context, app)
    page.get_by_role("tab", name="Camera").click()
    first, second = page.locator("#builder .tl-class").nth(0), page.locator("#builder .tl-class").nth(1)
    first.locator(".tl-class-name").fill("screen")
    first.locator(".tl-class-name").press("Enter")
    first.locator(".tl-camera").click()
    page.wait_for_selector(".tl-shutter:enabled")
    for number in range(1, 5):
        page.click(".tl-shutter")
        first.locator(f".tl-pictures li:nth-child({number})").wait_for()
        page.wait_for_timeout(300)
    page.click(".tl-close-camera")
    second.locator(".tl-files").set_input_files([str(file) for file in drawn(tmp_path, "x", 6, "star")])
    second.locator(".tl-pictures li:nth-child(6):not(.tl-waiting)").wait_for()
    page.wait_for_selector("#builder button:has-text('Use these pictures'):enabled")
    page.reload()
    page.wait_for_selector("#upload input[type=file]", state="attached")
    page.get_by_role("tab", name="Camera").click()
    page.wait_for_selector("#builder .tl-class:nth-child(2) .tl-pictures li:nth-child(6) img[src]")
    page.get_by_role("button", name="Use these pictures").click()
    understood(page, "“Your own pictures” holds 10 pictures in 2 classes")
    assert classes(page) == {"Class 2": 6, "screen": 4}
    assert page.locator("#to-train:visible").count() == 1


@pytest.mark.slow
def test_what_is_not_used_is_named_and_can_be_downloaded(
    context: Any, app: App, make_zip: Zipper, tmp_path: Path
) -> None:
    page = opened(context, app)
    upload(page, make_zip({"a": 5, "b": 5, "a/=half.jpg": picture(9)[:900], "b/notes.txt": b"x", "a/empty.png": b""}))
    text = understood(page)
    assert "3 files are not used" in text
    with page.expect_download() as waiting:
        page.click("#skipped-file")
    waiting.value.save_as(tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(encoding="utf-8-sig") as file:
        rows = {row["File"]: row["Why it is not used"] for row in csv.DictReader(file)}
    assert rows.keys() == {"a/=half.jpg", "b/notes.txt", "a/empty.png"}
    assert rows["a/empty.png"] == "the file is empty (0 bytes)"


@pytest.mark.slow
def test_a_class_too_small_stands_in_the_way_until_it_is_left_out(context: Any, app: App, make_zip: Zipper) -> None:
    page = opened(context, app)
    upload(page, make_zip({"a": 5, "b": 5, "c": 1}))
    understood(page, "Class “c” has 1 usable picture")
    assert page.locator("#to-train:visible").count() == 0
    page.get_by_role("button", name="Leave out “c”").click()
    page.wait_for_selector("#to-train:visible")


def test_a_data_set_of_the_hub_that_cannot_be_had_is_explained(context: Any, app: App) -> None:
    page = opened(context, app)
    page.get_by_role("tab", name="Hugging Face").click()
    page.fill("#hub-name input, #hub-name textarea", "no data set at all")
    page.click("#hub-fetch")
    page.wait_for_selector("#reading .tl-bad")
    page.click("#hub-offers button:has-text('Cats and dogs')")  # the Hub answers, so some are offered
    page.wait_for_selector("#reading .tl-bad:has-text('microsoft/cats_vs_dogs')", timeout=60_000)
    page.click("#example-shapes")
    page.wait_for_selector("#to-train:visible")


def test_what_was_understood_is_the_first_thing_on_the_page_wherever_the_pictures_were_chosen(
    context: Any, app: App
) -> None:
    page = opened(context, app)
    page.click("#example-digits")  # at the bottom
    understood(page, "digits.zip")
    assert page.evaluate("scrollY") == 0
    page.wait_for_selector("#others")
    top = {
        part: page.locator(f"#{part}").bounding_box()["y"] for part in ("understood", "to-train", "others", "sources")
    }
    assert list(top) == sorted(top, key=top.__getitem__) and top["understood"] < 300


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_everything_fits_a_phone_and_works_by_keyboard(browser: Any, app: App, locale: str, make_zip: Zipper) -> None:
    narrow = browser.new_context(viewport={"width": 390, "height": 844}, locale=locale, has_touch=True)
    narrow.set_default_timeout(30_000)
    page = opened(narrow, app)
    same, long = picture(7), "a-very-long-name-of-a-class-that-nobody-would-type-but-somebody-will"
    upload(page, make_zip({long: 8, "b": 8, f"{long}/s.jpg": same, "b/s.jpg": same}))
    page.wait_for_selector("#understood [data-key=copies_across_classes] button", timeout=60_000)

    def fits() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    fits()
    page.locator("#understood [data-key=copies_across_classes] button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#understood .tl-cases img")
    fits()
    page.locator("#understood .tl-cards button[data-act=show]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#understood .tl-tick")
    fits()
    page.locator("#understood .tl-tick input").first.focus()
    page.keyboard.press("Space")
    page.locator("#understood .tl-pick button[data-act=drop]").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#understood #changes")
    fits()
    page.get_by_role("tab", name="Camera" if locale == "en-US" else "摄像头").click()
    page.wait_for_selector("#builder .tl-class")
    fits()
    narrow.close()
