"""Data sets of the Hub, fetched from a stand-in by the real child: tables, files, archives, and what goes wrong."""

import hashlib
import io
import json
import os
import random
import signal
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import picture
from tests.datasets_stand_in import DataSet, StandIn, serve, shard
from tests.pace import in_time
from tl_core import dataset_errors, errors
from tl_core.data.intake import prepare
from tl_core.events import Notice, PicturesReady, Progress
from tl_core.hub_data.fetch import fetch, parse
from tl_core.hub_data.harvest import shares, spread
from tl_core.hub_data.splits import choose
from tl_core.settings import Settings

pytest.importorskip("pyarrow")

REPO = "alice/pets"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in, server = serve()
    monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
    yield stand_in
    stand_in.silent = False
    server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "fetched"


def got(folder: Path) -> list[dict[str, str]]:
    """The table's rows, each with what its file holds; every file is in the table and lies where it says."""
    rows: list[dict[str, str]] = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"metadata.jsonl"}
    assert {row["file_name"] for row in rows} == files and len(rows) == len(files)
    return [row | {"bytes": hashlib.md5((folder / row["file_name"]).read_bytes()).hexdigest()} for row in rows]


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def notices(events: list[Any]) -> dict[str, Notice]:
    return {event.code: event for event in events if isinstance(event, Notice)}


PICTURES = [picture(i, shape=("star", "heart")[i % 2]) for i in range(60)]


def two_splits(**options: Any) -> dict[str, bytes]:
    return {
        "README.md": b"---\n---\n",
        "data/train-00000-of-00002.parquet": shard(PICTURES[:25], [i % 2 for i in range(25)], **options),
        "data/train-00001-of-00002.parquet": shard(PICTURES[25:40], [i % 2 for i in range(25, 40)], **options),
        "data/test-00000-of-00001.parquet": shard(PICTURES[40:], [i % 2 for i in range(40, 60)], **options),
    }


@pytest.mark.parametrize(
    "text",
    [
        "alice/pets",
        " hf://alice/pets ",
        "hf://datasets/alice/pets",
        str(Path("hf://alice/pets")),
        "https://huggingface.co/datasets/alice/pets",
        "https://huggingface.co/datasets/alice/pets/tree/main?x=1#top",
        "hf.co/datasets/alice/pets/",
    ],
)
def test_a_data_set_is_named_in_every_usual_way(text: str) -> None:
    assert (parse(text).repo, parse(text).config) == (REPO, "")


def test_a_version_is_named_behind_a_colon_or_by_the_viewers_address() -> None:
    assert parse("alice/pets:full size").config == "full size"
    assert parse("https://huggingface.co/datasets/alice/pets/viewer/small/train").config == "small"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pets",
        "a/b/c",
        "../x",
        "/etc/passwd",
        "a--b/c",
        "a/b.git",
        "http://evil.example/datasets/a/b",
        "a/b\nc",
        "ä/b",
    ]
    + ["https://huggingface.co/alice", "a/" + "b" * 200, "a b/c", "a/..", "a/b:c\0d"],
)
def test_case_75_what_cannot_be_a_data_set_is_refused_before_any_request(text: str, hub: StandIn, folder: Path) -> None:
    with pytest.raises(dataset_errors.DatasetNameError):
        list(fetch(text, folder, Settings()))
    assert not hub.requests and not folder.exists()


def test_a_data_set_becomes_pictures_as_they_are_and_a_table(hub: StandIn, folder: Path, settings: Settings) -> None:
    hub.sets[REPO] = DataSet(two_splits())
    events = list(fetch(REPO, folder, settings))
    rows = got(folder)
    assert {row["bytes"]: row["label"] for row in rows} == {
        md5(p): ("cat", "dog")[i % 2] for i, p in enumerate(PICTURES)
    }
    assert Counter(row["split"] for row in rows) == {"train": 40, "test": 20}
    assert all(row["file_name"].startswith(f"{row['split']}/") and row["file_name"].endswith(".jpg") for row in rows)
    last = events[-1]
    assert isinstance(last, Progress) and (last.stage, last.done, last.total) == ("fetching", 60, 60)
    assert not notices(events)


