"""From paths to classes and splits: every sane layout means what a person thinks it means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_core.data.layout import Place, interpret, merge_labels, natural_order


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
        # one class only is still found, so that the message can name it
        (["pets/cats/1.jpg", "pets/cats/2.jpg"], {"pets/cats/1.jpg": ("cats", "")}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_layout_is_understood(paths: list[str], expected: dict[str, tuple[str, str] | None]) -> None:
    places = interpret(paths)
    for path, place in expected.items():
        assert places[path] == (Place(*place) if place else "no_class_folder")  # type: ignore[arg-type]


def test_class_names_equal_but_for_case_spaces_or_invisible_characters_are_one_class() -> None:
    names, changed = merge_labels(["Cats", "cats", "cafe\u0301", "caf\u00e9", "dogs\u200b"])
    assert names["Cats"] == names["cats"]
    assert names["cafe\u0301"] == names["caf\u00e9"] == "caf\u00e9"
    assert names["dogs\u200b"] == "dogs"
    assert len(changed) == 3


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
