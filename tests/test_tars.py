"""Tars of every kind, and those that were made to hurt the one who opens them (the tar part of SECURITY.md 5.1)."""

import bz2
import gzip
import io
import lzma
import os
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.archives_by_hand import listed, make_tar, mutated, pictures, raw_zip, watched
from tests.conftest import picture, shared
from tests.pace import in_time
from tl_core import errors
from tl_core.data import listing as listing_rules
from tl_core.data.archive import Source, Upload
from tl_core.data.imageset import ImageSet
from tl_core.data.unpack import PackedStream
from tl_core.errors import IntakeError
from tl_core.settings import Settings

FILES = {entry.name.decode(): entry.data for entry in pictures()}
PACKINGS = {"": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def header(name: bytes, size: bytes | int = 0, kind: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    """The 512 bytes of an entry's header with a right checksum; `size` as text (12 bytes) or a number."""
    told = b"%011o\0" % size if isinstance(size, int) else size
    block = name.ljust(100, b"\0") + b"0000644\0" * 3 + told.ljust(12, b"\0") + b"0" * 12 + b" " * 8 + kind
    block = (block.ljust(257, b"\0") + magic).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def entry(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    return header(name, len(data), kind) + data + bytes(-len(data) % 512)


def pax(**records: str) -> bytes:
    body = b""
    for key, value in records.items():
        line = f" {key}={value}\n".encode()
        length = len(line) + len(str(len(line) + 3))
        body += str(length).encode() + line
    return entry(b"PaxHeader", body, b"x")


GOOD = b"".join(entry(name.encode(), data) for name, data in FILES.items())
END = bytes(1024)


@pytest.fixture
def upload(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "upload.zip") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


Write = Callable[..., Path]


def refused(path: Path, settings: Settings) -> str:
    with pytest.raises(IntakeError) as caught:
        listed(path, settings)
    return str(caught.value)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("format", FORMATS)
def test_case_32_tars_are_read_whatever_they_are_called(
    packing: str, format: str, tmp_path: Path, settings: Settings
) -> None:
    long = {f"{'深い folder ' * 6}/{'x' * 90}.jpg": b"long", "a/empty": b""} if format != "ustar" else {}
    for name in ("upload.zip", "upload.tar"):
        path = make_tar(tmp_path / name, FILES | long, f"w:{packing}", format=FORMATS[format])
        listing, found = listed(path, settings)
        assert found == {name: data for name, data in (FILES | long).items() if data}
        assert list(found) == [name for name, data in (FILES | long).items() if data]
        assert listing.skipped == ([("a/empty", "empty_file")] if long else [])


@pytest.mark.parametrize("packing", PACKINGS)
def test_case_32_a_tar_becomes_the_same_set_as_its_zip(
    packing: str, tmp_path: Path, read_set: Callable[..., ImageSet]
) -> None:
    path = make_tar(tmp_path / f"x.tar.{packing}", FILES, f"w:{packing}")
    (tmp_path / "x.zip").write_bytes(raw_zip(pictures()))
    tarred, zipped = read_set(path, "one"), read_set(tmp_path / "x.zip", "two")
    assert [(p.name, p.label, p.digest) for p in tarred.pictures] == [
        (p.name, p.label, p.digest) for p in zipped.pictures
    ]


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_case_32_what_is_packed_but_no_tar_is_called_by_its_name(
    packing: str, upload: Write, settings: Settings, tmp_path: Path
) -> None:
    kind = {"gz": "gzip", "bz2": "bzip2", "xz": "xz"}[packing]
    for content in (b"just text", b"", bytes(5_000), os.urandom(5_000)):
        path = upload(PACKINGS[packing](content), "upload.tar.gz")
        assert f"is a {kind} archive" in refused(path, settings)
    assert f"is a {kind} archive" in watched(path, tmp_path / "set", settings).sentence


def test_what_tar_itself_writes_is_read(tmp_path: Path, settings: Settings) -> None:
    root = tmp_path / "root"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    deep = root / "a" / ("long" * 50) / ("name" * 50)
    deep.mkdir(parents=True)
    (deep / "deep.jpg").write_bytes(b"deep")
    (root / "a/link.jpg").symlink_to("0.jpg")
    os.link(root / "a/0.jpg", root / "b/hard.jpg")
    os.mkfifo(root / "b/pipe.jpg")
    with (root / "b/sparse.jpg").open("wb") as file:
        for at in range(0, 90_000_000, 3_000_000):  # more pieces than fit in one header
            file.seek(at)
            file.write(b"x" * 5_000)
    for format in ("v7", "oldgnu", "gnu", "posix"):
        path = tmp_path / f"{format}.tar.gz"
        command = ["tar", "-czSf", path, f"--format={format}", "-C", root, "--sort=name", "."]
        if format == "v7":
            command[1:2], command[-1:] = ["-cz", "-f"], ["--exclude=long*", "--exclude=pipe*", "--exclude=sparse*", "."]
        subprocess.run(command, check=True, capture_output=True)
        listing, found = listed(path, settings)
        expected = {"a/link.jpg": "link", "b/hard.jpg": "link"}
        if format != "v7":
            assert found.pop(str((deep / "deep.jpg").relative_to(root))) == b"deep"
            expected |= {"b/pipe.jpg": "special_file", "b/sparse.jpg": "special_file"}
        assert found == FILES and {n.removeprefix("./"): why for n, why in listing.skipped} == expected


def test_case_11_13_14_names_that_lead_elsewhere_links_and_devices(upload: Write, settings: Settings) -> None:
    hostile = {b"../../evil.jpg": b"0", b"a/../../evil.jpg": b"0", b"C:/evil.jpg": b"0"}
    links = {b"a/link.jpg": b"2", b"a/hard.jpg": b"1"}
    devices = {b"a/char.jpg": b"3", b"a/block.jpg": b"4", b"a/pipe.jpg": b"6", b"a/unknown.jpg": b"Z"}
    body = b"".join(header(name, 0, kind) for name, kind in (links | devices).items())
    body += b"".join(entry(name, picture(9)) for name in hostile) + entry(b"/a/cleaned.jpg", b"fine")
    listing, found = listed(upload(body + GOOD + END), settings)
    assert found == {"a/cleaned.jpg": b"fine"} | FILES
    assert dict(listing.skipped) == {
        **{name.decode(): "name_unusable" for name in hostile},
        **{name.decode(): "link" for name in links},
        **{name.decode(): "special_file" for name in devices},
    }


def test_case_11_13_a_path_in_a_pax_header_is_checked_like_any_other(upload: Write, settings: Settings) -> None:
    paths = {"../evil.jpg": "name_unusable", "a/evi\0l.jpg": "name_unusable", "x/" * 40 + "y.jpg": "name_too_long"}
    body = b"".join(pax(path=path) + entry(b"a/fine.jpg", b"data") for path in paths)
    listing, found = listed(upload(body + GOOD + END), settings)
    assert dict(listing.skipped) == paths and found == FILES


def test_case_20_names_in_gbk_are_read(upload: Write, settings: Settings) -> None:
    body = b"".join(entry(f"{label}/{i}.jpg".encode("gbk"), b"x") for label in ("猫", "狗") for i in range(2))
    assert set(listed(upload(body + END), settings)[1]) == {
        f"{label}/{i}.jpg" for label in ("猫", "狗") for i in range(2)
    }


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_case_26_a_tar_cut_off_is_called_incomplete(
    packing: str, kept: float, tmp_path: Path, upload: Write, settings: Settings
) -> None:
    files = {f"{label}/{i}": os.urandom(3_000) for label in "ab" for i in range(10)}
    data = make_tar(tmp_path / "whole.tar", files, f"w:{packing}").read_bytes()
    path = upload(data[: int(kept * len(data)) // 512 * 512 + 100])
    assert "is incomplete" in refused(path, settings)
    assert "is incomplete" in watched(path, tmp_path / "set", settings).sentence


def test_case_26_one_flipped_bit_in_a_packed_tar_is_noticed(tmp_path: Path, upload: Write, settings: Settings) -> None:
    noise = {f"{label}/{i}": os.urandom(3_000) for label in "ab" for i in range(10)}
    for packing in ("gz", "bz2", "xz"):
        data = bytearray(make_tar(tmp_path / "whole.tar", noise, f"w:{packing}").read_bytes())
        data[len(data) // 2] ^= 4
        assert isinstance(refused(upload(data), settings), str)


def test_a_tar_without_its_end_mark_is_read(upload: Write, settings: Settings) -> None:
    assert listed(upload(GOOD), settings)[1] == FILES


@pytest.mark.parametrize("packing", PACKINGS)
def test_case_7_what_a_tar_unpacks_to_is_counted_while_it_streams(
    packing: str, tmp_path: Path, upload: Write, settings: Settings
) -> None:
    tight = replace(settings, max_unpacked=5_000_000)
    data = PACKINGS[packing](GOOD + header(b"a/zeros.jpg", 30_000_000) + bytes(30_000_000))
    result = watched(upload(data), tmp_path / "set", tight)
    assert "of unpacked files" in result.sentence and "at most 5.0 MB" in result.sentence and in_time(result.seconds, 5)


def test_case_7_nothing_is_unpacked_beyond_the_limit() -> None:
    class OverError(Exception):
        pass

    for packing, magic in (("gz", b"\x1f\x8b\x08"), ("bz2", b"BZh"), ("xz", b"\xfd7zXZ\x00")):
        data = io.BytesIO(PACKINGS[packing](bytes(30_000_000)))
        stream = PackedStream(data, magic, 1_000_000, OverError, lambda: None)
        with pytest.raises(OverError):
            stream.skip(20_000_000)
        assert 1_000_000 < stream.position + 1_000_000 < 3_000_000
        assert len(stream._buffer) <= 1 << 18


@pytest.mark.parametrize(
    "size",
    [
        b"777777777777",
        b"-0000000512\0",
        b"\xff" * 12,
        b"\xff" * 10 + b"\xfe\x00",
        b"\x80" + b"\xff" * 11,
        b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7,
        b"0x10\0",
        b"9" * 11,
        b"1_0\0",
    ],
)
@pytest.mark.parametrize("packing", ["", "gz"])
def test_case_8_forged_sizes_end_at_once(
    size: bytes, packing: str, upload: Write, settings: Settings, tmp_path: Path
) -> None:
    data = PACKINGS[packing](GOOD + header(b"a/forged.jpg", size) + GOOD + END)
    result = watched(upload(data), tmp_path / "set", settings)
    assert "is incomplete" in result.sentence and in_time(result.seconds, 3)


@pytest.mark.parametrize("size", ["-1", "-512", "999999999999999", "9" * 400, "1e3", "٣"])
def test_case_8_forged_sizes_in_pax_headers_end_at_once(size: str, upload: Write, settings: Settings) -> None:
    data = GOOD + pax(size=size) + entry(b"a/forged.jpg", picture(1)) + GOOD + END
    assert "is incomplete" in refused(upload(data), settings)


def test_case_8_negative_sizes_of_sparse_maps_do_not_loop(upload: Write, settings: Settings) -> None:
    # as in CVE-2025-8194: the standard library went back to the same header for ever
    sparse = bytearray(header(b"a/sparse.jpg", 512, b"S", b"ustar  \0"))
    sparse[386:410] = b"\xff" * 24
    sparse[482] = 1
    sparse[148:156] = b"%06o\0 " % (sum(sparse[:148]) + sum(sparse[156:]) + 256)
    more = bytearray(512)
    more[504] = 1
    data = bytes(sparse) + bytes(more) * 1000
    assert "is incomplete" in refused(upload(data), settings)
    more_end = bytes(more) * 3 + bytes(512)
    listing, found = listed(upload(bytes(sparse) + more_end + bytes(512) + GOOD + END), settings)
    assert found == FILES and listing.skipped == [("a/sparse.jpg", "special_file")]


@pytest.mark.parametrize("kind", [b"x", b"L", b"g", b"K"])
def test_case_9_a_huge_extended_header_is_passed_over(
    kind: bytes, upload: Write, settings: Settings, tmp_path: Path
) -> None:
    huge = 307_200_000
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    pieces = [packer.compress(GOOD + header(b"huge", huge, kind))]
    pieces += [packer.compress(bytes(huge // 100)) for _ in range(100)]
    pieces += [packer.compress(entry(b"a/after.jpg", picture(30)) + END), packer.flush()]
    path = upload(b"".join(pieces))
    listing, found = listed(path, settings)
    used = kind in b"gK"
    assert found == (FILES | {"a/after.jpg": picture(30)} if used else FILES)
    assert listing.skipped == ([] if used else [("a/after.jpg", "name_too_long")])
    result = watched(path, tmp_path / "set", settings)
    assert not result.sentence and result.peak_mb < 300


@pytest.mark.parametrize(
    "record", [b"5 a=\n", b"99 path=x\n", b"0 path=x\n", b"x path=y\n", b"-7 a=b\n", b"\xb2 a=b\n", b"7 abcd\n"]
)
def test_case_9_pax_records_that_are_none_end_the_listing(record: bytes, upload: Write, settings: Settings) -> None:
    path = upload(GOOD + entry(b"p", record, b"x") + entry(b"a/9.jpg", b"x") + END)
    if record == b"5 a=\n":
        assert len(listed(path, settings)[1]) == 7
    else:
        assert "is incomplete" in refused(path, settings)


def test_case_10_entries_are_counted_also_those_that_only_describe(
    upload: Write, settings: Settings, tmp_path: Path
) -> None:
    few = replace(settings, max_entries=10)
    assert len(listed(upload(GOOD + header(b"a/", 0, b"5") * 4 + END), few)[1]) == 6
    assert "Found 11 files" in refused(upload(GOOD + header(b"a/", 0, b"5") * 5 + END), few)
    assert "files" in refused(upload(pax(path="a/b") * 100 + GOOD + END), few)
    result = watched(upload(gzip.compress(header(b"a/x", 0) * 100_000, 1)), tmp_path / "set", settings)
    assert "Found 50,001 files" in result.sentence and in_time(result.seconds, 4)


def giant_dictionary(data: bytes) -> bytes:
    """An xz file whose one block claims to need a dictionary of 3 GB."""
    packed = bytearray(lzma.compress(data))
    length = (packed[12] + 1) * 4
    at = packed.index(b"\x21\x01", 12, 12 + length)
    packed[at + 2] = 39
    packed[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(packed[12 : 12 + length - 4]))
    return bytes(packed)


def test_case_25_an_xz_with_a_giant_dictionary_is_named(upload: Write, settings: Settings, tmp_path: Path) -> None:
    result = watched(upload(giant_dictionary(GOOD + END)), tmp_path / "set", settings)
    assert "packed in a way that cannot be unpacked here" in result.sentence and result.peak_mb < 300
    # also when it comes later, in a second stream
    later = lzma.compress(GOOD) + giant_dictionary(GOOD + END)
    assert "packed in a way" in refused(upload(later), settings)


def test_parallel_packers_write_many_streams(upload: Write, settings: Settings) -> None:
    data = GOOD + END
    pieces = [data[i : i + 7_000] for i in range(0, len(data), 7_000)]
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        assert listed(upload(b"".join(map(pack, pieces))), settings)[1] == FILES
    # zeros behind a stream are padding, anything else is not ours
    assert listed(upload(gzip.compress(data) + bytes(700)), settings)[1] == FILES
    assert listed(upload(gzip.compress(data) + b"some other thing"), settings)[1] == FILES


def test_case_36_a_volume_of_a_tar_is_named(upload: Write, settings: Settings) -> None:
    assert "one part of an archive" in refused(upload(entry(b"a/1.jpg", b"rest", b"M") + GOOD + END), settings)


def test_case_28_bytes_behind_the_end_are_ignored(upload: Write, settings: Settings) -> None:
    assert listed(upload(GOOD + END + os.urandom(700)), settings)[1] == FILES
    # the beginning decides, also when a zip stands behind
    assert listed(upload(GOOD + END + raw_zip(pictures(names=("c", "d")))), settings)[1] == FILES


def test_case_27_a_tar_without_files_says_so(upload: Write, settings: Settings, tmp_path: Path) -> None:
    folders = header(b"a/", 0, b"5") * 2
    assert "holds no pictures" in watched(upload(folders + END), tmp_path / "set", settings).sentence
    volume = header(b"label", 0, b"V")
    assert "holds no pictures" in watched(upload(volume + END), tmp_path / "set", settings).sentence


def test_members_can_be_read_from_the_middle_and_again(tmp_path: Path, settings: Settings) -> None:
    files = {f"a/{i}": os.urandom(i * 700 + 1) for i in range(40)}
    for packing in PACKINGS:
        path = make_tar(tmp_path / f"x.{packing}", files, f"w:{packing}")
        with Source(Upload("x", path), settings) as source:
            members = source.listing.members
            for member in (*members[20:], members[3], members[39]):
                assert source.read(member) == files[member.name]


def test_a_long_listing_says_that_it_is_alive(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_rules, "_BEAT_EVERY", 0.0)
    path = make_tar(tmp_path / "x.tar.gz", {f"a/{i}": b"x" for i in range(500)}, "w:gz")
    seen: list[int] = []
    with Source(Upload("x", path), settings, seen.append):
        pass
    assert len(seen) > 100 and seen == sorted(seen) and seen[-1] == 500


def test_real_pictures_in_a_tar_are_those_of_the_zip(tmp_path: Path, settings: Settings) -> None:
    with zipfile.ZipFile(shared("flowers5.zip")) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    path = make_tar(tmp_path / "flowers.tar.gz", files, "w:gz")
    assert listed(path, settings)[1] == listed(shared("flowers5.zip"), settings)[1]


def test_mutated_tars_leave_only_named_problems(upload: Write, settings: Settings) -> None:
    small = b"".join(entry(name, os.urandom(90)) for name in (b"a/1", b"a/2", b"b/1"))
    sparse = pax(**{"GNU.sparse.major": "1", "GNU.sparse.name": "a/s"}) + entry(b"a/GNUSparse/s", b"x")
    good = small + pax(path="b/ü.jpg") + entry(b"x", b"y") + sparse + entry(b"L", b"long" * 40, b"L") + small + END
    limits = replace(settings, max_unpacked=50_000_000)
    ends: Counter[str] = Counter()
    for seed in range(500):
        if seed % 5 == 0:
            data = mutated(gzip.compress(good), seed)
        else:
            data = mutated(good, seed)
            data = gzip.compress(data) if seed % 5 == 1 else data
        try:
            _, found = listed(upload(data), limits)
            ends["read"] += 1
            assert all(isinstance(content, bytes) for content in found.values())
        except errors.IntakeError as error:
            ends[type(error).__name__] += 1
    assert len(ends) >= 3 and ends["read"] > 50
