"""The page's own parts in a real Chromium, on a small page of their own behind the real doorman."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from html import escape as esc
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware

from tests.conftest import picture
from tests.pace import in_time
from tl_core.settings import Settings
from tl_ui.collection import Collection
from tl_ui.guard import LOOPBACK, Guard, GuardSettings
from tl_ui.handlers import PRIVATE
from tl_ui.parts import class_builder, forms
from tl_ui.parts.folder_picker import folder_picker, picked
from tl_ui.parts.forms import Act
from tl_ui.theme import CSS, THEME
from tl_ui.words import language_of

playwright_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"),
]
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream=device-count=2", "--use-fake-ui-for-media-stream"),
]


class Stage:
    """The test's page: one part of each kind, and what their handlers were told."""

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.delay = 0.0
        self.html = ""
        self.url = ""
        self.picked: list[tuple[tuple[str, Path], ...]] = []
        self.settings = Settings(max_entries=1_500)
        self.collection = Collection(Path(), self.settings)
        self.used: list[tuple[tuple[str, Path], ...]] = []

    def build(self) -> gr.Blocks:
        with gr.Blocks(analytics_enabled=False) as page:
            form = forms.form("form", self.html)
            forms.on_act(form, self.on_act, None, form, **PRIVATE)
            page.load(lambda: self.html, None, form, **PRIVATE)
            picker = folder_picker("picker", self.settings)
            picker.picked(self.on_picked, None, None, **PRIVATE)
            builder = class_builder.class_builder("builder")
            class_builder.on_act(builder, self.on_build, None, builder, **PRIVATE)
            builder.use(lambda: self.used.append(self.collection.files()), None, None, **PRIVATE)
            page.load(self.on_load, None, builder, **PRIVATE)
        return page

    def on_build(self, request: gr.Request, event: gr.EventData) -> dict[str, Any]:
        return class_builder.apply(self.collection, event, language_of(request))

    def on_load(self, request: gr.Request) -> dict[str, Any]:
        return class_builder.shown(self.collection, language_of(request))

    def on_picked(self, event: gr.EventData) -> None:
        self.picked.append(picked(event, self.settings))

    def on_act(self, event: gr.EventData) -> str:
        self.acts.append(forms.read(event))
        time.sleep(self.delay)
        if self.acts[-1].act == "fail":
            raise gr.Error("No.", print_exception=False)
        return self.html

    def wait(self, count: int) -> list[Act]:
        until_there_are(self.acts, count)
        return self.acts


def until_there_are(things: list[Any], count: int, seconds: float = 8) -> None:
    until = time.monotonic() + seconds
    while len(things) < count and time.monotonic() < until:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage()
    web = tmp_path_factory.mktemp("web")
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(web)
    guard = GuardSettings(LOOPBACK, max_upload=100_000_000)
    page = stage.build()
    page.queue(max_size=64, api_open=False, default_concurrency_limit=16)
    _, stage.url, _ = page.launch(
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=2_000_000,
        app_kwargs={"middleware": [Middleware(Guard, settings=guard)], "openapi_url": None},
        theme=THEME,
        css=CSS,
    )
    yield stage
    page.close(verbose=False)
    os.environ.pop("GRADIO_TEMP_DIR") if before is None else os.environ.update(GRADIO_TEMP_DIR=before)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Any, served: Stage, tmp_path: Path, settings: Settings) -> Iterator[Any]:
    """A browser profile of its own; fails the test on a script error or any request that leaves the machine."""
    fresh = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US", permissions=["camera"])
    fresh.set_default_timeout(10_000)
    problems: list[str] = []
    fresh.on(
        "request", lambda r: problems.append(r.url) if not r.url.startswith((served.url, "data:", "blob:")) else None
    )
    fresh.on("weberror", lambda e: problems.append(str(e.error)) if "aborted" not in str(e.error) else None)
    fresh.on(
        "console", lambda m: problems.append(m.text) if "js_on_load" in m.text or "watch callback" in m.text else None
    )
    served.acts.clear()
    served.picked.clear()
    served.used.clear()
    served.delay = 0.0
    served.collection = Collection(tmp_path / "collection", settings)
    yield fresh
    fresh.close()
    assert problems == []


def opened(context: Any, stage: Stage, html: str = "<p>-</p>") -> Any:
    stage.html = html
    page = context.new_page()
    page.goto(stage.url)
    page.wait_for_selector("#form .tl-part > *")
    return page


# forms


