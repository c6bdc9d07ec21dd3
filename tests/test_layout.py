"""From paths to classes and splits: every sane layout means what a person thinks it means."""

import hashlib
import os
import random
import subprocess
import sys
import time
import uuid
import zipfile
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import shared
from tests.pace import in_time
from tl_core import wording
from tl_core.data.labelling import Labelling, labellings
from tl_core.data.layout import Place, interpret, merge_labels, natural_order, part_of
from tl_core.data.uploads import Upload, told_apart


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["cats/1.jpg", "dogs/1.jpg"], {"cats/1.jpg": ("cats", ""), "dogs/1.jpg": ("dogs", "")}),
        (["my zip/pets/cats/1.jpg", "my zip/pets/dogs/1.jpg"], {"my zip/pets/cats/1.jpg": ("cats", "")}),
        (["d/train/cats/1.jpg", "d/val/cats/2.jpg"], {"d/train/cats/1.jpg": ("cats", "train")}),
        (["Train/cats/1.JPG", "TEST/cats/2.JPG"], {"TEST/cats/2.JPG": ("cats", "test")}),
        (["training/a/1.png", "validation/a/2.png"], {"validation/a/2.png": ("a", "val")}),
        (["cats/train/1.jpg", "cats/test/2.jpg", "dogs/train/1.jpg"], {"cats/test/2.jpg": ("cats", "test")}),
        (["训练集/猫/1.jpg", "测试集/猫/2.jpg"], {"测试集/猫/2.jpg": ("猫", "test")}),
        # "test" is a class when nothing is called "train"
        (["test/1.jpg", "control/1.jpg"], {"test/1.jpg": ("test", ""), "control/1.jpg": ("control", "")}),
        # sub-folders of a class belong to it
        (["cats/2020/1.jpg", "dogs/2021/1.jpg"], {"cats/2020/1.jpg": ("cats", "")}),
        # a note beside the wrapper folder does not hide it
        (["README.md", "pets/cats/1.jpg", "pets/dogs/1.jpg"], {"pets/cats/1.jpg": ("cats", ""), "README.md": None}),
        # a class may be called "train" too
        (["car/1.jpg", "train/1.jpg", "bus/1.jpg"], {"train/1.jpg": ("train", ""), "car/1.jpg": ("car", "")}),
        (["v/car/1.jpg", "v/train/1.jpg"], {"v/train/1.jpg": ("train", "")}),
        (["d/training_set/a/1.jpg", "d/test_set/a/2.jpg"], {"d/test_set/a/2.jpg": ("a", "test")}),
        (
            ["seg_train/a/1.jpg", "Test data/b/2.jpg"],
            {"seg_train/a/1.jpg": ("a", "train"), "Test data/b/2.jpg": ("b", "test")},
        ),
        # loose pictures are in no class, and do not make the folder around the classes one
        (
            ["w/p/a/1.jpg", "w/p/b/1.jpg", "w/1.jpg", "2.jpg"],
            {"w/p/a/1.jpg": ("a", ""), "w/1.jpg": None, "2.jpg": None},
        ),
        (["test/a/1.jpg", "test/b/1.jpg"], {"test/a/1.jpg": ("a", "")}),
        (["1.jpg", "cats/1.jpg"], {"1.jpg": None, "cats/1.jpg": ("cats", "")}),
        (["train/1.jpg", "train/cats/1.jpg"], {"train/1.jpg": None}),
        # a folder in every class, all called the same
        (["cats/images/1.jpg", "dogs/images/1.jpg"], {"cats/images/1.jpg": ("cats", "")}),
        # zipped twice, as Kaggle does
        (["f/f/rose/1.jpg", "f/f/tulip/1.jpg"], {"f/f/rose/1.jpg": ("rose", "")}),
        (["train/train/cats/1.jpg", "test/test/cats/2.jpg"], {"test/test/cats/2.jpg": ("cats", "test")}),
        (["cats/cats/1.jpg", "dogs/dogs/1.jpg"], {"cats/cats/1.jpg": ("cats", "")}),
        (["cats/cats/1.jpg", "cats/dogs/1.jpg"], {"cats/cats/1.jpg": ("cats", "")}),
        # the part in the name of what is parted
        (["cars_train/audi/1.jpg", "cars_test/audi/2.jpg"], {"cars_test/audi/2.jpg": ("audi", "test")}),
        (["d/cars_train/cars_train/a/1.jpg", "d/cars_test/cars_test/a/2.jpg"], {}),
        (
            ["cats_train/1.jpg", "cats_test/2.jpg", "dogs_train/1.jpg", "dogs_test/2.jpg"],
            {"cats_test/2.jpg": ("cats", "test"), "dogs_train/1.jpg": ("dogs", "train")},
        ),
        (
            ["train_a/1.jpg", "val_a/2.jpg", "train_b/1.jpg"],
            {"val_a/2.jpg": ("a", "val"), "train_b/1.jpg": ("b", "train")},
        ),
        # only where every folder says a part and something is in two parts
        (["toy_train/1.jpg", "toy_car/1.jpg"], {"toy_train/1.jpg": ("toy_train", "")}),
        (["train_station/1.jpg", "test_site/1.jpg"], {"train_station/1.jpg": ("train_station", "")}),
        (["cats_train/1.jpg", "dogs_test/1.jpg"], {"dogs_test/1.jpg": ("dogs_test", "")}),
        # parts without class folders are no classes
        (["train/1.jpg", "test/2.jpg"], {"train/1.jpg": None, "test/2.jpg": None}),
        (["d/train1/1.jpg", "d/valid/2.jpg", "d/test/3.jpg"], {"d/train1/1.jpg": None, "d/test/3.jpg": None}),
        # a class called "train" is no part, whatever is in it, unless another part is beside it
        (
            [f"{label}/{time}/1.jpg" for label in ("bus", "car", "train") for time in ("day", "night")],
            {"train/day/1.jpg": ("train", ""), "bus/day/1.jpg": ("bus", "")},
        ),
        (["v/bus/1.jpg", "v/car/1.jpg", "v/train/steam/1.jpg", "v/train/2.jpg"], {"v/train/2.jpg": ("train", "")}),
        (
            [f"{time}/{label}/1.jpg" for label in ("bus", "car", "train") for time in ("day", "night")],
            {"day/train/1.jpg": ("day", "")},
        ),
        (["train/a/1.jpg", "train/b/1.jpg", "new ones/1.jpg"], {"train/a/1.jpg": ("a", "train")}),
        # the one folder of a part that is not trained on is no class; one of several is
        (
            ["train/cat/1.jpg", "train/dog/1.jpg", "test/images/1.jpg", "val/cat/1.jpg"],
            {"test/images/1.jpg": None, "val/cat/1.jpg": ("cat", "val"), "train/dog/1.jpg": ("dog", "train")},
        ),
        (["train/a/1.jpg", "train/b/1.jpg", "val/images/1.jpg", "test/images/2.jpg"], {"val/images/1.jpg": None}),
        (["train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/c/2.jpg"], {"test/c/2.jpg": ("c", "test")}),
        (["train/a/1.jpg", "train/b/1.jpg", "test/A/2.jpg"], {"test/A/2.jpg": ("A", "test")}),
        # what is about the data set does not hide its folders
        (
            [*(f"r/images/{label}/{i}.jpg" for label in "ab" for i in range(3)), "r/docs/1.png", "r/docs/old/2.png"],
            {"r/images/a/1.jpg": ("a", ""), "r/docs/1.png": None, "r/docs/old/2.png": None},
        ),
        (
            [*(f"data/{label}/{i}.jpg" for label in "ab" for i in range(3)), "sample/1.jpg", "sample/2.jpg"],
            {"data/a/1.jpg": ("a", ""), "sample/1.jpg": None},
        ),
        # one class only is still found, so that the message can name it
        (["pets/cats/1.jpg", "pets/cats/2.jpg"], {"pets/cats/1.jpg": ("cats", "")}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_layout_is_understood(paths: list[str], expected: dict[str, tuple[str, str] | None]) -> None:
    places = interpret(paths)
    for path, place in expected.items():
        assert places[path] == (Place(*place) if place else "no_class_folder")  # type: ignore[arg-type]


def files(pattern: str, *labels: str, count: int = 12, first: int = 1) -> list[str]:
    return [pattern.format(label=label, i=i) for label in labels for i in range(first, first + count)]


def counted(way: Labelling) -> Counter[tuple[str, str]]:
    return Counter((place.label, place.part) for place in way.places.values() if isinstance(place, Place))


def reasons(way: Labelling) -> set[str]:
    """Why files have no class."""
    return {place for place in way.places.values() if isinstance(place, str)}


def upload(name: str, *names: str) -> Upload:
    """One of several uploads, its files named as intake names them."""
    return name, [f"{name}/{path}" for path in names]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (files("train/{label}.{i}.jpg", "cat", "dog"), {"cat", "dog"}),
        (files("{label}_{i:03}.jpg", "cat", "dog"), {"cat", "dog"}),
        (files("{label}-{i}.jpg", "cat", "dog"), {"cat", "dog"}),
        (files("pets/{label} ({i}).png", "cat", "dog"), {"cat", "dog"}),
        (files("{i:03}_{label}.jpg", "cat", "dog"), {"cat", "dog"}),
        (files("images/{label}_{i}.jpg", "Abyssinian", "american_bulldog"), {"Abyssinian", "american_bulldog"}),
        (files("{label}{i}.jpg", "猫", "狗"), {"猫", "狗"}),
        (files("{label}_{i:04}.jpg", "class_1", "class_2"), {"class_1", "class_2"}),
        (files("{label}.2gcd{i}.ingestion.jpg", "noise", "hum"), {"noise", "hum"}),
        (["cat.jpg", "cat (1).jpg", "dog.jpg", "dog (1).jpg"], {"cat", "dog"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_classes_in_file_names_are_offered_as_a_guess(names: list[str], labels: set[str]) -> None:
    best = labellings([("x.zip", names)], {})[0]
    assert (best.id, best.guess) == ("names", True)
    assert {label for label, _ in counted(best)} == labels and sum(counted(best).values()) == len(names)


def camera_names(seed: int) -> dict[str, list[str]]:
    draw = random.Random(seed)
    numbers = [draw.randrange(10**6) for _ in range(200)]
    days = [f"2024{1 + n % 12:02}{1 + n % 28:02}" for n in numbers]
    return {
        "cameras": [f"{draw.choice(['IMG', 'DSC', 'DSCN', 'PXL'])}_{n:05}.jpg" for n in numbers],
        "without line": [f"{draw.choice(['IMG', 'DSC'])}{n:05}.JPG" for n in numbers],
        "uuids": [f"{uuid.UUID(int=draw.getrandbits(128))}.jpg" for _ in numbers],
        "hashes": [f"{hashlib.md5(str(n).encode()).hexdigest()}.png" for n in numbers],
        "times": [f"{day}_{n:06}.jpg" for day, n in zip(days, numbers, strict=True)],
        "chats": [f"IMG-{day}-WA{n:04}.jpg" for day, n in zip(days, numbers, strict=True)]
        + [f"WhatsApp Image 2024-05-{1 + n % 28:02} at 12.{n % 60:02}.17.jpeg" for n in numbers],
        "screens": [f"Screenshot 2024-05-{1 + n % 28:02} at 12.{n % 60:02}.png" for n in numbers]
        + [f"截图{n}.png" for n in numbers],
        "flickr": [f"{n}_{draw.getrandbits(40):010x}_{draw.choice('mnz')}.jpg" for n in numbers],
        "letters": [f"{draw.choice('ab')}{n}.jpg" for n in numbers],
        "titles": [f"{a} at the {b}.jpg" for a in ("Me", "Ann", "Bo") for b in ("sea", "inn", "zoo", "bar")],
        "numbers": [f"{n:06}.jpg" for n in numbers],
        "one word": [f"image_{n:05}.jpg" for n in numbers],
        "parted hashes": [f"{a:08x}{draw.getrandbits(64):016x}_{k}.jpg" for a in numbers[:40] for k in (1, 2, 3)],
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", camera_names(0))
def test_names_from_cameras_and_machines_are_no_classes(kind: str, seed: int) -> None:
    (only_way,) = labellings([("x.zip", camera_names(seed)[kind])], {})
    assert only_way.id == "folders" and not counted(only_way)


def test_pets_masks_are_not_pictures_of_a_class() -> None:
    names = files("images/{label}_{i}.jpg", "Abyssinian", "american_bulldog")
    masks = files("annotations/trimaps/{label}_{i}.png", "Abyssinian", "american_bulldog")
    (way,) = labellings([("pets.zip", [*names, *masks, "annotations/list.txt"])], {})
    assert counted(way) == {("Abyssinian", ""): 12, ("american_bulldog", ""): 12}
    assert {way.places[name] for name in masks} == {"annotation"}
    # but a folder called "masks" is a class where its pictures stand for themselves
    names = files("{label}/{i}.jpg", "masks", first=1) + files("{label}/{i}.jpg", "hats", first=50)
    assert counted(labellings([("x.zip", names)], {})[0]) == {("masks", ""): 12, ("hats", ""): 12}


@pytest.mark.parametrize(
    "labels", [("mask", "no mask"), ("mask", "no mask", "hand"), ("GT", "Turbo", "RS"), ("labels", "barcodes")]
)
@pytest.mark.parametrize("pattern", ["{label}/{i}.jpg", "faces/{label}/day/{i}.jpg", "train/{label}/{i}.jpg"])
def test_a_class_called_as_masks_are_stays_one_of_several(labels: tuple[str, ...], pattern: str) -> None:
    (way,) = labellings([("x.zip", files(pattern, *labels))], {})
    assert {label for label, _ in counted(way)} == set(labels) and set(counted(way).values()) == {12}


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("images/{label}/{i}.png", "masks/{label}/{i}.png"),
        ("{label}/{i}.png", "{label}/mask/{i}.png"),
        ("w/{label}/images/{i}.png", "w/{label}/masks/{i}.png"),
        ("train/{label}/{i}.jpg", "train/masks/{label}/{i}.png"),
        ("data/{label}/{label}{i}.jpg", "annotations/trimaps/{label}{i}.png"),
    ],
)
def test_masks_in_a_tree_beside_that_of_the_pictures_are_none(picture: str, mask: str) -> None:
    shown, masks = files(picture, "cat", "dog"), files(mask, "cat", "dog")
    for more in ([], ["docs/about.png"]):
        way = labellings([("x.zip", [*shown, *masks, *more])], {})[0]
        assert {label for label, _ in counted(way)} - {"docs"} == {"cat", "dog"}
        assert {name for name, place in way.places.items() if place == "annotation"} == set(masks)


def test_a_folder_with_most_of_the_folders_is_offered_as_another_way() -> None:
    names = files("photos/{label}/{i}.jpg", "2020", "2021") + files("drawings/{i}.jpg", "")
    first, other = labellings([("x.zip", names)], {})
    assert counted(first) == {("photos", ""): 24, ("drawings", ""): 12}
    assert other.id == "subfolders" and counted(other) == {("2020", ""): 12, ("2021", ""): 12}
    assert "photos" in wording.WAYS[other.kind].format(**other.values)
    # not where both have folders, nor where one class is far from most
    for names in (
        files("cats/{label}/{i}.jpg", "2020", "2021") + files("dogs/{label}/{i}.jpg", "2020", "2021"),
        files("cats/{label}/{i}.jpg", "2020", "2021") + files("dogs/{label}{i}.jpg", *"abc"),
    ):
        assert len(labellings([("x.zip", names)], {})) == 1


def test_a_test_part_without_classes_does_not_hide_those_of_the_names() -> None:
    names = files("train/{label}.{i}.jpg", "cat", "dog") + [f"test1/{i}.jpg" for i in range(40)]
    (way,) = labellings([("dogs-vs-cats.zip", names)], {})
    assert counted(way) == {("cat", ""): 12, ("dog", ""): 12} and reasons(way) == {"no_class_in_name"}


def test_parts_without_class_folders_are_kept_for_classes_in_names() -> None:
    names = files("train/{label}.{i}.jpg", "cat", "dog") + files(
        "test/{label}.{i}.jpg", "cat", "dog", count=3, first=90
    )
    (way,) = labellings([("x.zip", names)], {})
    assert counted(way) == {("cat", "train"): 12, ("dog", "train"): 12, ("cat", "test"): 3, ("dog", "test"): 3}


def test_numbered_class_folders_stay_as_written() -> None:
    names = files("CUB/images/{label}/x_{i}.jpg", "001.Black_footed_Albatross", "002.Laysan_Albatross")
    (way,) = labellings([("cub.zip", [*names, "CUB/images.txt"])], {})
    assert {label for label, _ in counted(way)} == {"001.Black_footed_Albatross", "002.Laysan_Albatross"}


def test_where_nothing_gives_two_classes_folders_are_the_only_reading() -> None:
    for names in (["a/1.jpg"], ["1.jpg", "2.jpg"], ["notes.txt"], []):
        (way,) = labellings([("x.zip", names)], {})
        assert way.id == "folders" and set(way.places) == set(names)


@pytest.mark.parametrize(
    ("dropped", "expected"),
    [
        # parts
        ("train.zip: a/1.jpg b/1.jpg | val.zip: a/2.jpg b/2.jpg", "a,train b,train a,val b,val"),
        ("train.zip: w/a/1.jpg w/b/1.jpg | test.zip: a/2.jpg b/2.jpg", "a,train b,train a,test b,test"),
        ("1.zip: train/a/1.jpg train/b/1.jpg | 2.zip: val/a/1.jpg val/b/1.jpg", "a,train b,train a,val b,val"),
        ("train.zip: a_1.jpg b_1.jpg a_2.jpg b_2.jpg | val.zip: a_3.jpg", "a,train b,train a,val"),
        (
            "1.zip: train/a_1.jpg train/b_1.jpg train/a_2.jpg train/b_2.jpg | 2.zip: val/a_3.jpg",
            "a,train b,train a,val",
        ),
        # classes
        ("cats.zip: 1.jpg 2.jpg | dogs.zip: 3.jpg 4.jpg", "cats, dogs,"),
        ("cats: 1.jpg 2.jpg | dogs: 3.jpg 4.jpg", "cats, dogs,"),
        ("cats.tar.gz: 1.jpg 2.jpg | dogs.tgz: images/3.jpg", "cats, dogs,"),
        ("cats.zip: images/1.jpg | dogs.zip: images/1.jpg", "cats, dogs,"),
        ("cats.zip: img/1.jpg | dogs.zip: photos/1.jpg", "cats, dogs,"),
        ("cats.zip: x/1.jpg | dogs.zip: x/1.jpg", "cats, dogs,"),
        ("cats.zip: cats/1.jpg | dogs.zip: dogs/1.jpg", "cats, dogs,"),
        ("1.zip: cats/1.jpg | 2.zip: dogs/1.jpg", "cats, dogs,"),
        ("cats.zip: 1.jpg | cats (1).zip: 2.jpg | dogs.zip: 3.jpg", "cats, dogs,"),
        ("test.zip: 1.jpg | control.zip: 2.jpg", "test, control,"),
        ("class_1.zip: 1.jpg | class_2.zip: 2.jpg", "class_1, class_2,"),
        ("cats.zip: 1.jpg | more.zip: dogs/1.jpg birds/1.jpg", "cats, dogs, birds,"),
        ("1.zip: cats/1.jpg dogs/1.jpg | 2.zip: x/cats/1.jpg x/birds/1.jpg", "cats, dogs, birds,"),
        ("grade_0.zip: 1.jpg | grade_1.zip: 2.jpg | grade_2.zip: 3.jpg", "grade_0, grade_1, grade_2,"),
        ("class_01.zip: 1.jpg | class_02.zip: 2.jpg", "class_01, class_02,"),
        ("class_01.zip: 1.jpg | class_02.zip: 2.jpg | other.zip: 3.jpg", "class_01, class_02, other,"),
        ("class (1).zip: 1.jpg | class (2).zip: 2.jpg", "class%(1), class%(2),"),
        ("images.zip: 1.jpg | images (2).zip: 2.jpg", "images, images%(2),"),
        ("a-20240131T120000Z-001.zip: 1.jpg | b-20240131T120000Z-001.zip: 2.jpg", "a, b,"),
        ("cats.part1.zip: 1.jpg | cats.part2.zip: 2.jpg | dogs.zip: 3.jpg", "cats, dogs,"),
        # the one folder of a part that is not trained on
        ("train.zip: a/1.jpg b/1.jpg | test.zip: unknown/2.jpg", "a,train b,train"),
        # pieces of one tree
        ("p-001.zip: p/cats/1.jpg p/dogs/1.jpg | p-002.zip: p/dogs/2.jpg", "cats, dogs,"),
        ("p-20240131T120000Z-001.zip: p/cats/x/1.jpg | p-20240131T120000Z-002.zip: p/dogs/x/2.jpg", "cats, dogs,"),
        # other files
        ("a.zip: cats/1.jpg dogs/1.jpg | notes.csv: notes.csv", "cats, dogs,"),
        ("cat_1.jpg: cat_1.jpg | cat_2.jpg: cat_2.jpg | dog_1.jpg: dog_1.jpg | dog_2.jpg: dog_2.jpg", "cat, dog,"),
    ],
    ids=lambda value: value.partition(" | ")[0],
)
def test_several_uploads_are_one_set(dropped: str, expected: str) -> None:
    uploads = [upload(name, *files.split()) for name, _, files in (one.partition(": ") for one in dropped.split(" | "))]
    best = labellings(uploads, {})[0]
    assert set(counted(best)) == {tuple(place.replace("%", " ").split(",")) for place in expected.split()}
    assert set(best.places) == {name for _, names in uploads for name in names}


def test_pieces_of_one_pile_of_loose_pictures_are_no_classes() -> None:
    uploads = [upload("photos-001.zip", "1.jpg", "2.jpg"), upload("photos-002.zip", "3.jpg", "4.jpg")]
    (way,) = labellings(uploads, {})
    assert not counted(way)


def test_uploads_that_are_numbered_are_classes_only_when_nothing_says_more() -> None:
    uploads = [upload(f"set_0{n}.zip", *files("{label}_{i}.jpg", "cat", "dog", first=100 * n)) for n in (1, 2)]
    names, folders = labellings(uploads, {})
    assert set(counted(names)) == {("cat", ""), ("dog", "")} and names.guess
    assert set(counted(folders)) == {("set_01", ""), ("set_02", "")}


def test_uploads_of_one_name_are_told_apart() -> None:
    assert told_apart(["a.zip", "b", "a.zip", "a (2).zip", "a.zip", "b"]) == (
        *("a.zip", "b", "a (3).zip", "a (2).zip", "a (4).zip", "b (2)"),
    )


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a.zip", "a (2).zip", "a (2) (2).zip", "", "a"]) | st.text(max_size=3), max_size=8))
def test_names_told_apart_are_different_and_the_first_of_each_stays(names: list[str]) -> None:
    told = told_apart(names)
    assert len(set(told)) == len(names) and set(names) <= set(told) and told_apart(told) == told


def test_every_reason_has_its_sentence() -> None:
    names = files("images/{label}_{i}.jpg", "cat", "dog") + files("masks/{label}_{i}.png", "cat", "dog") + ["x.txt"]
    for way in labellings([("x.zip", names)], {}):
        assert reasons(way) <= set(wording.SKIP_REASONS)


def test_class_names_equal_but_for_case_spaces_or_invisible_characters_are_one_class() -> None:
    names, changed = merge_labels(["Cats", "cats", "cafe\u0301", "caf\u00e9", "dogs\u200b"])
    assert names["Cats"] == names["cats"]
    assert names["cafe\u0301"] == names["caf\u00e9"] == "caf\u00e9"
    assert names["dogs\u200b"] == "dogs"
    assert len(changed) == 3


def test_merged_labels_and_their_order_are_the_same_in_every_process() -> None:
    code = (
        "from tl_core.data.layout import merge_labels, natural_order\n"
        "labels = {'Cat', 'cat', 'CAT', '1', '01', '001', 'dog'}\n"
        "names, changed = merge_labels(labels)\n"
        "print(sorted(names.items()), changed, sorted(labels, key=natural_order))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "123"
    ]
    assert told[0] and len(set(told)) == 1


def test_two_comes_before_ten() -> None:
    assert sorted(["class 10", "class 2", "Class 1"], key=natural_order) == ["Class 1", "class 2", "class 10"]


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8))
def test_any_names_can_be_ordered_and_merged_twice_to_the_same(names: list[str]) -> None:
    first, _ = merge_labels(names)
    again, _ = merge_labels(first.values())
    assert [again[first[name]] for name in names] == [first[name] for name in names]
    sorted(names, key=natural_order)