def test_the_ordinary_intake_reads_what_was_fetched(
    hub: StandIn, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    hub.sets[REPO] = DataSet(two_splits())
    list(fetch(REPO, folder, settings))
    *_, last = prepare(folder, tmp_path / "set", settings)
    assert isinstance(last, PicturesReady) and (last.pictures, last.classes) == (60, 2)


def test_picture_files_are_labelled_by_folders_and_tables(hub: StandIn, folder: Path, settings: Settings) -> None:
    files = {
        f"{part}/{label}/{i:03}.jpg": picture(i, shape=label)
        for part in ("train", "test")
        for label in ("star", "heart")
        for i in range(30)
    }
    files["train/metadata.csv"] = b"file_name,size\nstar/000.jpg,large\n"
    hub.sets[REPO] = DataSet(files)
    list(fetch(REPO, folder, settings))
    rows = got(folder)
    assert Counter((row["split"], row["label"]) for row in rows) == {
        (part, label): 30 for part in ("train", "test") for label in ("star", "heart")
    }
    assert Counter(row["bytes"] for row in rows) == Counter(md5(data) for name, data in files.items() if "jpg" in name)
    assert [row["bytes"] for row in rows if row.get("size") == "large"] == [md5(files["train/star/000.jpg"])]


def test_pictures_in_archives_are_taken(hub: StandIn, folder: Path, settings: Settings) -> None:
    def zipped(label: str) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for i in range(5):
                archive.writestr(f"{label}/{i}.jpg", picture(i, shape=label))
            archive.writestr("../../evil.jpg", picture(9))
        return out.getvalue()

    hub.sets[REPO] = DataSet({"data/train.zip": zipped("star"), "data/test.zip": zipped("heart")})
    list(fetch(REPO, folder, settings))
    counts = Counter((row["split"], row["label"]) for row in got(folder))
    assert counts == {("train", "star"): 5, ("test", "heart"): 5}
    assert not list(folder.parent.rglob("evil*"))


def test_what_the_hub_converted_stands_in_for_other_formats(hub: StandIn, folder: Path, settings: Settings) -> None:
    made = {
        "default/train/0000.parquet": shard(PICTURES[:10], [0] * 10),
        "default/test/0000.parquet": shard(PICTURES[10:15], [1] * 5),
    }
    hub.sets[REPO] = DataSet({"train.arrow": b"?"}, converted=made)
    list(fetch(REPO, folder, settings))
    assert Counter((row["split"], row["label"]) for row in got(folder)) == {("train", "cat"): 10, ("test", "dog"): 5}


def test_one_of_several_versions_is_taken_and_named(hub: StandIn, folder: Path, settings: Settings) -> None:
    files = {"small/a.parquet": shard(PICTURES[:4], [0] * 4), "full/a.parquet": shard(PICTURES[:9], [1] * 9)}
    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/*"}]} for name in ("small", "full")
    ]
    hub.sets[REPO] = DataSet(files, {"configs": configs})
    found = notices(list(fetch(REPO, folder, settings)))
    assert found["dataset_config"].values["name"] == "small" and len(got(folder)) == 4
    assert not notices(list(fetch(f"{REPO}:full", folder, settings))) or len(got(folder)) == 9
    assert len(got(folder)) == 9
    with pytest.raises(
        dataset_errors.DatasetConfigError, match="no version called “tiny”. To choose from: small, full"
    ):
        list(fetch(f"{REPO}:tiny", folder, settings))


def test_the_first_of_several_picture_columns_is_taken(hub: StandIn, folder: Path, settings: Settings) -> None:
    other = [{"bytes": b"\x89PNG other"} for _ in range(6)]
    hub.sets[REPO] = DataSet({"a.parquet": shard(PICTURES[:6], [0, 1] * 3, noted=False, mask=other)})
    found = notices(list(fetch(REPO, folder, settings)))
    assert found["dataset_columns"].values == {"repo": REPO, "column": "image", "others": "mask"}
    assert [(row["bytes"], row["label"]) for row in got(folder)] == [
        (md5(p), str(i % 2)) for i, p in enumerate(PICTURES[:6])
    ]


def test_names_of_classes_come_from_the_card_as_well(hub: StandIn, folder: Path, settings: Settings) -> None:
    features = [
        {"name": "image", "dtype": "image"},
        {"name": "label", "dtype": {"class_label": {"names": {"0": "ant", "1": "bee"}}}},
    ]
    hub.sets[REPO] = DataSet(
        {"a.parquet": shard(PICTURES[:4], [0, 1, -1, None], noted=False)}, {"dataset_info": {"features": features}}
    )
    list(fetch(REPO, folder, settings))
    assert [row.get("label") for row in got(folder)] == ["ant", "bee", None, None]


def test_a_set_too_large_gives_an_even_share_of_a_sorted_one(hub: StandIn, folder: Path, settings: Settings) -> None:
    labels = [i // 30 for i in range(600)]
    pictures = [picture(0) + bytes([i % 256]) * 3000 for i in range(600)]
    files = {
        f"train-{n}.parquet": shard(
            pictures[n::1][:300] if n == 0 else pictures[300:],
            labels[:300] if n == 0 else labels[300:],
            [f"class {i}" for i in range(20)],
            group=10,
        )
        for n in range(2)
    }
    hub.sets[REPO] = DataSet(files)
    small = Settings.from_json(settings.to_json() | {"max_pictures": 60})
    events = list(fetch(REPO, folder, small))
    counts = Counter(row["label"] for row in got(folder))
    assert counts.total() == 60 and len(counts) == 20 and max(counts.values()) <= 6
    assert (
        notices(events)["dataset_sampled"].text == f"“{REPO}” has 600 pictures; 60 of them, spread evenly, are taken."
    )


def test_shares_and_samples_are_even_and_whole() -> None:
    for count, keep in ((100, 10), (7, 7), (7, 9), (1000, 999), (5, 0)):
        chosen = spread(count, keep)
        assert len(set(chosen)) == min(count, keep) and chosen == sorted(chosen) and all(0 <= i < count for i in chosen)
    cycled = Counter(i % 3 for i in spread(3000, 1000))  # every third is the same class: chance keeps them even
    assert min(cycled.values()) > 250
    assert shares({"train": 900, "test": 100}, 100) == {"train": 90, "test": 10}


def test_there_is_room_for_so_many_bytes_only(hub: StandIn, folder: Path, settings: Settings) -> None:
    hub.sets[REPO] = DataSet(two_splits())
    room = sum(map(len, PICTURES)) // 3
    events = list(fetch(REPO, folder, Settings.from_json(settings.to_json() | {"max_unpacked": room})))
    assert "dataset_sampled" in notices(events)
    assert 10 < len(got(folder)) <= 21
    assert sum(path.stat().st_size for path in folder.glob("*/*")) <= room


def test_a_cell_that_claims_200_mb_is_left_out_and_bounded(hub: StandIn, folder: Path, settings: Settings) -> None:
    plain = {"use_dictionary": False, "write_statistics": False}  # quicker to write
    cells = [*PICTURES[:3], b"\0" * 200_000_000, b"", None, *PICTURES[3:6]]
    hub.sets[REPO] = DataSet({"a.parquet": shard(cells, [0] * 9, group=3, written=plain)})
    limited = Settings.from_json(settings.to_json() | {"decoder_memory": 1_200_000_000})
    events = list(fetch(REPO, folder, limited))
    assert [row["bytes"] for row in got(folder)] == [md5(p) for p in PICTURES[:6]]
    assert notices(events)["dataset_lost"].values["count"] == "3"


def test_a_damaged_table_leaves_only_named_problems(hub: StandIn, folder: Path, settings: Settings) -> None:
    whole = bytearray(shard(PICTURES[:20], [0, 1] * 10, group=4))
    rng = random.Random(5)
    outcomes = Counter()
    for turn in range(5):
        bent = bytearray(whole)
        for _ in range(20):
            at = rng.randrange(len(bent) - 2000, len(bent)) if turn % 2 else rng.randrange(len(bent))
            bent[at] = rng.randrange(256)
        hub.sets[REPO] = DataSet({"a.parquet": bytes(bent)})
        try:
            list(fetch(REPO, folder, settings))
            outcomes["read"] += len(got(folder)) <= 20
        except errors.HubError as error:
            outcomes[error.code] += 1
            assert not folder.exists()
    assert outcomes.total() == 5 and outcomes["read"] and len(outcomes) > 1


def test_case_71_names_and_values_from_the_hub_are_only_text(hub: StandIn, folder: Path, settings: Settings) -> None:
    odd = {
        "file_name": ["../../etc/passwd"] * 4,
        "../../../x": ["=1+1"] * 4,
        "a\nb\u202e\0": ['<img src=x onerror="alert(1)">'] * 4,
        "nested": [[1]] * 4,
    }
    names = ["../../tmp/evil", "con\r\n"]
    hub.sets[REPO] = DataSet(
        {"a.parquet": shard(PICTURES[:4], [0, 1] * 2, names, **odd)}, {"pretty_name": "{0.__class__}"}
    )
    list(fetch(REPO, folder, settings))
    rows = got(folder)
    assert [row["file_name"] for row in rows] == [f"train/00000{i}.jpg" for i in range(1, 5)]
    assert rows[0]["file_name (own)"] == "../../etc/passwd" and rows[0]["../../../x"] == "=1+1"
    assert {row["label"] for row in rows} == {"../../tmp/evil", "con"}
    assert set(rows[0]) == {"file_name", "split", "label", "file_name (own)", "../../../x", "a b", "bytes"}


def test_a_card_cannot_name_files_outside_of_its_repository(
    hub: StandIn, folder: Path, settings: Settings, tmp_path: Path
) -> None:
    own = tmp_path / "own.parquet"
    own.write_bytes(shard(PICTURES[:4], [0] * 4))
    places = [
        str(own),
        f"file://{own}",
        f"{hub.url}/secret.parquet",
        f"../../..{own}",
        "zip://*::" + str(own),
        "**" * 3000,
    ]
    hub.sets[REPO] = DataSet(
        {"README.md": b"", "a.parquet": shard(PICTURES[4:6], [1] * 2)},
        {"configs": [{"config_name": "default", "data_files": places}]},
    )
    list(fetch(REPO, folder, settings))
    assert {row["bytes"] for row in got(folder)} == {md5(p) for p in PICTURES[4:6]}
    assert all(REPO in path for path, _, _ in hub.requests)


def test_patterns_on_a_card_take_no_time() -> None:
    paths = [f"data/{'a' * 60}{i}.parquet" for i in range(5_000)]
    start = time.monotonic()
    choose(REPO, "", {"configs": [{"config_name": "x", "data_files": "*a" * 6 + "b"}]}, paths)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (None, dataset_errors.DatasetNotFoundError),
        (DataSet({}, private=True), dataset_errors.DatasetNotFoundError),
        (DataSet({"a.parquet": b""}, gated=True), dataset_errors.DatasetGatedError),
        (DataSet({"a.csv": b"x,y\n1,2\n"}), dataset_errors.NoPictureColumnError),
        (DataSet({"a.parquet": b"PAR1 no PAR1"}), dataset_errors.DatasetDamagedError),
        (DataSet({"a.zip": b"no zip"}), errors.NotAnArchiveError),
    ],
    ids=["missing", "private", "gated", "no pictures", "damaged", "no zip"],
)
def test_what_cannot_be_fetched_says_why(
    made: DataSet | None, error: type[errors.TLError], hub: StandIn, folder: Path, settings: Settings
) -> None:
    if made is not None:
        hub.sets[REPO] = made
    with pytest.raises(error) as caught:
        list(fetch(REPO, folder, settings))
    assert caught.type is error and not folder.exists()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_case_84_a_hub_that_refuses_is_named_without_its_text(
    status: int, hub: StandIn, folder: Path, settings: Settings
) -> None:
    hub.fail_with = status
    with pytest.raises(errors.HubError) as caught:
        list(fetch(REPO, folder, settings))
    assert "html" not in str(caught.value) and not folder.exists()
    assert status < 429 or caught.value.values["status"] == str(status)