PICTURES = "".join(
    f'<label data-key="{n}"><input type="checkbox" name="picture" value="{n}" data-focus="tick {n}"> {n}</label>'
    for n in range(5)
)
TICKS = f'<div data-fields>{PICTURES}<button data-act="drop" data-class-id="7">Drop</button></div>'


def without(*gone: int) -> str:
    kept = "".join(
        part + "</label>" for part in PICTURES.split("</label>")[:-1] if not any(f'"{n}"' in part for n in gone)
    )
    return TICKS.replace(PICTURES, kept)


def test_ticks_and_a_button_are_one_act_and_go_on_working_after_new_html(context: Any, served: Stage) -> None:
    page = opened(context, served, TICKS)
    page.check("[value='1']")
    page.check("[value='3']")
    served.html = without(1, 3)
    page.click("[data-act=drop]")
    page.wait_for_selector("[value='1']", state="detached")
    assert served.acts == [Act("drop", {"class-id": "7"}, {"picture": ("1", "3")})]
    # What took the place of a ticked picture is not ticked.
    assert page.locator("input:checked").count() == 0
    page.check("[value='4']")
    page.click("[data-act=drop]")
    assert served.wait(2)[1].fields == {"picture": ("4",)}


def test_a_form_and_a_menu_act_by_keyboard(context: Any, served: Stage) -> None:
    page = opened(
        context,
        served,
        '<form data-act="rename" data-class="a&quot;b"><input name="name" value="old">'
        '<input type="checkbox" name="keep" value="yes" checked><input name="off" value="1" disabled>'
        "<button>Save</button></form>"
        '<select data-act="sort" name="by"><option>name<option>size</select>',
    )
    page.fill("[name=name]", "<b>neu</b> 猫")
    page.keyboard.press("Enter")
    served.wait(1)
    page.select_option("select", "size")
    assert served.wait(2) == [
        Act("rename", {"class": 'a"b'}, {"name": ("<b>neu</b> 猫",), "keep": ("yes",)}),
        Act("sort", {}, {"by": ("size",)}),
    ]


def test_focus_scrolling_and_open_details_stay(context: Any, served: Stage) -> None:
    rows = "".join(
        f'<li data-key="r{n}"><button data-act="see" data-focus="row {n}">{n}</button></li>' for n in range(80)
    )
    html = f'<details id="more"><summary>More</summary><p id="told">one</p></details><ul>{rows}</ul>'
    page = opened(context, served, html)
    page.click("#more summary")
    page.focus("[data-focus='row 60']")
    assert page.evaluate("window.scrollY") > 0
    top = "document.activeElement.getBoundingClientRect().top"
    before = page.evaluate(top)
    page.evaluate("document.activeElement.marked = true")
    served.html = html.replace("one", "two").replace(
        '<li data-key="r3"><button data-act="see" data-focus="row 3">3</button></li>', ""
    )
    page.keyboard.press("Enter")
    page.wait_for_selector("#told:has-text('two')", state="attached")
    assert page.locator("#more").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.dataset.focus") == "row 60"
    assert page.evaluate("document.activeElement.marked"), "the same element, not one drawn anew"
    assert abs(page.evaluate(top) - before) <= 2, "a row above went away; what one looks at stays where it was"
    # The element in use is replaced by another of the same key.
    served.html = '<div id="other"><a href="#" data-focus="row 60">here</a></div>'
    page.keyboard.press("Enter")
    page.wait_for_selector("#other")
    assert page.evaluate("document.activeElement.textContent") == "here"
    served.html = "<p>nothing</p>"
    page.evaluate("document.querySelector('#other a').dataset.act = 'x'")
    page.keyboard.press("Enter")
    page.wait_for_selector("#form p:has-text('nothing')")
    assert page.evaluate("document.activeElement.closest('#form') !== null"), "the keyboard goes on from here"


def test_what_is_pressed_meanwhile_waits_its_turn_and_a_double_click_is_one(context: Any, served: Stage) -> None:
    buttons = "".join(f'<button data-act="go" data-to="{n}">{n}</button>' for n in range(3))
    page = opened(context, served, buttons + '<button data-act="fail">fail</button>')
    served.delay = 0.3
    page.dblclick("[data-to='0']")
    page.click("[data-act=fail]")
    page.click("[data-to='1']")
    page.click("[data-to='2']")
    page.click("[data-to='2']")
    served.wait(4)
    page.wait_for_selector("#form [aria-busy=false]")
    assert [(act.act, act.data.get("to")) for act in served.acts] == [
        ("go", "0"),
        ("fail", None),
        ("go", "1"),
        ("go", "2"),
    ]