@given(st.lists(st.text(alphabet="ab/train.jpg\u732b", min_size=1, max_size=30), min_size=1, max_size=10, unique=True))
def test_any_paths_get_an_answer(paths: list[str]) -> None:
    assert interpret(paths).keys() == set(paths)


def test_what_lies_beside_the_parts_is_left_out_and_said() -> None:
    places = interpret(["train/a/1.jpg", "test/a/2.jpg", "images to predict/3.jpg"])
    assert places["images to predict/3.jpg"] == "outside_parts"


def test_long_names_that_begin_alike_stay_two_classes() -> None:
    names, _ = merge_labels(["x" * 80 + "1", "x" * 80 + "2"])
    assert len(set(names.values())) == 2 and all(len(name) <= 64 for name in names.values())


FOLDERS = r"((train|test|val|cats|dogs|cats_train|cats_test|masks|images|docs|x)/){0,3}"
NAMES = st.lists(
    st.text(min_size=1, max_size=20) | st.from_regex(FOLDERS + r"[ab猫][_ ]?[0-9]{0,3}\.(jpg|txt)", fullmatch=True),
    max_size=20,
    unique=True,
)
CALLED = st.sampled_from(["train.zip", "cats.zip", "cats (1).zip", "x-001.tar.gz", "x-002.zip", "猫", ""])
UPLOADS = st.lists(st.tuples(CALLED, NAMES), min_size=1, max_size=3, unique_by=lambda one: one[0])


