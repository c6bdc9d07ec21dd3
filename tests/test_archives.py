"""Zips and folders as people make them, and as people with bad luck or bad intentions make them (SECURITY.md 5.1)."""

import os
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.archives_by_hand import (
    Raw,
    Watched,
    end_record,
    end_record_64,
    listed,
    mutated,
    pictures,
    raw_zip,
    watched,
    zip_of,
)
from tests.conftest import Zipper, encode, picture, shared
from tests.pace import in_time
from tl_core.data.archive import Source, Upload
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.errors import IntakeError
from tl_core.settings import Settings

Attack = Callable[..., Watched]
ReadBytes = Callable[[bytes], ImageSet]


@pytest.fixture
def attack(tmp_path: Path, settings: Settings) -> Attack:
    """Give the intake a file with these bytes; it has to be refused."""

    def run(data: bytes, name: str = "upload.zip", limits: Settings = settings) -> Watched:
        upload = tmp_path / name
        upload.write_bytes(data)
        result = watched(upload, tmp_path / "set", limits)
        assert result.sentence
        return result

    return run


@pytest.fixture
def read_bytes(tmp_path: Path, read_set: Any) -> ReadBytes:
    """Give the intake a file with these bytes; it has to become a set."""

    def run(data: bytes) -> ImageSet:
        upload = tmp_path / f"upload{zlib.crc32(data)}.zip"
        upload.write_bytes(data)
        return read_set(upload, f"set{zlib.crc32(data)}")

    return run


