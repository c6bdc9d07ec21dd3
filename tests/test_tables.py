"""Tables in uploads: however they are written, they say which class each picture has, or are left alone."""

import json
import random
import time
import zipfile
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import shared
from tests.pace import in_time
from tl_core import wording
from tl_core.data.labelling import Labelling, labellings
from tl_core.data.layout import Place
from tl_core.data.tables import LONGEST_CELL, MOST_BYTES, MOST_COLUMNS, MOST_TABLES, parse, worth_reading

PETS = [("1.jpg", "cat"), ("2.jpg", "dog"), ("3.jpg", "cat"), ("4.jpg", "dog")]


def csv_of(rows: list[tuple[object, ...]], *header: str, delimiter: str = ",") -> bytes:
    lines = [delimiter.join(map(str, row)) for row in ([header] if header else []) + rows]
    return ("\n".join(lines) + "\n").encode()


def read(names: list[str], tables: Mapping[str, bytes]) -> tuple[Labelling, ...]:
    parsed = {name: table for name, data in tables.items() if (table := parse(name, data)) is not None}
    return labellings([("x.zip", [*names, *tables])], parsed)


def counted(way: Labelling) -> Counter[tuple[str, str]]:
    return Counter((place.label, place.part) for place in way.places.values() if isinstance(place, Place))


def ids(ways: tuple[Labelling, ...]) -> list[str]:
    return [way.id for way in ways]


# How a table is written


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", csv_of(PETS, "file", "label")),
        ("t.csv", csv_of(PETS, "file", "label", delimiter=";")),
        ("t.csv", csv_of(PETS, "file", "label", delimiter="\t")),
        ("T.CSV", csv_of(PETS, "file", "label").replace(b"\n", b"\r\n")),
        ("t.csv", csv_of(PETS, "file", "label").replace(b"\n", b"\r")),
        ("t.csv", b"sep=;\n" + csv_of(PETS, "file", "label", delimiter=";")),
        ("t.csv", b'"file" , "label"\n"1.jpg", "cat"\n"2.jpg", "dog"\n"3.jpg", "cat"\n"4.jpg", "dog"'),
        ("t.csv", b"\xef\xbb\xbf" + csv_of(PETS, "file", "label")),
        ("t.csv", csv_of(PETS, "file", "label").decode().encode("utf-16")),
        ("t.csv", csv_of(PETS, "file", "label").decode().encode("utf-16-le")),
        ("t.csv", csv_of(PETS, "file", "label").decode().encode("utf-16-be")),
        ("t.csv", csv_of([*PETS], "file", "label") + b"\n\n"),
        ("t.tsv", csv_of(PETS, "file", "label", delimiter="\t")),
        ("t.tsv", csv_of(PETS, "file", "label")),
        ("t.jsonl", "\n".join(json.dumps({"file": f, "label": c}) for f, c in PETS).encode()),
        ("t.ndjson", "\r\n".join(json.dumps({"file": f, "label": c}) for f, c in PETS).encode() + b"\n{broken"),
        ("t.json", json.dumps([{"file": f, "label": c} for f, c in PETS]).encode()),
        ("t.json", json.dumps(dict(PETS)).encode()),
        ("t.json", json.dumps({f: {"label": c} for f, c in PETS}).encode("utf-16")),
    ],
    ids=range(19),
)
def test_a_table_is_the_same_however_it_is_written(name: str, data: bytes) -> None:
    table = parse(name, data)
    assert table is not None and not table.cut
    assert table.columns == ("file", "label") and list(table.rows) == PETS


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "utf-16"])
def test_chinese_tables_are_read_in_every_encoding(encoding: str) -> None:
    text = "文件名,类别\n图片1.jpg,猫\n图片2.jpg,狗\n图片3.jpg,猫\n图片4.jpg,狗\n"
    (way,) = read([f"图片{i}.jpg" for i in range(1, 5)], {"标签.csv": text.encode(encoding)})
    assert counted(way) == {("猫", ""): 2, ("狗", ""): 2} and way.values["column"] == "类别"