def test_what_is_typed_while_the_server_works_is_kept(context: Any, served: Stage) -> None:
    inputs = '<input name="a" id="a" value="1"><input name="b" id="b" value="1">'
    html = f'<div data-fields>{inputs}<button data-act="go">Go</button></div>'
    page = opened(context, served, html)
    page.fill("#a", "mine")
    served.delay = 0.4
    served.html = html.replace('value="1"', 'value="2"') + "<p id=new>new</p>"
    page.click("[data-act=go]")
    page.fill("#b", "being typed")
    page.wait_for_selector("#new")
    assert page.input_value("#a") == "2", "it was sent, so the server's counts"
    assert page.input_value("#b") == "being typed"


def test_only_the_act_travels_to_the_server(context: Any, served: Stage) -> None:
    page = opened(context, served, f"<p>{'secret' * 1000}</p><button data-act=go>Go</button>")
    with page.expect_request(lambda r: "queue/join" in r.url and "go" in (r.post_data or "")) as sent:
        page.click("[data-act=go]")
    assert "secret" not in sent.value.post_data and len(sent.value.post_data) < 500


def test_case_70_what_a_visitor_wrote_comes_back_as_text(context: Any, served: Stage) -> None:
    hostile = '"><img src=x onerror="window.hit=1">{{7*7}}${window.hit=1}`'
    page = opened(
        context, served, f'<p title="{esc(hostile)}">{esc(hostile)}</p><button data-act="{esc(hostile)}">Go</button>'
    )
    page.click("#form button")
    assert served.wait(1)[0].act == hostile
    assert page.inner_text("#form p") == hostile and page.evaluate("window.hit") is None


# the folder picker


def class_folders(folder: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for n in range(count):
            (folder / name / f"{n:04}.jpg").write_bytes(picture(n))
    (folder / ".DS_Store").write_bytes(b"junk")
    return folder


def rels(stage: Stage) -> list[str]:
    until_there_are(stage.picked, 1)
    assert len(stage.picked) == 1
    return sorted(rel for rel, _ in stage.picked[0])


def test_a_chosen_folder_keeps_its_class_folders(context: Any, served: Stage, tmp_path: Path) -> None:
    page = opened(context, served)
    folder = class_folders(tmp_path / "animals", cats=3, 狗=2)
    assert page.is_visible(".tl-folder") and not page.is_visible(".tl-pictures")
    page.set_input_files("#picker .tl-folder-input", str(folder))
    page.wait_for_selector(".tl-status:has-text('5 files uploaded.')")
    assert rels(served) == [
        *(f"animals/cats/000{n}.jpg" for n in range(3)),
        "animals/狗/0000.jpg",
        "animals/狗/0001.jpg",
    ]
    for rel, file in served.picked[0]:
        assert file.read_bytes() == (tmp_path / rel).read_bytes()
    # The same folder once more is an upload of its own.
    page.set_input_files("#picker .tl-folder-input", str(folder))
    until_there_are(served.picked, 2)
    assert len(served.picked[1]) == 5


def drop(context: Any, page: Any, *paths: Path) -> None:
    """Drop real files and folders on the picker, as a file manager does."""
    box = page.locator("#picker .tl-picker").bounding_box()
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


def test_dropped_folders_and_files_keep_their_folders(context: Any, served: Stage, tmp_path: Path) -> None:
    page = opened(context, served)
    folders = class_folders(tmp_path, cats=110, dogs=2)  # a folder is read in pieces of 100
    (tmp_path / "dogs" / "puppies").mkdir()
    (tmp_path / "dogs" / "puppies" / "a.jpg").write_bytes(picture(900))
    (tmp_path / "labels.csv").write_text("file,label\n")
    drop(context, page, folders / "cats", folders / "dogs", tmp_path / "labels.csv", tmp_path / ".DS_Store")
    page.wait_for_selector(".tl-status:has-text('114 files uploaded.')")
    found = rels(served)
    assert len(found) == 114 and found[0] == "cats/0000.jpg"
    assert found[-3:] == ["dogs/0001.jpg", "dogs/puppies/a.jpg", "labels.csv"]


def test_an_upload_is_cancelled_at_once_and_another_can_follow(context: Any, served: Stage, tmp_path: Path) -> None:
    page = opened(context, served)
    folder = class_folders(tmp_path / "animals", cats=200)
    held: list[Any] = []
    page.route("**/upload", lambda route: held.append(route) if len(held) < 3 else route.continue_())
    page.set_input_files("#picker .tl-folder-input", str(folder))
    page.wait_for_selector(".tl-status:has-text('0 of 200 files uploaded')")
    assert page.is_disabled(".tl-folder")
    started = time.monotonic()
    page.click("#picker .tl-cancel")
    page.wait_for_selector(".tl-status:has-text('Cancelled')")
    assert in_time(time.monotonic() - started, 1)
    assert page.evaluate("document.activeElement.className") == "tl-folder"
    page.unroute("**/upload")
    page.set_input_files("#picker .tl-folder-input", str(folder))
    page.wait_for_selector(".tl-status:has-text('200 files uploaded.')")
    assert len(rels(served)) == 200


def test_a_file_the_server_refuses_is_counted_and_the_rest_goes_on(context: Any, served: Stage, tmp_path: Path) -> None:
    page = opened(context, served)
    folder = class_folders(tmp_path / "animals", cats=3)
    (folder / "cats" / "huge.tif").write_bytes(bytes(2_000_001))
    page.set_input_files("#picker .tl-folder-input", str(folder))
    page.wait_for_selector(".tl-status:has-text('3 files uploaded; 1 could not be')")
    assert "animals/cats/huge.tif" not in rels(served)


def test_too_many_files_and_an_empty_folder_are_said_before_anything_is_sent(
    context: Any, served: Stage, tmp_path: Path
) -> None:
    page = opened(context, served)
    (tmp_path / "many").mkdir()
    for n in range(1_501):
        (tmp_path / "many" / f"{n}.jpg").touch()
    page.set_input_files("#picker .tl-folder-input", str(tmp_path / "many"))
    page.wait_for_selector(".tl-status:has-text('That is 1,501 files; at most 1,500 files and 4 GB')")
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "Thumbs.db").touch()
    page.set_input_files("#picker .tl-folder-input", str(tmp_path / "none"))
    page.wait_for_selector(".tl-status:has-text('There are no files in it')")
    assert served.picked == []