@settings(deadline=None)
@given(UPLOADS, st.randoms())
def test_any_names_have_a_place_or_a_reason_whatever_their_order(uploads: list[Upload], draw: random.Random) -> None:
    if len(uploads) > 1:
        uploads = [upload(name, *names) for name, names in uploads]
    ways = labellings(uploads, {})
    every = {name for _, names in uploads for name in names}
    for way in ways:
        assert set(way.places) == every
        assert reasons(way) <= set(wording.SKIP_REASONS)
    shuffled = [(name, draw.sample(list(names), len(names))) for name, names in draw.sample(uploads, len(uploads))]
    assert labellings(shuffled, {}) == ways
    assert len({way.id for way in ways}) == len(ways)


@pytest.mark.parametrize(
    "pattern",
    [
        "{k}_{i:05}.jpg",
        "a/b/c/d/e/f/g/{k}/{i:05}.jpg",
        "{i}/b{i}/c{i}/d/e/f/g/{k}_{i:05}.jpg",
        "train_{i}/{k}.jpg",
        "{i}-train/{i}-train/{k}{i}.jpg",
        "masks/{i}/annotations{i}/1.jpg",
        "x" * 200 + "/" + "1_" * 100 + "{i}.jpg",
    ],
)
@pytest.mark.few(2)
def test_fifty_thousand_names_take_two_seconds_at_most(pattern: str) -> None:
    names = [pattern.format(i=i, k=("cat", "dog", "cow")[i % 3]) for i in range(50_000)]
    started = time.process_time()
    labellings([("x.zip", names)], {})
    assert in_time(time.process_time() - started, 3)  # 1.9 at most when nothing else runs


def test_a_name_of_any_length_is_no_part_and_costs_nothing() -> None:
    started = time.process_time()
    for name in ("_train" * 100_000, "train" + "_" * 100_000, "1" * 100_000):
        part_of(name)
        labellings([("x", [f"{name}/1.jpg", f"{name}x/1.jpg", f"{name}.jpg"])], {})
    assert in_time(time.process_time() - started, 2)


def test_real_sets_are_read_by_their_folders() -> None:
    for name, classes in (
        ("hymenoptera", 2),
        ("dtd10", 10),
        ("flowers5", 5),
        ("caltech101-15", 102),
        ("monkeys10", 10),
    ):
        with zipfile.ZipFile(shared(f"{name}.zip")) as archive:
            (way,) = labellings([(f"{name}.zip", [e for e in archive.namelist() if not e.endswith("/")])], {})
        assert way.id == "folders" and len({label for label, _ in counted(way)}) == classes
        assert not reasons(way)