def test_commas_and_lines_in_quotes_stay_in_their_cell() -> None:
    table = parse("t.csv", b'file,label,note\n"a, b.jpg",cat,"two\nlines"\n"c ""d"".jpg",dog,\n')
    assert table is not None and [row[:2] for row in table.rows] == [("a, b.jpg", "cat"), ('c "d".jpg', "dog")]


def test_what_is_no_table_is_none() -> None:
    for name, data in {
        "a.csv": b"",
        "b.csv": b"just\nlines\nof words\n",
        "c.csv": random.Random(1).randbytes(5000),
        "d.csv": b"\0" * 5000,
        "e.json": b'{"images": [{"id": 1}], "annotations": [{"bbox": [1, 2, 3, 4]}]}',
        "f.json": b"[1, 2, 3]",
        "g.json": b"[" * 100_000,
        "h.json": b'[{"a": ' + b"9" * 10_000 + b"}]",
        "i.jsonl": b"x\n" * 5000,
        "j.jsonl": b'{"only": 1}\n' * 5,
        "k.json": b"",
    }.items():
        assert parse(name, data) is None, name


def test_large_tables_are_cut_and_huge_ones_refused() -> None:
    rows = csv_of([(f"{i}.jpg", i % 2) for i in range(30)], "file", "label")
    assert (table := parse("t.csv", rows, most_rows=30)) is not None and not table.cut and len(table.rows) == 30
    assert (table := parse("t.csv", rows, most_rows=29)) is not None and table.cut and len(table.rows) == 29
    lines = b"\n".join(b'{"file": "%d.jpg", "label": "a"}' % i for i in range(30))
    assert (table := parse("t.jsonl", lines, most_rows=29)) is not None and table.cut and len(table.rows) == 29
    assert (table := parse("t.csv", b"a" * 50_000 + b",b\n" + b"c," * 500)) is not None
    assert len(table.columns) == MOST_COLUMNS and len(table.columns[0]) == LONGEST_CELL
    assert parse("t.csv", b"a,b\n" * (MOST_BYTES // 4 + 1)) is None


def test_a_quote_that_is_never_closed_costs_no_more_than_its_row() -> None:
    rows = b"".join(b"%d.jpg,%s\n" % (i, (b"cat", b"dog")[i % 2]) for i in range(20_000))
    table = parse("t.csv", b'file,label\n0.jpg,"cat\n' + rows)
    assert table is not None and len(table.rows) == 20_001


def test_the_outermost_tables_are_read_and_not_too_many() -> None:
    many = [(f"a/b/{i}.csv", 10) for i in range(50)]
    chosen = worth_reading([("a/x.jpg", 10), ("huge.csv", MOST_BYTES + 1), *many, ("labels.csv", 10)])
    assert chosen[0] == "labels.csv" and len(chosen) == MOST_TABLES and "huge.csv" not in chosen
    assert len(worth_reading([(f"{i}.csv", MOST_BYTES // 2) for i in range(9)])) == 2
    # however many files of a tool for boxes there are
    beside = [(f"data/{i:03}.json", 10) for i in range(50)]
    assert worth_reading([*beside, ("data/deep/labels.csv", 10), ("data/x.TSV", 10)])[:2] == [
        *("data/x.TSV", "data/deep/labels.csv"),
    ]


def test_a_name_that_is_no_text_is_shown_and_kept_as_text() -> None:
    names = ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    (way,) = read(names, {"f\udcfcr.csv": csv_of(PETS, "file", "label")})
    records = [{"file": f, "kind\ud800": c} for f, c in PETS]
    (other,) = read(names, {"t.json": json.dumps(records).encode()})
    for one in (way, other):
        assert counted(one) == {("cat", ""): 2, ("dog", ""): 2}
        assert "\ufffd" in one.id and "".join((one.id, *one.values.values())).encode()


JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
)


@settings(deadline=None)
@given(
    st.sampled_from(["csv", "tsv", "json", "jsonl"]),
    st.binary(max_size=300)
    | st.text(alphabet='ab1.jpg,;\t"\n\r{}[]:\\ 猫é', max_size=200).map(str.encode)
    | JSON.map(lambda found: json.dumps(found).encode()),
)
def test_any_bytes_are_a_table_or_none(ending: str, data: bytes) -> None:
    table = parse(f"a/t.{ending}", data)
    if table is not None:
        assert len(table.columns) >= 2 and all(len(row) == len(table.columns) for row in table.rows)
        for way in labellings([("x", ["a/1.jpg", "b/1.jpg", "a.jpg", table.name])], {table.name: table}):
            assert set(way.places) == {"a/1.jpg", "b/1.jpg", "a.jpg", table.name}


# Which file a row is about


@pytest.mark.parametrize(
    ("cells", "table"),
    [
        (["w/images/1.jpg", "w/images/2.jpg", "w/images/3.jpg", "w/images/4.jpg"], "t.csv"),
        (["images/1.jpg", "images/2.jpg", "./images/3.jpg", "/images/4.jpg"], "w/t.csv"),
        (["1.jpg", "2.jpg", "3.jpg", "4.jpg"], "t.csv"),
        (["1", "2", "3", "4"], "t.csv"),
        (["IMAGES/1.JPG", "Images\\2.jpg", "images/3.Jpg", "images/4.jpg"], "t.csv"),
        (["C:\\me\\images\\1.jpg", "/kaggle/w/images/2.jpg", "../images/3.jpg", "x/y/4.jpg"], "notes/t.csv"),
        (["1.png", "2.png", "3.png", "4.png"], "t.csv"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
@pytest.mark.parametrize("headed", [True, False])
def test_rows_find_their_files(cells: list[str], table: str, headed: bool) -> None:
    names = [f"w/images/{i}.jpg" for i in range(1, 5)]
    rows: list[tuple[object, ...]] = [(cell, "ab"[i % 2]) for i, cell in enumerate(cells)]
    (way,) = read(names, {table: csv_of(rows, *(["id", "label"] if headed else []))})
    assert [way.places[name] for name in names] == [Place("a", ""), Place("b", "")] * 2
    assert way.places[table] == "label_table" and way.values["missing"] == "0"
    assert way.id == f"table:{table}:{'label' if headed else '2'}"


def test_a_name_that_several_files_have_is_none_of_them() -> None:
    names = ["a/1.jpg", "b/1.jpg", "a/2.jpg", "b/3.jpg", "a/4.jpg", "b/5.jpg"]
    table = csv_of([("1.jpg", "x"), ("2.jpg", "y"), ("3.jpg", "x"), ("4.jpg", "y"), ("5.jpg", "x")], "file", "label")
    way = next(way for way in read(names, {"t.csv": table}) if way.kind == "table")
    assert way.places["a/1.jpg"] == way.places["b/1.jpg"] == "not_in_table" and way.values["missing"] == "1"
    assert sum(counted(way).values()) == 4


def test_case_in_names_tells_files_apart_where_it_must() -> None:
    names = ["x/a.jpg", "x/A.jpg", "x/b.jpg", "x/B.jpg"]
    table = csv_of([("a.jpg", "low"), ("A.jpg", "high"), ("b.jpg", "low"), ("B.jpg", "high")], "file", "label")
    way = read(names, {"x/t.csv": table})[0]
    assert way.places == {
        **{f"x/{letter}.jpg": Place("low", "") for letter in "ab"},
        **{f"x/{letter}.jpg": Place("high", "") for letter in "AB"},
        "x/t.csv": "label_table",
    }


def test_a_table_for_training_says_the_training_pictures() -> None:
    names = [f"{part}/{i}.jpg" for part in ("train", "test") for i in range(8)]
    (way,) = read(names, {"train.csv": csv_of([(i, "ab"[i % 2]) for i in range(8)], "id", "label")})
    assert all(isinstance(way.places[f"train/{i}.jpg"], Place) for i in range(8))
    assert {way.places[f"test/{i}.jpg"] for i in range(8)} == {"not_in_table"}


def test_what_the_table_and_the_upload_do_not_share_is_counted() -> None:
    rows = [*PETS, ("gone.jpg", "cat"), ("5.jpg", ""), ("6.jpg", "nan"), ("7.jpg", "cat"), ("7.jpg", "dog")]
    names = [f"{i}.jpg" for i in range(1, 30)]
    rows += [(f"{i}.jpg", "cat") for i in range(8, 28)]
    (way,) = read([*names, "b.txt"], {"t.csv": csv_of(list(rows), "file", "label")})
    assert way.values["missing"] == "1"
    assert way.places["5.jpg"] == way.places["6.jpg"] == "no_label_in_table"
    assert way.places["7.jpg"] == "several_labels"
    assert way.places["28.jpg"] == way.places["b.txt"] == "not_in_table"
    assert {place for place in way.places.values() if isinstance(place, str)} <= set(wording.SKIP_REASONS)


def test_files_behind_the_end_of_a_cut_table_are_said_to_be() -> None:
    data = csv_of([(f"{i}.jpg", "ab"[i % 2]) for i in range(9)], "file", "label")
    table = parse("t.csv", data, most_rows=6)
    assert table is not None
    (way,) = labellings([("x", [f"{i}.jpg" for i in range(9)])], {"t.csv": table})
    assert way.places["8.jpg"] == "table_too_long" and sum(counted(way).values()) == 6


# Which column says the class


def test_columns_are_offered_best_first_and_others_not_at_all() -> None:
    draw = random.Random(0)
    columns = {
        "id": lambda i: i,
        "file": lambda i: f"{i}.jpg",
        "width": lambda i: 300 + i % 4,
        "size_kb": lambda i: draw.randrange(10**6),
        "caption": lambda i: f"a picture of number {i}",
        "score": lambda i: draw.random(),
        "date": lambda i: f"2024-01-0{i % 9}",
        "color": lambda i: ("red", "blue", "green", "grey")[i % 4],
        "label_id": lambda i: i % 3,
        "label": lambda i: ("cat", "dog", "cow")[i % 3],
        "lesion_id": lambda i: f"L{i // 2}",
        "url": lambda i: "http://x/",
    }
    rows = [tuple(cell(i) for cell in columns.values()) for i in range(60)]
    ways = read([f"{i}.jpg" for i in range(60)], {"t.csv": csv_of(rows, *columns)})
    assert ids(ways) == ["table:t.csv:label", "table:t.csv:color", "table:t.csv:label_id"]
    assert counted(ways[0]) == {("cat", ""): 20, ("dog", ""): 20, ("cow", ""): 20}


@pytest.mark.parametrize(
    "word", ["class", "Class Name", "category", "target", "species", "breed", "dx", "类别", "标签"]
)
def test_a_column_called_like_a_class_comes_first(word: str) -> None:
    rows: list[tuple[object, ...]] = [(f"{i}.jpg", "mf"[i % 2], f"kind {i % 5}", f"place {i % 3}") for i in range(30)]
    ways = read([f"{i}.jpg" for i in range(30)], {"t.csv": csv_of(rows, "image", "sex", word, "place")})
    assert ids(ways) == [f"table:t.csv:{word}", "table:t.csv:sex", "table:t.csv:place"]


def test_a_split_column_gives_the_parts() -> None:
    rows: list[tuple[object, ...]] = [(f"{i}.jpg", "ab"[i % 2], ("Train", "val", "TEST")[i % 3]) for i in range(30)]
    (way,) = read([f"{i}.jpg" for i in range(30)], {"t.csv": csv_of(rows, "file", "label", "split")})
    assert counted(way) == {(label, part): 5 for label in "ab" for part in ("train", "val", "test")}


def test_folders_give_the_parts_when_the_table_does_not() -> None:
    names = [f"{part}/{part}{i}.jpg" for part in ("train", "test") for i in range(6)]
    rows: list[tuple[object, ...]] = [(name.split("/")[1], "ab"[i % 2]) for i, name in enumerate(names)]
    (way,) = read(names, {"t.csv": csv_of(rows, "file", "label")})
    assert counted(way) == {(label, part): 3 for label in "ab" for part in ("train", "test")}


def test_tables_named_by_their_part_continue_each_other() -> None:
    names = [f"img/{i}.jpg" for i in range(20)]
    rows: list[tuple[object, ...]] = [(f"{i}.jpg", "ab"[i % 2]) for i in range(20)]
    for header in ((), ("file", "label")):
        ways = read(names, {"train.csv": csv_of(rows[:14], *header), "val.csv": csv_of(rows[14:], *header)})
        assert len(ways) == 1 and ways[0].values["file"] == "train.csv, val.csv"
        assert counted(ways[0]) == {("a", "train"): 7, ("b", "train"): 7, ("a", "val"): 3, ("b", "val"): 3}


def test_whole_numbers_lose_the_fraction_that_programs_add() -> None:
    rows: list[tuple[object, ...]] = [(f"{i}.jpg", ("0.0", "1.0", "")[i % 3]) for i in range(9)]
    (way,) = read([f"{i}.jpg" for i in range(9)], {"t.csv": csv_of(rows, "file", "label")})
    assert counted(way) == {("0", ""): 3, ("1", ""): 3}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (["left", "right", "same"], lambda i: (f"{i}.jpg", f"{(i + 1) % 30}.jpg", "yn"[i % 2])),
        (["file", "xmin", "ymin", "class"], lambda i: (f"{i // 2}.jpg", i, i, "ab"[i % 3 % 2])),
        (["file", "label"], lambda i: (f"{i // 2}.jpg", "ab"[i % 2])),
        (["file", "red", "green", "blue"], lambda i: (f"{i}.jpg", 0.1 * (i % 3), 0.7, 0.2 + 0.1 * (i % 2))),
        (["nr", "name"], lambda i: (i, f"class {i}")),
    ],
    ids=["pairs", "boxes", "several a picture", "shares", "a list of classes"],
)
def test_tables_of_something_else_are_not_offered(header: list[str], row: object) -> None:
    data = csv_of([row(i) for i in range(30)], *header)  # type: ignore[operator]
    assert ids(read([f"{i}.jpg" for i in range(30)], {"t.csv": data})) == ["folders"]


# Sets as people have them


def test_one_column_a_class_is_one_reading() -> None:
    """ISIC 2019: "0.0" and "1.0", and a class without pictures."""
    rows: list[tuple[object, ...]] = [
        (f"ISIC_{i:07}", float(i % 3 == 0), float(i % 3 == 1), float(i % 3 == 2), 0.0) for i in range(30)
    ]
    names = [f"ISIC_2019_Training_Input/ISIC_{i:07}.jpg" for i in range(30)]
    (way,) = read(names, {"ISIC_2019_Training_GroundTruth.csv": csv_of(rows, "image", "MEL", "NV", "BCC", "UNK")})
    assert way.one_hot and way.values["column"] == "MEL, NV, BCC, …"
    assert counted(way) == {("MEL", ""): 10, ("NV", ""): 10, ("BCC", ""): 10}


def test_roboflow_has_a_table_in_every_part() -> None:
    parts = {"train": "train", "valid": "val", "test": "test"}
    names = [f"{part}/{part}{i}_jpg.rf.{i}ab.jpg" for part in parts for i in range(6)]
    tables = {
        f"{part}/_classes.csv": b"filename, cat, dog\n"
        + b"".join(b"%s%d_jpg.rf.%dab.jpg, %d, %d\n" % (part.encode(), i, i, i % 2, 1 - i % 2) for i in range(6))
        for part in parts
    }
    (way,) = read([*names, "README.roboflow.txt"], tables)
    assert counted(way) == {(label, part): 3 for label in ("cat", "dog") for part in parts.values()}
    assert way.id == "table:_classes.csv:cat, dog" and {way.places[name] for name in tables} == {"label_table"}


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_an_image_folder_of_the_hub(ending: str) -> None:
    names = [f"data/{part}/{i:04}.png" for part in ("train", "test") for i in range(10)]
    rows = [{"file_name": f"{i:04}.png", "label": i % 2, "breed": "ab"[i % 2], "text": f"no. {i}"} for i in range(10)]
    lines = "\n".join(map(json.dumps, rows)).encode()
    table = lines if ending == "jsonl" else csv_of([tuple(row.values()) for row in rows], *rows[0])
    ways = read(names, {f"data/{part}/metadata.{ending}": table for part in ("train", "test")})
    assert ids(ways) == [f"table:metadata.{ending}:breed", f"table:metadata.{ending}:label"]
    assert counted(ways[0]) == {(label, part): 5 for label in "ab" for part in ("train", "test")}


def test_leaves_of_kaggle_have_their_species_among_measures() -> None:
    draw = random.Random(0)
    measures = [f"margin{i}" for i in range(128)]
    rows = [(i, f"Acer {i % 9}", *(round(draw.randrange(8) / 128, 6) for _ in measures)) for i in range(1, 91)]
    test = [(i, *(0.5 for _ in measures)) for i in range(91, 161)]
    tables = {"train.csv": csv_of(list(rows), "id", "species", *measures), "test.csv": csv_of(test, "id", *measures)}
    ways = read([f"images/{i}.jpg" for i in range(1, 161)], tables)
    assert ids(ways) == ["table:train.csv:species"] and len(counted(ways[0])) == 9


def test_folders_that_cut_a_pile_in_pieces_come_after_the_table() -> None:
    names = [f"HAM10000_images_part_{1 + i // 50}/ISIC_{i:07}.jpg" for i in range(100)]
    rows = [
        (f"HAM_{i // 2}", f"ISIC_{i:07}", ("nv", "mel", "bkl")[i % 3], ("histo", "follow")[i % 2], f"{30 + i % 40}.0")
        for i in range(100)
    ]
    table = csv_of(list(rows), "lesion_id", "image_id", "dx", "dx_type", "age")
    ways = read(names, {"HAM10000_metadata.csv": table})
    assert [way.values.get("column", way.kind) for way in ways] == ["dx", "dx_type", "folders"]


def test_cars_of_stanford() -> None:
    names = [f"cars_{part}/cars_{part}/{i:05}.jpg" for part in ("train", "test") for i in range(10)]
    rows: list[tuple[object, ...]] = [(name, 7 * i, "Audi" if i % 2 else "BMW") for i, name in enumerate(names)]
    (way,) = read(names, {"labels.csv": csv_of(rows, "fname", "bbox_x1", "class", delimiter=";")})
    assert counted(way) == {(label, part): 5 for label in ("Audi", "BMW") for part in ("train", "test")}


def test_flowers_in_one_folder_with_a_headless_table_of_numbers() -> None:
    names = [f"jpg/image_{i:05}.jpg" for i in range(1, 409)]
    (way,) = read(names, {"labels.csv": csv_of([(f"image_{i:05}.jpg", i % 102) for i in range(1, 409)])})
    assert way.id == "table:labels.csv:2" and len(counted(way)) == 102


def test_a_table_dropped_beside_the_zip() -> None:
    table = parse("labels.csv/labels.csv", csv_of([*PETS, ("5.jpg", "cat")], "file", "label"))
    assert table is not None
    uploads = [("pets.zip", [f"pets.zip/x/{i}.jpg" for i in range(1, 5)]), ("labels.csv", [table.name])]
    (way,) = labellings(uploads, {table.name: table})
    assert counted(way) == {("cat", ""): 2, ("dog", ""): 2} and way.values["missing"] == "1"
    assert way.id == "table:labels.csv:label"


def test_folders_come_first_and_a_table_that_repeats_them_is_not_offered() -> None:
    names = [f"{label}/{label}{i}.jpg" for label in ("cat", "dog") for i in range(6)]
    same: list[tuple[object, ...]] = [(name, name.split("/")[0]) for name in names]
    other: list[tuple[object, ...]] = [(name, "old" if i % 2 else "young") for i, name in enumerate(names)]
    assert ids(read(names, {"t.csv": csv_of(same, "file", "label")})) == ["folders"]
    assert ids(read(names, {"t.csv": csv_of(other, "file", "age")})) == ["folders", "table:t.csv:age"]


def test_nasty_zip_has_folders_first_and_its_table_second() -> None:
    with zipfile.ZipFile(shared("nasty.zip")) as archive:
        names, data = archive.namelist(), archive.read("PICK.tsv")
    table = parse("PICK.tsv", data)
    assert table is not None
    folders, by_table = labellings([("nasty.zip", names)], {"PICK.tsv": table})
    assert (folders.id, by_table.id) == ("folders", "table:PICK.tsv:1")
    told = Counter(line.split("\t")[0] for line in data.decode().splitlines())
    assert {label: count for (label, _), count in counted(by_table).items()} == told


# Hostile tables


CELL = st.sampled_from(["1.jpg", "2.jpg", "a/3.jpg", "3", "A", "b", "", "0", "1", "train", "test", "1.5", "=1+1"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=12), st.randoms())
def test_any_table_gives_every_file_a_place_or_a_reason_whatever_the_order(
    rows: list[tuple[str, str, str]], draw: random.Random
) -> None:
    names = ["1.jpg", "2.jpg", "a/3.jpg", "b/3.jpg", "b/4.jpg", "x.txt", "t.csv", "u.csv"]
    tables = {"t.csv": csv_of([*rows, *rows]), "u.csv": csv_of([*rows], "file", "label", "split")}
    parsed = {name: table for name, data in tables.items() if (table := parse(name, data)) is not None}
    ways = labellings([("x", names)], parsed)
    for way in ways:
        assert set(way.places) == set(names)
        assert {place for place in way.places.values() if isinstance(place, str)} <= set(wording.SKIP_REASONS)
    assert len(set(ids(ways))) == len(ways)
    again = labellings([("x", draw.sample(names, 8))], dict(draw.sample(list(parsed.items()), len(parsed))))
    assert again == ways


@pytest.mark.parametrize(
    "data",
    [
        b"ab," * 199 * 6_000,
        (b"ab," * 199 + b"cd\n") * 6_000,
        b"".join(b",".join(b"%d" % ((i * 7919 + j) % 5000) for j in range(40)) + b"\n" for i in range(12_000)),
        b"".join(b"x/%d.jpg,%s\n" % (i, b"a/" * 300) for i in range(5_000)),
        b'a,"' + b"x" * 3_000_000,
        b"x.jpg,a\n" * 50_000,
    ],
    ids=["one row", "wide", "numbers", "deep", "quote", "one file"],
)
def test_hostile_tables_take_bounded_time(data: bytes) -> None:
    names = [f"{i % 9}/x.jpg" for i in range(2_000)] + [f"{i}.jpg" for i in range(18_000)]
    started = time.process_time()
    table = parse("t.csv", data)
    labellings([("x", names)], {"t.csv": table} if table else {})
    assert in_time(time.process_time() - started, 6)


def test_twenty_thousand_names_and_rows_are_read_in_a_moment() -> None:
    rows = [
        (f"images/img_{i:05}.jpg", f"class {i % 37}", "train" if i % 5 else "test", 300 + i % 50) for i in range(20_000)
    ]
    data = csv_of(list(rows), "file", "label", "split", "width")
    started = time.process_time()
    (way,) = read([f"images/img_{i:05}.jpg" for i in range(20_000)], {"labels.csv": data})
    assert in_time(time.process_time() - started, 2)  # 0.4 when nothing else runs
    assert sum(counted(way).values()) == 20_000