def test_case_84_a_silent_or_absent_hub_is_given_up_in_time(
    hub: StandIn, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Settings.from_json(settings.to_json() | {"network_timeout_seconds": 2})
    hub.silent = True
    for endpoint in (hub.url, "http://127.0.0.1:9", "http://nowhere.invalid"):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        start = time.monotonic()
        with pytest.raises(dataset_errors.DatasetUnreachableError):
            list(fetch(REPO, folder, limited))
        assert time.monotonic() - start < 8 and not folder.exists()


def test_stop_ends_within_a_second_and_leaves_nothing(hub: StandIn, folder: Path, settings: Settings) -> None:
    hub.sets[REPO] = DataSet({f"train/{label}/{i}.jpg": picture(i) for label in ("a", "b") for i in range(200)})
    hub.seconds_a_chunk = 0.2
    stop = threading.Event()
    asked = 0.0
    for event in fetch(REPO, folder, settings, should_stop=stop.is_set):
        if isinstance(event, Progress) and event.done > 10 and not asked:
            asked = time.monotonic()
            stop.set()
    assert asked and in_time(time.monotonic() - asked, 1) and not folder.exists()


def test_a_child_that_is_killed_is_a_named_error(hub: StandIn, folder: Path, settings: Settings) -> None:
    hub.sets[REPO] = DataSet({f"train/{label}/{i}.jpg": picture(i) for label in ("a", "b") for i in range(200)})
    hub.seconds_a_chunk = 0.2
    with pytest.raises(dataset_errors.DatasetInterruptedError):
        for event in fetch(REPO, folder, settings):
            if isinstance(event, Progress) and event.done > 10:
                for child in Path("/proc/self/task").glob("*/children"):
                    for pid in child.read_text().split():
                        if b"hub_data.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                            os.kill(int(pid), signal.SIGKILL)
    assert not folder.exists()


def test_a_download_that_breaks_off_goes_on(hub: StandIn, folder: Path, settings: Settings) -> None:
    pictures = [data + os.urandom(200_000) for data in PICTURES[:12]]
    hub.sets[REPO] = DataSet({"a.parquet": shard(pictures, [0, 1] * 6, group=6)})
    hub.break_off = 2
    list(fetch(REPO, folder, settings))
    assert [row["bytes"] for row in got(folder)] == [md5(p) for p in pictures]


def test_case_83_the_token_of_whoever_runs_this_goes_nowhere(
    hub: StandIn, folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hostsecret12345")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "hf").mkdir(exist_ok=True)
    (tmp_path / "hf" / "token").write_text("hf_hostsecret12345")
    hub.sets[REPO] = DataSet(two_splits())
    list(fetch(REPO, folder, settings))
    assert len(hub.requests) > 4 and not any(authorization for _, _, authorization in hub.requests)


def test_a_token_that_is_given_opens_what_is_private(hub: StandIn, folder: Path, settings: Settings) -> None:
    hub.sets[REPO] = DataSet(two_splits(), private=True, gated=True)
    list(fetch(REPO, folder, settings, token="hf_" + "given" * 4))
    assert len(got(folder)) == 60
    assert {authorization for _, _, authorization in hub.requests} == {"Bearer hf_" + "given" * 4}


def test_without_the_library_the_sentence_says_what_to_install(
    hub: StandIn, folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "without"), os.environ.get("PYTHONPATH", "")]))
    hub.sets[REPO] = DataSet(two_splits())
    with pytest.raises(dataset_errors.DatasetReaderError, match="pip install pyarrow"):
        list(fetch(REPO, folder, settings))
    hub.sets[REPO] = DataSet(
        {f"{label}/{i}.jpg": picture(i, shape=label) for label in ("star", "heart") for i in range(3)}
    )
    list(fetch(REPO, folder, settings))
    assert len(got(folder)) == 6