def test_a_phone_offers_pictures_and_speaks_chinese(browser: Any, served: Stage, tmp_path: Path) -> None:
    phone = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, locale="zh-CN", color_scheme="dark"
    )
    served.picked.clear()
    page = opened(phone, served)
    (tmp_path / "a.jpg").write_bytes(picture(1))
    button = page.locator("#picker .tl-pictures")
    assert button.inner_text() == "选择图片" and button.bounding_box()["height"] >= 44
    with page.expect_file_chooser() as chooser:
        button.tap()
    chooser.value.set_files(str(tmp_path / "a.jpg"))
    page.wait_for_selector(".tl-status:has-text('已上传 1 个文件')")
    assert rels(served) == ["a.jpg"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()


@pytest.mark.slow
def test_thirteen_hundred_files_take_seconds(context: Any, served: Stage, tmp_path: Path) -> None:
    page = opened(context, served)
    folder = class_folders(tmp_path / "animals", cats=650, dogs=650)
    started = time.monotonic()
    page.set_input_files("#picker .tl-folder-input", str(folder))
    page.wait_for_selector(".tl-status:has-text('1,300 files uploaded.')", timeout=60_000)
    assert time.monotonic() - started < 10  # 2 to 3 seconds; one request a file took 14
    assert len(rels(served)) == 1_300


# the class builder


def built(context: Any, stage: Stage) -> Any:
    page = opened(context, stage)
    page.wait_for_selector("#builder .tl-class")
    return page


def card(page: Any, number: int) -> Any:
    return page.locator("#builder .tl-class").nth(number)


def jpegs(folder: Path, *numbers: int) -> list[str]:
    for n in numbers:
        (folder / f"{n}.jpg").write_bytes(picture(n))
    return [str(folder / f"{n}.jpg") for n in numbers]


def counts(stage: Stage) -> list[tuple[str, int]]:
    return [(one.name, len(one.pictures)) for one in stage.collection.classes()]


def pictures_of(stage: Stage, number: int) -> int:
    """How many pictures the server keeps of one class; 0 while there is no such class."""
    return dict(enumerate(count for _, count in counts(stage))).get(number, 0)


def eventually(check: Any, seconds: float = 8) -> None:
    until = time.monotonic() + seconds
    while not check() and time.monotonic() < until:
        time.sleep(0.02)
    assert check()


def idle(page: Any) -> None:
    page.wait_for_selector("#builder .tl-builder:not([aria-busy=true])")
    page.wait_for_function("!document.querySelector('#builder .tl-waiting')")


SHOWN = "document.querySelectorAll('#builder .tl-pictures img').length === {0} && \
    [...document.querySelectorAll('#builder .tl-pictures img')].every((i) => i.complete && i.naturalWidth > 0)"


def test_classes_named_and_filled_are_there_after_a_reload(context: Any, served: Stage, tmp_path: Path) -> None:
    page = built(context, served)
    assert [card(page, n).locator(".tl-class-name").input_value() for n in (0, 1)] == ["Class 1", "Class 2"]
    assert not served.collection.exists(), "looking keeps nothing"
    assert page.is_disabled(".tl-use")
    card(page, 0).locator(".tl-class-name").fill("猫 <b>cats</b>")
    page.keyboard.press("Enter")
    card(page, 0).locator(".tl-files").set_input_files(jpegs(tmp_path, 1, 2, 3))
    card(page, 1).locator(".tl-files").set_input_files(jpegs(tmp_path, 4, 5))
    page.wait_for_selector(".tl-use:enabled")
    page.wait_for_function(SHOWN.format(5))
    assert counts(served) == [("猫 <b>cats</b>", 3), ("Class 2", 2)]

    page.reload()
    page.wait_for_function(SHOWN.format(5))
    assert card(page, 0).locator(".tl-class-name").input_value() == "猫 <b>cats</b>"
    assert card(page, 0).locator(".tl-class-count").inner_text() == "3 pictures"
    card(page, 0).get_by_role("button", name="Remove picture 3").click()  # the newest
    eventually(lambda: pictures_of(served, 0) == 2)
    idle(page)
    assert page.evaluate("document.activeElement.ariaLabel") == "Remove picture 2", "the keyboard goes on beside it"
    page.on("dialog", lambda dialog: dialog.accept())
    card(page, 1).get_by_role("button", name="Remove the class “Class 2”").click()
    eventually(lambda: counts(served) == [("猫 <b>cats</b>", 2)])
    page.click(".tl-add-class")
    eventually(lambda: counts(served)[1:] == [("Class 2", 0)])
    page.wait_for_function("document.activeElement.value === 'Class 2'")
    page.keyboard.type("dogs")  # the new class's name is selected
    card(page, 1).locator(".tl-files").set_input_files(jpegs(tmp_path, 6, 7))
    page.click(".tl-use:enabled")
    until_there_are(served.used, 1)
    names = [name for name, _ in served.used[0]]
    assert names == ["猫 <b>cats<-b>/1.jpg", "猫 <b>cats<-b>/2.jpg", "dogs/3.jpg", "dogs/4.jpg"]
    assert {file.read_bytes() for _, file in served.used[0]} == {picture(n) for n in (1, 2, 6, 7)}


def test_a_picture_the_browser_cannot_show_is_shown_by_the_server(context: Any, served: Stage, tmp_path: Path) -> None:
    page = built(context, served)
    (tmp_path / "a.tif").write_bytes(picture(1, ending="tif"))
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    card(page, 0).locator(".tl-files").set_input_files([str(tmp_path / "a.tif"), str(tmp_path / "b.jpg")])
    page.wait_for_selector(".tl-why:has-text('not a picture')")
    page.wait_for_function("document.querySelector('#builder li img:not([hidden])')?.naturalWidth > 0")
    assert page.locator("#builder li img:not([hidden])").get_attribute("src").startswith("data:image/jpeg")


def test_the_camera_takes_one_a_click_and_several_while_held(context: Any, served: Stage) -> None:
    page = built(context, served)
    card(page, 0).locator(".tl-camera").click()
    page.wait_for_selector(".tl-shutter:enabled")
    assert page.evaluate("document.activeElement.className").endswith("tl-shutter")
    page.click(".tl-shutter")
    eventually(lambda: pictures_of(served, 0) == 1)
    for key in ("Space", "Enter"):
        page.keyboard.press(key)
    eventually(lambda: pictures_of(served, 0) == 3)
    box = page.locator(".tl-shutter").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.wait_for_timeout(1_500)
    page.mouse.up()
    idle(page)
    held = pictures_of(served, 0) - 3
    assert 3 <= held <= 8, held
    page.wait_for_timeout(600)
    assert pictures_of(served, 0) == 3 + held, "none after the button was let go"
    page.evaluate("document.querySelector('.tl-shutter').click()")  # as assistive technology does
    eventually(lambda: pictures_of(served, 0) == 4 + held)

    for _, file in served.collection.files():
        with Image.open(file) as image:
            assert image.format == "JPEG" and max(image.size) <= 640 and len(set(image.getdata())) > 10
    filming = "document.querySelector('video')?.srcObject?.getVideoTracks()[0]"
    first = page.evaluate(f"{filming}.getSettings().deviceId")
    page.get_by_role("button", name="Other camera").click()
    page.wait_for_function(f"({filming}?.getSettings().deviceId ?? '{first}') !== '{first}'")
    page.wait_for_selector(".tl-shutter:enabled")
    page.evaluate(f"window.track = {filming}")
    page.click(".tl-close-camera")
    assert page.locator("video").count() == 0 and page.evaluate("window.track.readyState") == "ended"
    assert page.evaluate("document.activeElement.className") == "tl-camera"


def test_the_camera_stops_when_the_step_is_left(context: Any, served: Stage) -> None:
    page = built(context, served)
    card(page, 1).locator(".tl-camera").click()
    page.wait_for_selector(".tl-shutter:enabled")
    page.evaluate("window.track = document.querySelector('video').srcObject.getVideoTracks()[0]")
    page.evaluate("document.querySelector('#builder').parentElement.style.display = 'none'")
    page.wait_for_function("window.track.readyState === 'ended'")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("NotAllowedError", "does not let this page"),
        ("NotFoundError", "No camera was found"),
        ("NotReadableError", "in use"),
    ],
)
@pytest.mark.few(1)
def test_why_there_is_no_camera_is_said(context: Any, served: Stage, error: str, sentence: str) -> None:
    page = built(context, served)
    broken = f"async () => {{ throw new DOMException('', '{error}'); }}"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {broken}; }}")
    card(page, 0).locator(".tl-camera").click()
    page.wait_for_selector(f".tl-camera-holder p:has-text('{sentence}')")
    assert page.is_disabled(".tl-shutter")


