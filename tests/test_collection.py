"""What the page's own parts are told by the browser, and what they keep: bounded, checked, and there after a reload."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import encode
from tl_core.errors import CollectionFullError, TooLargeError
from tl_core.settings import Settings
from tl_ui.collection import Collection, component
from tl_ui.parts import class_builder, forms
from tl_ui.parts.folder_picker import picked
from tl_ui.parts.part import source


@pytest.mark.parametrize(
    "value",
    [None, 3, "act", [], {}, {"act": 3}, {"act": "a" * 101}, {"data": []}, {"fields": {"a": {"b": 1}}},
     {"act": "\ud800"},
     {"data": {"a": "x" * 10_001}}, {"fields": {"a": ["\ud800", 1, None, ["x"]]}}],
)  # fmt: skip
def test_case_92_an_act_that_is_none_is_empty(value: object) -> None:
    act = forms.read(value)
    assert act.act == "" and not act.data and not any(act.fields.values())


def test_case_92_an_act_is_bounded() -> None:
    act = forms.read({"act": "a", "data": {str(n): "" for n in range(10_000)}, "fields": {"p": ["1"] * 100_000}})
    assert len(act.data) == 200 and len(act.fields["p"]) == 50_000


def test_no_style_is_taken_for_a_template() -> None:
    folder = Path(source.__code__.co_filename).parent
    for file in folder.glob("*.css"):
        assert not any(mark in file.read_text() for mark in ("{{", "${", "`", "\\")), file.name


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gradio's upload folder."""
    folder = tmp_path / "web"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


def listing(web: Path, *entries: object) -> dict[str, str]:
    file = web / "list.jsonl"
    file.write_text("\n".join(json.dumps(entry) for entry in entries))
    return {"list": str(file)}


def test_case_92_only_regular_files_in_the_upload_folder_are_taken(web: Path, settings: Settings) -> None:
    good, outside = web / "a.jpg", web.parent / "secret.txt"
    good.write_bytes(b"1")
    outside.write_bytes(b"2")
    (web / "link.jpg").symlink_to(outside)
    (web / "folder").mkdir()
    os.mkfifo(web / "pipe")
    bad = [
        str(outside), f"{web}/../secret.txt", str(web / "link.jpg"), str(web / "folder"), str(web / "pipe"), str(web),
        "/etc/passwd", "", "a\0b", "\ud800", "x" * 100_000, "a.jpg", None, 1, ["a"], {}, f"{web}2/a.jpg",
    ]  # fmt: skip
    value = listing(web, *([path, "cats/x.jpg"] for path in bad), [str(good), "cats/a.jpg"])
    assert picked(value, settings) == (("cats/a.jpg", good.resolve()),)


def test_case_92_a_list_that_is_none_gives_nothing(web: Path, settings: Settings) -> None:
    good = web / "a.jpg"
    good.write_bytes(b"1")
    outside = web.parent / "list.jsonl"
    outside.write_text(json.dumps([str(good), "cats/a.jpg"]))
    for value in (None, [], {}, {"list": None}, {"list": str(outside)}, {"list": {"list": 1}}):
        assert picked(value, settings) == ()
    (web / "list.jsonl").write_bytes(b"[" * 100_000 + b"\n\xff\n{}\n3\n[1,2,3]\n" + outside.read_bytes())
    assert picked({"list": str(web / "list.jsonl")}, settings) == (("cats/a.jpg", good.resolve()),)
    names = listing(web, [str(good), ""], [str(good), "a" * 4_097], [str(good), 5], [str(good), "\ud800/b.jpg"])
    assert picked(names, settings) == (("?/b.jpg", good.resolve()),)


def test_case_10_more_files_than_allowed_are_refused(web: Path) -> None:
    good = web / "a.jpg"
    good.write_bytes(b"1")
    value = listing(web, *([str(good), f"cats/{n}.jpg"] for n in range(11)))
    assert len(picked(value, Settings(max_entries=11))) == 11
    with pytest.raises(TooLargeError, match="Found > 10 files in “cats”"):
        picked(value, Settings(max_entries=10))