@pytest.fixture(scope="module")
def ordinary_mb(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Memory of the child that reads a small ordinary zip: what its libraries take."""
    folder = tmp_path_factory.mktemp("ordinary")
    (folder / "small.zip").write_bytes(raw_zip(pictures()))
    settings = Settings(data_dir=folder / "data", free_disk_reserve=0)
    result = watched(folder / "small.zip", folder / "set", settings)
    assert not result.sentence and result.peak_mb > 10
    return result.peak_mb


def reasons(images: ImageSet) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in images.skipped}


def deflated(data: bytes, level: int = 9) -> bytes:
    return zlib.compress(data, level, -15)


ZEROS = deflated(bytes(200_000_000), 1)
LIMIT_MB = 100  # more than an ordinary zip takes


def test_case_1_nested_zips_are_named_and_never_opened(attack: Attack, tmp_path: Path, settings: Settings) -> None:
    inner = zip_of({"0.png": b"\0" * 1000})
    for _ in range(6):
        inner = zip_of({f"{i}.zip": inner for i in range(3)}, zipfile.ZIP_DEFLATED)
    result = attack(inner)
    assert "holds no pictures" in result.sentence and in_time(result.seconds, 2)
    assert listed(tmp_path / "upload.zip", settings)[0].skipped == [(f"{i}.zip", "nested_archive") for i in range(3)]


def test_case_1_the_real_42_zip(attack: Attack) -> None:
    with zipfile.ZipFile(shared("nasty.zip")) as archive:
        result = attack(archive.read("zip_bomb/42.zip"))
    assert result.sentence and in_time(result.seconds, 2)


def full_overlap(entries: int = 200, size: int = 50_000_000) -> bytes:
    """Many central entries that share one local file (Fifield's full overlap)."""
    body = Raw(b"a/x.png", deflated(bytes(size)), size=size, method=8)
    names = [b"%s/%04d.png" % (b"ab"[i % 2 : i % 2 + 1], i) for i in range(entries)]
    return raw_zip([replace(body, name=name, at=0) for name in names], data=body.local())


def quoted_overlap(entries: int = 200, size: int = 20_000_000) -> bytes:
    """Each file's data is a stored deflate block that quotes the next local header, then the next file's data."""
    data, unpacked = deflated(bytes(size)), size
    files = [Raw(b"a/%04d.png" % entries, data, size=unpacked, method=8)]
    for i in reversed(range(entries)):
        header = files[-1].local()[: 30 + len(files[-1].name)]
        data = b"\0" + struct.pack("<HH", len(header), 0xFFFF ^ len(header)) + header + data
        unpacked += len(header)
        files.append(Raw(b"a/%04d.png" % i, data, size=unpacked, method=8))
    files.reverse()
    offsets = [0]
    for file in files[:-1]:
        offsets.append(offsets[-1] + 35 + len(file.name))
    return raw_zip([replace(f, at=at) for f, at in zip(files, offsets, strict=True)], data=files[0].local())


@pytest.mark.parametrize("bomb", [full_overlap, quoted_overlap], ids=["case_2_full", "case_3_quoted"])
def test_cases_2_3_overlapping_entries_are_refused_unread(
    bomb: Callable[[], bytes], attack: Attack, ordinary_mb: float
) -> None:
    data = bomb()
    assert len(data) < 150_000
    result = attack(data)
    assert "entries that overlap" in result.sentence
    assert in_time(result.seconds, 2) and result.peak_mb < ordinary_mb + LIMIT_MB


def test_case_4_a_forged_packed_size_asks_for_nothing(attack: Attack, ordinary_mb: float) -> None:
    forged = Raw(b"a.png", packed=0xFFFFFFFE, size=0xFFFFFFFE, at=0)
    data = raw_zip([forged, forged], data=forged.local())
    assert len(data) < 200
    result = attack(data)
    assert "entries that overlap" in result.sentence and result.peak_mb < ordinary_mb + LIMIT_MB


def test_case_5_one_entry_over_the_limit_is_left_out_unread(attack: Attack, ordinary_mb: float) -> None:
    result = attack(raw_zip([Raw(b"a/zeros.png", ZEROS, size=200_000_000, method=8)]))
    assert "None of the 1 pictures" in result.sentence
    assert result.peak_mb < ordinary_mb + LIMIT_MB and in_time(result.seconds, 2)


def test_case_6_declared_sizes_over_the_limit_by_one_byte_name_both_numbers(
    make_zip: Zipper, attack: Attack, settings: Settings, tmp_path: Path
) -> None:
    upload = make_zip({"a": 5, "b": 5})
    with zipfile.ZipFile(upload) as archive:
        declared = sum(entry.file_size for entry in archive.infolist())
    result = attack(upload.read_bytes(), limits=replace(settings, max_unpacked=declared - 1))
    assert f"Found {declared:,} bytes" in result.sentence and f"at most {declared - 1:,} bytes" in result.sentence
    assert not watched(upload, tmp_path / "fits", replace(settings, max_unpacked=declared)).sentence


@pytest.mark.parametrize("method", [8, 12, 14])
def test_case_7_data_longer_than_declared_stops_there(
    method: int, tmp_path: Path, settings: Settings, ordinary_mb: float, read_set: Any
) -> None:
    zeros = bytes(200_000_000 if method == 8 else 60_000_000)
    path = tmp_path / "long.zip"
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        archive.writestr("a/zeros.png", zeros)
        offset = archive.getinfo("a/zeros.png").header_offset
        packed = archive.getinfo("a/zeros.png").compress_size
    data = path.read_bytes()[offset + 30 + len("a/zeros.png") :][:packed]
    path.write_bytes(raw_zip([*pictures(), Raw(b"a/zeros.png", data, size=10, method=method, flags=2)]))
    result = watched(path, tmp_path / "set", settings)
    assert not result.sentence and result.peak_mb < ordinary_mb + LIMIT_MB
    assert listed(path, settings)[1]["a/zeros.png"] == "damaged"
    assert reasons(read_set(path, "again")) == {"a/zeros.png": "damaged"}


def test_case_8_a_terabyte_is_declared_and_never_set_aside(attack: Attack, ordinary_mb: float) -> None:
    extra = struct.pack("<HHQ", 1, 8, 10**12)
    tera = Raw(b"a/tera.png", deflated(b"0123456789"), size=0xFFFFFFFF, method=8, extra=extra)
    result = attack(raw_zip([*pictures(), tera]))
    assert "Found 1,000.0 GB" in result.sentence and "at most 16.0 GB" in result.sentence
    assert result.peak_mb < ordinary_mb + LIMIT_MB


@pytest.mark.parametrize("honest", [True, False])
def test_case_9_a_million_entries_are_refused_by_their_number(honest: bool, attack: Attack, ordinary_mb: float) -> None:
    directory = Raw(b"a/").central(0) * 1_000_000
    ends = end_record_64(1_000_000, len(directory), 0) if honest else end_record(7, len(directory), 0)
    result = attack(directory + ends)
    assert len(directory) == 48_000_000
    assert ("Found 1,000,000 files" if honest else "Found 48.0 MB of file names") in result.sentence
    assert in_time(result.seconds, 2) and result.peak_mb < ordinary_mb + 50


def test_case_9_a_directory_longer_than_its_record_says_is_counted(attack: Attack, ordinary_mb: float) -> None:
    directory = Raw(b"a/").central(0) * 600_000
    result = attack(directory + end_record(7, len(directory), 0))
    assert "Found 50,001 files" in result.sentence
    assert in_time(result.seconds, 2) and result.peak_mb < ordinary_mb + LIMIT_MB


def test_case_10_fifty_thousand_entries_are_read_and_not_one_more(
    tmp_path: Path, settings: Settings, read_bytes: ReadBytes, attack: Attack
) -> None:
    real = pictures()
    filler = [Raw(b"__MACOSX/%06d" % i, b"x") for i in range(settings.max_entries - len(real))]
    images = read_bytes(raw_zip(real + filler))
    assert len(images.pictures) == len(real) and images.ignored == len(filler)
    result = attack(raw_zip([*real, *filler, Raw(b"one/more.png", b"x")]))
    assert "Found 50,001 files" in result.sentence and "at most 50,000" in result.sentence


ELSEWHERE = {
    "../../evil1.jpg": "name_unusable",
    "a/../../evil2.jpg": "name_unusable",
    "..\\..\\evil3.jpg": "name_unusable",
    "C:/evil4.jpg": "name_unusable",
    "....//evil5.jpg": "name_unusable",
    "a/.../evil6.jpg": "name_unusable",
}
CLEANED = ["/a/evil7.jpg", "C:evil8.jpg", "\\\\a\\share\\evil9.jpg"]


def test_case_11_names_that_lead_elsewhere_are_listed_and_never_written(tmp_path: Path, read_bytes: ReadBytes) -> None:
    hostile = [Raw(name.encode(), picture(9 + i)) for i, name in enumerate([*ELSEWHERE, *CLEANED])]
    images = read_bytes(raw_zip(pictures() + hostile))
    assert {name: reasons(images).get(name) for name in ELSEWHERE} == ELSEWHERE
    used = [p.name for p in images.pictures]
    assert "a/evil7.jpg" in used and "a/share/evil9.jpg" in used
    assert set(images.class_names) == {"a", "b"}
    # "evil" is in the names of no file, be it above the folder or at the root of the disk
    assert not [p for place in (tmp_path.parent, Path("/"), Path.cwd()) for p in place.glob("*evil*")]
    assert not list(tmp_path.rglob("*evil*"))


def test_case_11_a_colon_alone_is_no_drive(read_bytes: ReadBytes) -> None:
    images = read_bytes(raw_zip(pictures(names=("Type A:", "10:30"))))
    assert images.class_names == ("10:30", "Type A:") and not images.skipped


def test_two_uploads_of_one_name_lose_nothing(tmp_path: Path, settings: Settings) -> None:
    uploads = []
    for n, folder in enumerate(("cats", "dogs")):
        (tmp_path / folder).mkdir()
        entries = [Raw(b"%d.png" % i, picture(10 * n + i, ending="png")) for i in range(3)]
        (tmp_path / folder / "images.zip").write_bytes(raw_zip(entries))
        uploads.append(Upload("images.zip", tmp_path / folder / "images.zip"))
    list(prepare(uploads, tmp_path / "set", settings))
    images = load(tmp_path / "set")
    assert images.class_names == ("images", "images (2)") and images.counts() == (3, 3) and not images.skipped


def test_case_11_real_zip_slips(attack: Attack, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared("nasty.zip")) as archive:
        names = [name for name in archive.namelist() if name.startswith("zip_slip/")]
        assert len(names) == 4
        for name in names:
            assert "holds no pictures" in attack(archive.read(name), name=Path(name).name).sentence
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil.txt").exists()


def test_case_12_backslashes_are_folders(read_bytes: ReadBytes) -> None:
    entries = [replace(entry, name=entry.name.replace(b"/", b"\\")) for entry in pictures(names=("cats", "dogs"))]
    images = read_bytes(raw_zip([Raw(b"cats\\"), *entries]))
    assert images.class_names == ("cats", "dogs") and images.counts() == (3, 3) and not images.skipped


def test_case_13_links_are_skipped_and_what_they_lead_to_is_never_read(tmp_path: Path, read_bytes: ReadBytes) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.png").write_bytes(picture(77, ending="png"))
    links = [
        Raw(b"link", str(secret).encode(), mode=0o120777),
        Raw(b"link/a.png", b"text where a picture should be"),
        Raw(b"a/a.png", str(secret / "a.png").encode(), mode=0o120777),
    ]
    images = read_bytes(raw_zip(pictures() + links))
    assert len(images.pictures) == 6
    assert reasons(images) == {"link": "link", "a/a.png": "link", "link/a.png": "not_a_picture"}


@pytest.mark.parametrize("mode", [0o010644, 0o020644, 0o060644, 0o140644], ids=["pipe", "char", "block", "socket"])
def test_case_14_devices_are_skipped(mode: int, read_bytes: ReadBytes) -> None:
    images = read_bytes(raw_zip([*pictures(), Raw(b"a/9.jpg", picture(9), mode=mode)]))
    assert reasons(images) == {"a/9.jpg": "special_file"} and len(images.pictures) == 6


def test_case_15_names_no_disk_would_take_are_only_text(read_bytes: ReadBytes, tmp_path: Path) -> None:
    odd = ["a/CON.png", "aux/x.png", "aux/y.png", "a/x:b.png", "a/trail. ", "a/a\tb\n.png"]
    images = read_bytes(raw_zip(pictures() + [Raw(n.encode(), picture(20 + i)) for i, n in enumerate(odd)]))
    names = [p.name for p in images.pictures]
    assert set(images.class_names) == {"a", "b", "aux"} and len(names) == 12
    assert "a/a b .png" in names and all(name.isprintable() for name in names)
    written = {path.name for path in images.folder.rglob("*")}
    assert not any(word in name for name in written for word in ("CON", "aux", "trail", ".png"))


def test_case_16_a_zero_byte_never_ends_a_name(read_bytes: ReadBytes) -> None:
    images = read_bytes(raw_zip([*pictures(), Raw(b"a/evi\0X.png", picture(9)), Raw(b"a/x.txt\0.png", picture(8))]))
    assert len(images.pictures) == 6 and set(reasons(images).values()) == {"name_unusable"} and len(images.skipped) == 2


def test_case_17_names_too_long_or_too_deep_cost_themselves_only(read_bytes: ReadBytes) -> None:
    names = [
        b"a/" + b"x" * 300 + b".png",
        b"a/" + b"y" * 6_000,
        b"d/" * 3_000 + b"z.png",
        (b"e" * 200 + b"/") * 6 + b"a",
    ]
    images = read_bytes(raw_zip(pictures() + [Raw(name, picture(9)) for name in names]))
    assert len(images.pictures) == 6
    assert [skipped.reason for skipped in images.skipped] == ["name_too_long"] * 4
    assert all(len(skipped.name) <= 255 for skipped in images.skipped)


def test_case_18_two_entries_of_one_name_are_both_kept(read_bytes: ReadBytes) -> None:
    images = read_bytes(raw_zip([*pictures(), Raw(b"a/9.jpg", picture(50)), Raw(b"a/9.jpg", picture(51))]))
    assert [p.name for p in images.pictures].count("a/9.jpg") == 2 and len(images.pictures) == 8
    assert len({p.group for p in images.pictures if p.name == "a/9.jpg"}) == 2


def test_case_19_case_and_unicode_form_make_no_second_class(read_bytes: ReadBytes) -> None:
    forms = [unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    entries = pictures(names=("Cats", "cats"), each=2) + pictures(names=(forms[0], forms[1]), each=2)
    entries = [replace(e, name=e.name.replace(b".jpg", b"%d.jpg" % i), data=picture(i)) for i, e in enumerate(entries)]
    images = read_bytes(raw_zip(entries))
    assert len(images.class_names) == 2 and images.counts() == (4, 4)
    assert images.class_names[0] == "caf\u00e9"


NAMES = {
    "case_20_gbk": ("gbk", ("猫", "狗"), "图片"),
    "case_20_gbk_rare": ("gbk", ("貓貓", "兔子"), "圖"),
    "case_21_shift_jis": ("shift_jis", ("猫", "犬"), "画像"),
    "case_21_kana": ("shift_jis", ("ねこ", "いぬ"), "テスト"),
    "case_21_utf8": ("utf-8", ("猫", "собака"), "café"),
    "case_21_dos": ("cp437", ("Hündin", "Kätzchen"), "naïve"),
    "case_21_dos_umlauts": ("cp437", ("Äpfel", "Größe"), "Übung"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_cases_20_21_names_without_a_flag_are_read_as_meant(kind: str, read_bytes: ReadBytes) -> None:
    encoding, labels, file = NAMES[kind]
    entries = [
        Raw(f"{label}/{file}{i}.jpg".encode(encoding), picture(10 * k + i))
        for k, label in enumerate(labels)
        for i in range(3)
    ]
    images = read_bytes(raw_zip(entries))
    assert set(images.class_names) == set(labels)
    assert {Path(p.name).name for p in images.pictures} == {f"{file}{i}.jpg" for i in range(3)}


def test_case_21_info_zip_names_in_an_extra_field_are_used_when_they_belong(read_bytes: ReadBytes) -> None:
    def entry(real: str, i: int, crc_of: bytes | None = None) -> Raw:
        shown = f"__/{i}.jpg".encode()
        body = struct.pack("<BI", 1, zlib.crc32(crc_of or shown)) + f"{real}/{i}.jpg".encode()
        return Raw(shown, picture(i), extra=struct.pack("<HH", 0x7075, len(body)) + body)

    images = read_bytes(
        raw_zip([*(entry("猫", i) for i in range(3)), *(entry("犬", i, b"other") for i in range(3, 6))])
    )
    assert set(images.class_names) == {"猫", "__"}


def test_case_22_invisible_characters_do_not_tell_classes_apart(read_bytes: ReadBytes) -> None:
    names = ("cats\u200b", "\u202ecats", "cats", "do\x07gs")
    entries = [Raw(f"{n}/{i}.jpg".encode(), picture(10 * k + i)) for k, n in enumerate(names) for i in (1, 2)]
    images = read_bytes(raw_zip(entries))
    assert all(name.isprintable() for name in (*images.class_names, *(p.name for p in images.pictures)))
    assert images.class_names == ("cats", "do gs") and images.counts() == (6, 2)
    assert [shown for _, shown in images.merged].count("cats") == 2  # said, not done in silence


@pytest.mark.parametrize("method", [8, 99], ids=["zipcrypto", "aes"])
def test_case_23_a_password_is_noticed(method: int, attack: Attack, read_bytes: ReadBytes) -> None:
    locked = [Raw(e.name, os.urandom(500), size=900, method=method, flags=1) for e in pictures()]
    assert "is protected by a password" in attack(raw_zip([*locked, Raw(b"a/readme.txt", b"hello")])).sentence
    half = [replace(entry, name=b"b/locked" + entry.name[2:]) for entry in locked[:1]]
    assert list(reasons(read_bytes(raw_zip(pictures() + half))).values()) == ["password"]


@pytest.mark.parametrize("method", [1, 6, 9, 93, 95, 98], ids=["shrink", "implode", "deflate64", "zstd", "xz", "ppmd"])
def test_case_24_packings_that_are_not_read_are_named(method: int, attack: Attack, read_bytes: ReadBytes) -> None:
    strange = [Raw(e.name, os.urandom(500), size=900, method=method) for e in pictures()]
    assert "packed in a way that cannot be unpacked here" in attack(raw_zip(strange)).sentence
    images = read_bytes(raw_zip([*pictures(), replace(strange[0], name=b"a/9.jpg")]))
    assert reasons(images) == {"a/9.jpg": "unsupported_compression"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_case_25_every_common_packing_gives_the_same_bytes(method: int, tmp_path: Path, settings: Settings) -> None:
    content = {f"a/{i}.jpg": picture(i) for i in range(3)} | {"a/long": bytes(range(256)) * 2_000, "a/one": b"x"}
    upload = tmp_path / "upload.zip"
    upload.write_bytes(zip_of(content, method))
    assert listed(upload, settings)[1] == content


def test_case_25_a_bzip2_bomb_and_a_giant_lzma_dictionary_cost_themselves_only(
    tmp_path: Path, settings: Settings, ordinary_mb: float
) -> None:
    import bz2

    properties = b"\x09\x14\x05\x00\x5d" + struct.pack("<I", 0xFFFFFFFF)
    bombs = [
        Raw(b"a/bz.png", bz2.compress(bytes(50_000_000)), size=40_000_000, method=12),
        Raw(b"a/dict.png", properties + bytes(50_000), size=40_000_000, method=14),
    ]
    upload = tmp_path / "upload.zip"
    upload.write_bytes(raw_zip(pictures() + bombs))
    found = listed(upload, settings)[1]
    assert found["a/bz.png"] == "damaged" and found["a/dict.png"] == "unsupported_compression"
    result = watched(upload, tmp_path / "set", settings)
    assert not result.sentence and result.peak_mb < ordinary_mb + LIMIT_MB


def test_case_25_damaged_lzma_entries_cost_their_pictures_only(tmp_path: Path, read_set: Any) -> None:
    upload = tmp_path / "lzma.zip"
    upload.write_bytes(zip_of({e.name.decode(): e.data for e in pictures(each=4)}, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(upload) as archive:
        at = archive.getinfo("a/1.jpg").header_offset
    data = bytearray(upload.read_bytes())
    data[at + 60 : at + 400] = b"\xff" * 340
    upload.write_bytes(data)
    assert reasons(read_set(upload)) == {"a/1.jpg": "damaged"}


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_case_26_a_zip_cut_off_is_called_incomplete(kept: float, attack: Attack) -> None:
    data = raw_zip(pictures(each=5))
    assert "is incomplete" in attack(data[: int(kept * len(data))]).sentence


def test_case_27_nothing_is_said_in_four_ways(attack: Attack) -> None:
    junk = raw_zip([Raw(b"__MACOSX/._1.jpg", b"x"), Raw(b".DS_Store", b"x"), Raw(b"a/Thumbs.db", b"x")])
    contents = {"is empty (0 bytes)": b"", "is not a zip": b"hello", "has no files": raw_zip([]), "no pictures": junk}
    assert len(contents["has no files"]) == 22
    sentences = {words: attack(data).sentence for words, data in contents.items()}
    assert all(words in sentence for words, sentence in sentences.items()) and len(set(sentences.values())) == 4


@pytest.mark.parametrize(
    ("front", "behind"),
    [(b"\x7fELF" + os.urandom(96), b""), (b"", os.urandom(100)), (b"MZ" + bytes(98), bytes(100))],
    ids=["in front", "behind", "both"],
)
def test_case_28_junk_around_a_zip_changes_nothing(front: bytes, behind: bytes, read_bytes: ReadBytes) -> None:
    data = raw_zip(pictures())
    plain, wrapped = read_bytes(data), read_bytes(front + data + behind)
    assert [p.name for p in wrapped.pictures] == [p.name for p in plain.pictures] and not wrapped.skipped


def test_case_29_of_two_zips_in_one_file_the_last_counts(read_bytes: ReadBytes) -> None:
    first, last = raw_zip(pictures(names=("one", "two"))), raw_zip(pictures(names=("three", "four")))
    assert set(read_bytes(first + last).class_names) == {"three", "four"}


def test_case_30_an_entry_that_lies_about_its_name_is_skipped(read_bytes: ReadBytes) -> None:
    liar = Raw(b"a/9.jpg", picture(9), local_name=b"b/9.jpg")
    assert reasons(read_bytes(raw_zip([*pictures(), liar]))) == {"a/9.jpg": "damaged"}


@pytest.mark.parametrize("method", [0, 8])
def test_case_31_a_wrong_checksum_costs_one_picture(method: int, read_bytes: ReadBytes) -> None:
    entries = pictures(each=50)
    whole = entries[7]
    # one bit of the picture's data: a decoder alone would not notice
    bent = bytearray(whole.data)
    bent[len(bent) // 2] ^= 1
    packed = bytes(bent) if method == 0 else deflated(bytes(bent))
    entries[7] = replace(whole, data=packed, size=len(bent), crc=zlib.crc32(whole.data), method=method)
    images = read_bytes(raw_zip(entries))
    assert len(images.pictures) == 99 and reasons(images) == {whole.name.decode(): "damaged"}


OTHERS = {
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(90),
    "rar": b"Rar!\x1a\x07\x01\0" + bytes(90),
    "gzip": b"\x1f\x8b" + bytes(90),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(90),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["upload.zip", "upload", "upload.tar.gz"])
def test_case_32_other_archives_are_called_by_their_name(kind: str, name: str, attack: Attack) -> None:
    sentence = attack(OTHERS[kind], name=name).sentence
    assert f"is a {kind} archive" in sentence and "compress the folders again as zip" in sentence


def test_case_33_what_systems_leave_behind_is_counted_and_no_class(read_bytes: ReadBytes) -> None:
    junk = [
        *("__MACOSX/a/._0.jpg", "__MACOSX/x.png", ".DS_Store", "a/.DS_Store", "a/Thumbs.db", "a/._0.jpg"),
        *("b/desktop.ini", "@eaDir/0.jpg", "a/@eaDir/0.jpg/thumb.jpg", ".git/config", "$RECYCLE.BIN/x.jpg"),
    ]
    images = read_bytes(raw_zip(pictures() + [Raw(name.encode(), picture(9)) for name in junk]))
    assert images.class_names == ("a", "b") and images.counts() == (3, 3)
    assert images.ignored == len(junk) and not images.skipped


LAYOUTS: dict[str, tuple[tuple[str, ...], dict[str, int] | str]] = {
    "flat": (("cat", "dog"), {"cat": 3, "dog": 3}),
    "wrapped": (("my/zip/cat", "my/zip/dog"), {"cat": 3, "dog": 3}),
    "split": (("train/cat", "train/dog", "val/cat", "val/dog"), {"cat": 6, "dog": 6}),
    "three_levels": (("animals/cat/black", "animals/cat/white", "animals/dog/big"), {"cat": 6, "dog": 3}),
    "loose": (("",), "none in the folder of a class"),
    "one_class": (("cat",), "Found one class only: “cat”"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_case_34_layouts(layout: str, read_bytes: ReadBytes, attack: Attack) -> None:
    folders, expected = LAYOUTS[layout]
    entries = [
        Raw(f"{folder}/IMG_{7 * i}{k}.jpg".lstrip("/").encode(), picture(10 * k + i))
        for k, folder in enumerate(folders)
        for i in range(3)
    ]
    if isinstance(expected, str):
        assert expected in attack(raw_zip(entries)).sentence
        return
    images = read_bytes(raw_zip(entries))
    assert dict(zip(images.class_names, images.counts(), strict=True)) == expected
    assert images.part_counts() == ({"train": 6, "val": 6} if layout == "split" else {"": sum(expected.values())})


def test_case_35_zip64_with_more_entries_than_16_bits_hold(
    tmp_path: Path, settings: Settings, make_zip: Zipper
) -> None:
    many = replace(settings, max_entries=70_000)
    entries = pictures() + [Raw(b"__MACOSX/%06d" % i, b"x") for i in range(66_000)]
    body, central, at = [], [], 0
    for entry in entries:
        central.append(entry.central(at))
        body.append(entry.local())
        at += len(body[-1])
    front, directory = b"".join(body), b"".join(central)
    upload = tmp_path / "many.zip"
    upload.write_bytes(front + directory + end_record_64(len(entries), len(directory), len(front)))
    listing, found = listed(upload, many)
    assert len(found) == 6 and listing.ignored == 66_000
    assert not watched(upload, tmp_path / "set", many).sentence


def test_case_35_zip64_beyond_four_gigabytes(tmp_path: Path, settings: Settings) -> None:
    upload = tmp_path / "far.zip"
    with upload.open("wb") as file:
        file.seek(4_400_000_000)  # a hole: nothing on the disk
        with zipfile.ZipFile(file, "w") as archive:
            for entry in pictures():
                archive.writestr(entry.name.decode(), entry.data)
    found = listed(upload, replace(settings, max_upload=10**10))[1]
    assert found == {entry.name.decode(): entry.data for entry in pictures()}
    result = watched(upload, tmp_path / "set", settings)
    assert "Found 4.4 GB" in result.sentence and "at most 4.0 GB" in result.sentence


@pytest.mark.parametrize("wrong", ["locator", "count", "offset"])
def test_case_35_zip64_records_that_disagree_are_refused(wrong: str, attack: Attack) -> None:
    entries = pictures()
    data = raw_zip(entries)
    size = sum(len(entry.central(0)) for entry in entries)
    at = len(data) - 22 - size
    if wrong == "locator":
        ends = end_record_64(6, size, at, said_at=at)
    elif wrong == "count":
        ends = end_record_64(6, size, at)[:-22] + end_record(5, size, at)
    else:
        ends = end_record_64(6, size, at)[:-22] + end_record(6, size, 0)
    assert "claim impossible sizes" in attack(data[:-22] + ends).sentence


def test_case_36_parts_of_a_split_archive_are_named(attack: Attack) -> None:
    data = raw_zip(pictures())
    parts = {
        "pictures.z01": b"PK\7\10" + data[:900],
        "pictures.z02": data[900:1800],
        "pictures.7z.002": os.urandom(900),
        "pictures.zip": data[1800:-22] + end_record(6, 300, 500, disk=2),
    }
    for name, content in parts.items():
        for _ in range(2):
            assert "one part of an archive that was split" in attack(content, name=name).sentence


def test_real_zips_that_broke_other_readers(attack: Attack) -> None:
    with zipfile.ZipFile(shared("nasty.zip")) as archive:
        names = [name for name in archive.namelist() if name.startswith("go_fuzz/zip/")]
        assert len(names) >= 3
        for name in names:
            assert attack(archive.read(name)).seconds < 5


def test_a_folder_reads_like_its_zip_and_names_what_is_no_file(tmp_path: Path, settings: Settings) -> None:
    root = tmp_path / "root"
    for entry in pictures():
        (root / entry.name.decode()).parent.mkdir(parents=True, exist_ok=True)
        (root / entry.name.decode()).write_bytes(entry.data)
    (tmp_path / "elsewhere").mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "a/link.jpg").symlink_to("/etc/passwd")
    os.mkfifo(root / "a/pipe.jpg")
    upload = tmp_path / "same.zip"
    upload.write_bytes(raw_zip(pictures()))
    (listing, folder), (_, zipped) = listed(root, settings), listed(upload, settings)
    assert folder == zipped and list(folder) == list(zipped)
    assert dict(listing.skipped) == {"linked": "link", "a/link.jpg": "link", "a/pipe.jpg": "special_file"}


def test_single_files_go_by_the_names_the_browser_gave(tmp_path: Path, settings: Settings) -> None:
    names = ["cats/1.jpg", "dogs/../../1.jpg", "cats/.DS_Store", "dogs/2.zip", "dogs\\2.jpg", "dogs/0.jpg"]
    for i in range(len(names)):
        (tmp_path / f"{i}").write_bytes(picture(i) if i < 5 else b"")
    upload = Upload("many", files=tuple((name, tmp_path / f"{i}") for i, name in enumerate(names)))
    assert Upload.from_json(upload.to_json()) == upload
    with Source(upload, settings) as source:
        found = {member.name: source.read(member) for member in source.listing.members}
        reason_of = dict(source.listing.skipped)
    assert found == {"cats/1.jpg": picture(0), "dogs/2.jpg": picture(4)} and source.listing.ignored == 1
    assert reason_of == {
        "dogs/../../1.jpg": "name_unusable",
        "dogs/2.zip": "nested_archive",
        "dogs/0.jpg": "empty_file",
    }


def test_mutated_zips_leave_only_named_problems(tmp_path: Path, settings: Settings) -> None:
    small = {f"{n}/{i}.png": encode_dot(i) for n in "ab" for i in range(2)}
    goods = [zip_of(small, method) for method in (0, 8, 12, 14)] + [raw_zip(pictures(each=1))]
    ends: Counter[str] = Counter()
    upload = tmp_path / "upload.zip"
    for seed in range(400):
        upload.write_bytes(mutated(goods[seed % len(goods)], seed))
        try:
            _, found = listed(upload, settings)
            ends["read"] += 1
            assert all(
                isinstance(data, bytes) or data in ("damaged", "unsupported_compression") for data in found.values()
            )
        except IntakeError as error:
            ends[type(error).__name__] += 1
    assert len(ends) >= 4 and ends["read"] > 20  # the mutations reach past the first check


def encode_dot(i: int) -> bytes:
    from PIL import Image

    return encode(Image.new("RGB", (3, 3), (i, 40, 90)), "png")