def test_a_full_collection_says_so_and_keeps_what_it_has(context: Any, served: Stage, tmp_path: Path) -> None:
    served.collection = Collection(tmp_path / "small", replace(served.settings, max_pictures=3, free_disk_reserve=0))
    page = built(context, served)
    card(page, 0).locator(".tl-files").set_input_files(jpegs(tmp_path, 1, 2))
    eventually(lambda: pictures_of(served, 0) == 2)
    card(page, 1).locator(".tl-files").set_input_files(jpegs(tmp_path, 3, 4))
    page.wait_for_selector(".tl-status:has-text('Nothing was added: at most 3 pictures')")
    idle(page)
    assert page.locator("#builder .tl-pictures li").count() == 2
    card(page, 1).locator(".tl-files").set_input_files(jpegs(tmp_path, 5))
    eventually(lambda: counts(served) == [("Class 1", 2), ("Class 2", 1)])


def test_the_class_builder_fits_a_phone_in_chinese_and_dark(browser: Any, served: Stage, tmp_path: Path) -> None:
    phone = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, locale="zh-CN", color_scheme="dark"
    )
    served.collection = Collection(tmp_path / "collection", replace(served.settings, free_disk_reserve=0))
    page = built(phone, served)
    assert card(page, 0).locator(".tl-class-name").input_value() == "类别 1"
    card(page, 0).locator(".tl-files").set_input_files(jpegs(tmp_path, *range(30)))
    page.wait_for_selector(".tl-all:has-text('显示全部 30 张')")
    card(page, 0).locator(".tl-camera").tap()
    page.wait_for_selector(".tl-shutter:enabled")
    page.tap(".tl-shutter")
    eventually(lambda: pictures_of(served, 0) == 31)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    small = (
        "[...document.querySelectorAll('#builder button')].filter((b) => b.offsetParent && b.offsetHeight < 36).length"
    )
    assert page.evaluate(small) == 0
    page.screenshot(path=os.environ.get("TL_SCREENSHOT", str(tmp_path / "phone.png")), full_page=True)
    phone.close()


def test_case_70_class_names_stay_text_in_the_builder(context: Any, served: Stage, tmp_path: Path) -> None:
    hostile = '<img src=x onerror="window.hit=1">{{7*7}}${1}'
    served.collection.start([hostile, "b"])
    served.collection.add_pictures("c1", [Path(jpegs(tmp_path, 1)[0])])
    page = built(context, served)
    page.wait_for_function(SHOWN.format(1))
    assert card(page, 0).locator(".tl-class-name").input_value() == hostile
    assert page.evaluate("window.hit") is None and page.locator("img[src='x']").count() == 0