@pytest.fixture
def collection(tmp_path: Path, settings: Settings) -> Collection:
    made = Collection(tmp_path / "collection", settings)
    made.start(["cats", "dogs"])
    return made


def files_in(folder: Path, count: int) -> list[Path]:
    for n in range(count):
        (folder / f"up{n}").write_bytes(bytes([n % 251]) * (n + 1))
    return [folder / f"up{n}" for n in range(count)]


def test_a_collection_is_the_same_when_opened_again(collection: Collection, tmp_path: Path, settings: Settings) -> None:
    files = files_in(tmp_path, 5)
    first = collection.add_pictures("c1", files[:3])
    collection.add_pictures("c2", files[3:])
    for file in files:
        file.unlink()  # Gradio deletes its uploads after a day
    again = Collection(tmp_path / "collection", settings)
    assert again.classes() == collection.classes() and again.ready()
    assert [path.stat().st_size for _, path in again.files()] == [1, 2, 3, 4, 5]
    again.start(["other"])
    again.remove_picture("c1", str(first[0]))
    again.remove_class("c2")
    assert [(one.name, len(one.pictures)) for one in collection.classes()] == [("cats", 2)] and not collection.ready()
    assert len(list((tmp_path / "collection" / "pictures").iterdir())) == 2
    # Ids are never given twice, so that a late act about something gone cannot hit something new.
    assert collection.add_class("new") not in ("c1", "c2")
    assert not set(collection.add_pictures("c1", files_in(tmp_path, 1))) & {*first, "p4", "p5"}


def test_two_tabs_at_once_lose_nothing(collection: Collection, tmp_path: Path, settings: Settings) -> None:
    files = files_in(tmp_path, 40)
    with ThreadPoolExecutor(8) as pool:
        other = Collection(tmp_path / "collection", settings)
        list(pool.map(lambda n: (collection, other)[n % 2].add_pictures("c1", [files[n]]), range(40)))
    assert sorted(path.stat().st_size for _, path in collection.files()) == list(range(1, 41))


def test_a_change_that_was_cut_off_leaves_the_collection_as_it_was(collection: Collection, tmp_path: Path) -> None:
    collection.add_pictures("c1", files_in(tmp_path, 2))
    before = collection.classes()
    (tmp_path / "collection" / "classes.tmp").write_text("{")
    (tmp_path / "collection" / "pictures" / "p5").write_bytes(b"left over")
    assert collection.classes() == before
    collection.add_pictures("c2", files_in(tmp_path, 3))
    assert [path.stat().st_size for _, path in collection.files()] == [1, 2, 1, 2, 3]


@pytest.mark.parametrize(
    "name",
    [
        "../../etc",
        "a/b",
        "a\\b",
        "..",
        ".",
        ".hidden",
        "/abs",
        "a\x00b\n",
        "\u202egnp",
        " ",
        "x" * 300,
        "C:\\x",
        "café",
    ],
)
def test_case_11_a_class_name_is_one_part_of_a_path(name: str) -> None:
    safe = component(name)
    assert safe and len(safe) <= 64 and not set(safe) & set("/\\\0\n\u202e") and not safe.startswith(".")
    assert (Path("/base") / safe).resolve().parent == Path("/base")


def test_a_colon_behind_a_name_is_no_drive_and_no_number_is_given_twice(collection: Collection, tmp_path: Path) -> None:
    collection.rename("c1", "Type A:")
    collection.rename("c2", "B:")
    files = files_in(tmp_path, 4)
    collection.add_pictures("c1", files[:2])
    collection.add_pictures("c2", files[2:])
    assert [name for name, _ in collection.files()] == ["Type A/1.jpg", "Type A/2.jpg", "B/3.jpg", "B/4.jpg"]
    assert component(":") == "_"


def test_two_classes_of_one_name_are_one_class(collection: Collection, tmp_path: Path) -> None:
    collection.rename("c2", "cats")
    collection.rename("c1", "   ")  # no name is no change
    files = files_in(tmp_path, 4)
    collection.add_pictures("c1", files[:2])
    collection.add_pictures("c2", files[2:])
    assert [name for name, _ in collection.files()] == [f"cats/{n}.jpg" for n in (1, 2, 3, 4)]
    assert not collection.ready()


