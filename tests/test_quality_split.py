"""Copies are found and never sit on both sides of a split; every class is on both."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import Zipper, encode, reviewed
from tl_core.data.findings import findings
from tl_core.data.imageset import ImageSet, Picture
from tl_core.data.quality import copy_groups, near_pairs
from tl_core.data.split import folds, split
from tl_core.settings import Settings


def images_of(rows: list[tuple[int, int, str]]) -> ImageSet:
    """A set of (label, group, part) rows, without pixels."""
    pictures = tuple(Picture(f"{i}.jpg", label, part, group, 0, 1, 1, i) for i, (label, group, part) in enumerate(rows))  # type: ignore[arg-type]
    labels = sorted({label for label, _, _ in rows})
    return ImageSet(Path(), "x", tuple(f"class {i}" for i in labels), pictures, (), (), 0, len(pictures))


@st.composite
def label_groups(draw: st.DrawFn) -> list[tuple[int, int, str]]:
    """Two to five classes of two to thirty pictures, some of them copies."""
    rows, group = [], 0
    for label in range(draw(st.integers(2, 5))):
        for copies in draw(st.lists(st.integers(1, 4), min_size=2, max_size=30)):
            rows += [(label, group, "")] * copies
            group += 1
    return rows


@hypothesis_settings(deadline=None)
@given(label_groups(), st.integers(0, 5))
def test_a_split_is_a_partition_with_whole_groups_and_every_class_on_both_sides(
    rows: list[tuple[int, int, str]], seed: int
) -> None:
    images = images_of(rows)
    parts = split(images, seed=seed)
    assert sorted(parts.train + parts.test) == list(range(len(rows)))
    assert not {rows[i][1] for i in parts.train} & {rows[i][1] for i in parts.test}
    everything = {label for label, _, _ in rows}
    assert {rows[i][0] for i in parts.train} == {rows[i][0] for i in parts.test} == everything
    assert parts == split(images, seed=seed)


@hypothesis_settings(deadline=None)
@given(label_groups(), st.integers(2, 5))
def test_folds_keep_groups_whole_and_use_every_fold(rows: list[tuple[int, int, str]], count: int) -> None:
    groups, labels = [g for _, g, _ in rows], [label for label, _, _ in rows]
    found = folds(groups, labels, count)
    for group in set(groups):
        assert len({int(found[i]) for i, g in enumerate(groups) if g == group}) == 1
    assert set(found.tolist()) <= set(range(count))
    if len(set(groups)) >= count:
        assert len(set(found.tolist())) == count


def test_about_a_fifth_is_kept_aside() -> None:
    rows = [(label, label * 100 + i, "") for label in range(3) for i in range(100)]
    assert len(split(images_of(rows)).test) == 60


def test_an_official_test_part_is_the_exam_and_copies_leave_it() -> None:
    rows = [(label, label * 10 + i, part) for label in range(2) for i, part in enumerate(["train"] * 4 + ["test"] * 3)]
    rows += [(0, 0, "test")]  # a copy of a training picture
    parts = split(images_of(rows))
    assert parts.official and parts.moved == 1
    assert {rows[i][2] for i in parts.test} == {"test"} and len(parts.test) == 6
    assert len(rows) - 1 in parts.train


def test_a_validation_part_is_the_exam_only_where_no_test_part_is() -> None:
    rows = [
        (label, label * 9 + i, part) for label in range(2) for i, part in enumerate(["train", "train", "val", "test"])
    ]
    assert {rows[i][2] for i in split(images_of(rows)).test} == {"test"}
    rows = [row for row in rows if row[2] != "test"]
    assert {rows[i][2] for i in split(images_of(rows)).test} == {"val"}


def test_a_class_only_in_the_official_test_part_falls_back_to_a_split_of_our_own() -> None:
    rows = [(0, i, "train") for i in range(5)] + [(0, 9, "test")] + [(1, 20 + i, "test") for i in range(5)]
    parts = split(images_of(rows))
    assert not parts.official
    assert {rows[i][0] for i in parts.train} == {0, 1}


def test_a_recompressed_or_resized_picture_is_a_copy_and_another_is_not(
    make_zip: Zipper, read_set: Any, settings: Settings
) -> None:
    image = Image.effect_mandelbrot((200, 160), (-2, -1.5, 1, 1.5), 60).convert("RGB")
    upload = make_zip(
        {
            "a/1.jpg": encode(image, quality=95),
            "a/2.jpg": encode(image, quality=30),
            "a/3.png": encode(image.resize((150, 120)), "png"),
            "b/4.jpg": encode(image.transpose(Image.Transpose.ROTATE_90), quality=90),
            "a": 3,
            "b": 3,
        }
    )
    images = reviewed(read_set(upload), settings)
    groups = {Path(p.name).name: p.group for p in images.pictures}
    assert groups["1.jpg"] == groups["2.jpg"] == groups["3.png"]
    assert groups["4.jpg"] != groups["1.jpg"]
    assert len(set(groups.values())) == len(groups) - 2
    assert [f.code for f in findings(images, settings) if "copies" in f.code] == ["near_copies"]


def test_flat_pictures_are_only_copies_when_equal() -> None:
    thumbs = np.full((3, 768), 128, dtype=np.uint8)
    assert near_pairs(thumbs, ["x", "y", "x"]) == []
    assert copy_groups(["x", "y", "x"], [0, 0, 1])[0] == [0, 1, 0]


def test_the_same_drawing_in_another_colour_is_no_copy(make_zip: Zipper, read_set: Any, settings: Settings) -> None:
    content = {}
    for label, colour in (("red", (200, 0, 0)), ("green", (0, 102, 0))):
        for i in range(6):
            image = Image.new("RGB", (120, 120), "white")
            image.paste(colour, (10 + 9 * i, 20, 60 + 9 * i, 90))
            content[f"{label}/{i}.png"] = encode(image, "png")
    images = reviewed(read_set(make_zip(content)), settings)
    labels = {group: {p.label for p in images.pictures if p.group == group} for group in range(12)}
    assert all(len(found) <= 1 for found in labels.values())


def test_one_picture_in_two_classes_never_examines() -> None:
    rows = [(0, i, "") for i in range(10)] + [(1, i, "") for i in range(2)] + [(1, 20 + i, "") for i in range(10)]
    for seed in range(20):
        parts = split(images_of(rows), seed=seed)
        assert not {rows[i][1] for i in parts.test} & {0, 1}