def test_limits_of_a_collection_are_kept(tmp_path: Path, settings: Settings) -> None:
    limits = replace(settings, max_pictures=4, max_classes=3, max_upload=20, max_picture_bytes=8)
    small = Collection(tmp_path / "small", limits)
    small.start(["a", "b"])
    sizes = [tmp_path / f"{size}" for size in (9, 8, 7, 6, 1)]
    for file in sizes:
        file.write_bytes(b"x" * int(file.name))
    assert small.add_pictures("c1", [sizes[0], sizes[1], tmp_path / "gone"])[::2] == (None, None)
    with pytest.raises(CollectionFullError, match="at most 4 pictures in 3 classes"):
        small.add_pictures("c1", [sizes[2], sizes[3]])  # 8 + 7 + 6 bytes
    small.add_pictures("c1", [sizes[2]])
    small.remove_picture("c1", small.classes()[0].pictures[0])  # gives its bytes back
    small.add_pictures("c2", [sizes[3], sizes[4], sizes[4]])
    with pytest.raises(CollectionFullError):
        small.add_pictures("c2", [sizes[4]])
    small.add_class("c")
    with pytest.raises(CollectionFullError):
        small.add_class("d")


def test_thumbnails_are_small_and_made_once(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, bomb = (tmp_path / name for name in ("good", "bad", "bomb"))
    good.write_bytes(encode(Image.effect_noise((900, 500), 50).convert("RGB")))
    bad.write_bytes(b"nothing")
    bomb.write_bytes(encode(Image.new("1", (13_000, 13_000)), "png"))
    ids = [str(picture) for picture in collection.add_pictures("c1", [good, bad, bomb])]
    opened_here: list[object] = []
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: opened_here.append(args))
    made = collection.thumbnails([*ids, "p99", "../x"])
    assert opened_here == [], "case 45: the web process opens no upload"
    monkeypatch.undo()
    assert set(made) == set(ids) and made[ids[1]] == "not_a_picture" and made[ids[2]] == "too_many_pixels"
    with Image.open(io.BytesIO(made[ids[0]])) as small:  # type: ignore[arg-type]
        assert small.format == "JPEG" and max(small.size) == 112
    monkeypatch.setattr("tl_ui.collection.decode_files", lambda *_: pytest.fail("decoded again"))
    assert collection.thumbnails(ids) == made


@pytest.mark.parametrize(
    "act",
    [None, [], {}, {"act": []}, {"act": "__class__"}, {"act": "rename", "class": ["c1"], "name": {}},
     {"act": "remove_class", "class": "../.."}, {"act": "remove", "class": "c1", "picture": "../classes.json"},
     {"act": "add", "class": "c1", "files": [["k", "/etc/passwd"], ["k"], None, "x", [1, {}]]},
     {"act": "add", "class": "c9", "files": []}, {"act": "add", "class": "c1", "files": {"a": 1}},
     {"act": "thumbs", "pictures": ["../../x", None, {}, "p1" * 1000]},
     {"act": "rename", "class": "c1", "name": "x" * 201}],
)  # fmt: skip
def test_case_92_an_act_made_up_by_the_client_changes_nothing(collection: Collection, web: Path, act: object) -> None:
    before = collection.classes()
    value = class_builder.apply(collection, act, "en")
    assert collection.classes() == before and "refused" not in value
    json.dumps(value)


def test_case_92_only_uploads_are_added(collection: Collection, web: Path) -> None:
    good = web / "a.jpg"
    good.write_bytes(b"1")
    act = {"act": "add", "class": "c1", "files": [["k1", str(good)], ["k2", str(web.parent)], ["k3", "/etc/passwd"]]}
    assert class_builder.apply(collection, act, "en")["added"] == {"k1": "p3"}
    act = {"act": "rename", "class": "c1", "name": "\ud800"}
    assert json.dumps(class_builder.apply(collection, act, "en")).isascii()
