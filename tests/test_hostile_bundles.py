"""Bundles from strangers (SECURITY.md 5.3): nothing in one is run, nothing is made as large as a number in it says, and
what is wrong is named. Damage is by intent here: the checksums of the manifest are those of the damaged files."""

import io
import json
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.archives_by_hand import Raw, raw_zip
from tests.pace import in_time
from tests.test_bundle import edit, made
from tl_core.bundle import bundle
from tl_core.bundle.files import FILES, from_zip, present, to_zip
from tl_core.bundle.opening import REPORT, open_bundle
from tl_core.errors import BundleError, NotABundleError
from tl_core.models import backbone
from tl_core.models.catalogue import find

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden_bundles"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "good"
    made(folder, ("ants", "bees"))
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def replaced(folder: Path, file: str, data: bytes) -> None:
    """Another content for a file, and its checksum in the manifest."""
    (folder / file).write_bytes(data)
    edit(folder, lambda r: r["files"].update({file: bundle._sha256(folder / file)}))


def refused(folder: Path) -> str:
    """Why the bundle in `folder` is not loaded, which takes no time."""
    started = time.process_time()
    with pytest.raises(BundleError) as caught:
        bundle.load(folder)
    assert in_time(time.process_time() - started, 1.5)  # building the right network takes a tenth of that
    return str(caught.value)


class Marker:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "ran")


@pytest.mark.parametrize("packer", [pickle.dumps, lambda thing: torch_saved(thing)])
def test_case_61_a_pickle_in_the_place_of_weights_is_never_opened(folder: Path, packer: Any, tmp_path: Path) -> None:
    replaced(folder, WEIGHTS, packer(Marker(tmp_path / "ran")))
    assert f"{WEIGHTS} cannot be read" in refused(folder)
    assert not (tmp_path / "ran").exists()


def torch_saved(thing: object) -> bytes:
    out = io.BytesIO()
    torch.save(thing, out)
    return out.getvalue()


def test_case_61_nothing_of_ours_unpickles_or_evaluates() -> None:
    banned = re.compile(
        r"torch\.load\b|pickle\.loads?\b|joblib|yaml\.load\b|allow_pickle=True|(?<![\w.])(?:eval|exec)\(|getattr\(models"
    )
    files = [*ROOT.glob("tl_core/**/*.py"), *ROOT.glob("tl_ui/**/*.py"), ROOT / "app.py"]
    found = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if banned.search(line) and not line.startswith("CODE = ")  # the list of endings that are refused
    ]
    assert len(files) > 100 and found == []


def tensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A safetensors file by hand."""
    packed = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + data


def f32(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def the_right_header(folder: Path) -> tuple[dict[str, Any], bytes]:
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def shifted(folder: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    header, data = the_right_header(folder)
    change(header)
    return tensors(header, data)


# Fields of the entry of the bias, the last tensor but for its neighbours.
CASES_62: dict[str, Callable[[Path], bytes]] = {
    "a header of 2^40 bytes": lambda f: struct.pack("<Q", 2**40) + b"{}",
    "a header of 2^63 bytes": lambda f: struct.pack("<Q", 2**63) + b"{}",
    "an empty file": lambda f: b"",
    "a cut header": lambda f: (f / WEIGHTS).read_bytes()[:100],
    "cut data": lambda f: (f / WEIGHTS).read_bytes()[:-10],
    "more behind the end": lambda f: (f / WEIGHTS).read_bytes() + b"\0" * 64,
    "an overlap": lambda f: shifted(f, lambda h: h["fc.bias"].update(data_offsets=h["bn1.bias"]["data_offsets"])),
    "a hole": lambda f: tensors({"a": f32([1], 0, 4), "b": f32([1], 8, 12)}, b"\0" * 12),
    "a shape of 2^62": lambda f: shifted(f, lambda h: h["fc.bias"].update(shape=[2**62])),
    "a shape that overflows": lambda f: shifted(f, lambda h: h["fc.bias"].update(shape=[2**32, 2**32, 2**32])),
    "a shape below nothing": lambda f: shifted(f, lambda h: h["fc.bias"].update(shape=[-1])),
    "ends before it starts": lambda f: shifted(f, lambda h: h["fc.bias"].update(data_offsets=[8, 0])),
    "a type there is not": lambda f: shifted(f, lambda h: h["fc.bias"].update(dtype="PY")),
    "deep nesting": lambda f: tensors(b"[" * 100_000),
}


@pytest.mark.parametrize("name", CASES_62)
def test_case_62_a_senseless_list_of_tensors_is_named(folder: Path, name: str) -> None:
    replaced(folder, WEIGHTS, CASES_62[name](folder))
    assert "is damaged" in refused(folder)


def test_case_63_a_tensor_that_stands_twice_is_refused_or_one(folder: Path) -> None:
    header, data = the_right_header(folder)
    text = json.dumps(header)[:-1] + ', "fc.bias": ' + json.dumps(f32([2], 0, 8)) + "}"
    replaced(folder, WEIGHTS, tensors(text.encode(), data))
    assert "is damaged" in refused(folder)


@pytest.mark.slow
def test_case_63_no_list_of_tensors_takes_time_or_memory(folder: Path, tmp_path: Path) -> None:
    many = {f"t{i}": f32([0], 0, 0) for i in range(500_000)}
    replaced(folder, WEIGHTS, tensors(many))
    second = shutil.copytree(folder, tmp_path / "second")
    replaced(second, WEIGHTS, tensors(b'{"a":"' + b" " * 99_000_000 + b'"}'))
    program = (
        "import resource, sys, time\nfrom pathlib import Path\nfrom tl_core.bundle.bundle import load\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "load(Path(sys.argv[1])); before = peak()\n"
        "for bad in sys.argv[2:]:\n    start = time.process_time()\n    try: load(Path(bad))\n"
        "    except Exception as error: print(type(error).__name__, time.process_time() - start, peak() - before)"
    )
    good = made_again(tmp_path / "good")
    command = [sys.executable, "-c", program, *map(str, (good, folder, second))]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert said[0::3] == ["DamagedBundleError"] * 2
    assert max(map(float, said[1::3])) < 1.5 and max(map(int, said[2::3])) < 200_000  # seconds, KB


def made_again(folder: Path) -> Path:
    made(folder, ("ants", "bees"))
    return folder


def configured(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        record = json.loads((folder / CONFIG).read_text())
        change(record)
        return json.dumps(record).encode()

    return make


CASES_66: dict[str, Callable[[Path], bytes]] = {
    "a function as the network": configured(lambda r: r.update(architecture="os.system")),
    "a path as the network": configured(lambda r: r.update(architecture="../../x")),
    "a table as the network": configured(lambda r: r.update(architecture="torchvision.models.__dict__")),
    "another network": configured(lambda r: r.update(architecture="resnet152")),
    "a billion classes": configured(lambda r: r.update(num_classes=10**9)),
    "a huge picture": configured(lambda r: r["pretrained_cfg"].update(input_size=[3, 10**6, 10**6])),
    "a mean that is none": configured(lambda r: r["pretrained_cfg"].update(mean="NaN")),
    "arguments of its own": configured(lambda r: r.update(model_args={"global_pool": "os.system"})),
    "weights from elsewhere": configured(lambda r: r["pretrained_cfg"].update(url="http://127.0.0.1:9/x.pth")),
    "a pickle beside it": configured(lambda r: r["pretrained_cfg"].update(file="x.pth")),
    "a repository": configured(lambda r: r["pretrained_cfg"].update(hf_hub_id="victim/x")),
    "a loader of its own": configured(lambda r: r["pretrained_cfg"].update(custom_load=True)),
    "code of its own": configured(lambda r: r.update(auto_map={"AutoModel": "evil.Model"})),
    "nothing": lambda f: b"{}",
    "deep nesting": lambda f: b'{"a":' * 100_000,
    "50 MB": lambda f: b" " * 50_000_000 + b"{}",
    "no JSON": lambda f: b"architecture: resnet18",
    "UTF-16": lambda f: (f / CONFIG).read_text().encode("utf-16"),
    "a key twice": lambda f: b'{"num_classes": 2, ' + (f / CONFIG).read_bytes()[1:],
    "NaN": lambda f: (f / CONFIG).read_bytes().replace(b'"crop_pct":1.0', b'"crop_pct":NaN'),
}


@pytest.mark.parametrize("name", CASES_66)
def test_case_66_a_hostile_config_is_refused(folder: Path, name: str) -> None:
    before = (folder / CONFIG).read_bytes()
    replaced(folder, CONFIG, CASES_66[name](folder))
    assert (folder / CONFIG).read_bytes() != before
    assert CONFIG in refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["preprocessing"].update(mean=["0.4", "0.4", "0.4"]),
        lambda r: r["preprocessing"].update(mean=[0.4, 0.4], std=[0.2, 0.2, 0.2, 0.2]),
        lambda r: r["preprocessing"].update(crop_pct=True),
        lambda r: r.update(training=[["seed", 1]]),
        lambda r: r.update(created="x" * 10_000),
        lambda r: r.update(created=["2026"]),
        lambda r: r["evaluation"].update(accuracy="<b>"),
        lambda r: r["evaluation"].update(accuracy=1e999),
        lambda r: r["evaluation"].update(accuracy=10**400),
        lambda r: r["evaluation"].update(tested=10**12),
        lambda r: r["evaluation"].update(tested=True),
        lambda r: r["evaluation"].update(interval=[None, 1]),
        lambda r: r["evaluation"].update(class_names=["<b>", "bees"]),
        lambda r: r["evaluation"].update(confusion=[[1, 0], [1]]),
        lambda r: r["evaluation"].update(confusion=[["<b>", 0], [1, 0]]),
        lambda r: r["evaluation"]["per_class"].pop(),
        lambda r: r["evaluation"]["per_class"][0].update(extra=1),
        lambda r: r["evaluation"]["mistakes"][0].update(truth=10**9),
        lambda r: r["evaluation"]["mistakes"][0].update(predicted=-1),
        lambda r: r["evaluation"].update(mistakes=r["evaluation"]["mistakes"] * 1_000),
        lambda r: r["evaluation"].update(calibration_error="none"),
        lambda r: r.update(unknown={"threshold": 0.5, "false_alarm": None, "width": 512, "directions": 10**9}),
        lambda r: r.update(head={"kind": "mlp", "width": 512, "hidden": 10**9, "classes": 2}),
        lambda r: r.update(backbone="timm/../../x"),
    ],
)
def test_case_66_no_number_of_a_description_is_believed(folder: Path, change: Any) -> None:
    edit(folder, change)
    assert "is damaged" in refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(num_classes=3),
        lambda r: r.update(label_names=["bees", "ants"]),
        lambda r: r.update(label_names=["ants", "bees", "wasps"]),
        lambda r: r["pretrained_cfg"].update(num_classes=1000),
    ],
)
def test_case_67_classes_of_the_config_are_those_of_the_head(folder: Path, change: Any) -> None:
    replaced(folder, CONFIG, configured(change)(folder))
    assert "another model" in refused(folder)


@pytest.mark.parametrize("golden", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_case_68_what_older_versions_wrote_is_read(pristine: Path, golden: Path, tmp_path: Path) -> None:
    """The descriptions as the version of each format wrote them, with weights of their network beside them."""
    folder = Path(shutil.copytree(pristine, tmp_path / "b"))
    for name in ("bundle.json", CONFIG):
        shutil.copyfile(golden / name, folder / name)
    row = find(json.loads((golden / "bundle.json").read_text())["backbone"])
    state = backbone.untrained(row, 2).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    for name in set(json.loads((folder / "bundle.json").read_text())["files"]) - {CONFIG}:
        replaced(folder, name, (folder / name).read_bytes())
    model, info = bundle.load(folder)
    size = info.preprocessing.size
    assert info.class_names == ("ants", "bees") and info.evaluation.tested == 2
    assert model(torch.zeros(1, 3, size, size)).shape == (1, 2)


def test_there_is_a_golden_bundle_of_every_format() -> None:
    formats = [json.loads((golden / "bundle.json").read_text())["format"] for golden in GOLDEN.iterdir()]
    assert sorted(formats) == list(range(1, bundle.FORMAT + 1))


# the zip


def entries(folder: Path) -> list[Raw]:
    return [Raw(name.encode(), (folder / name).read_bytes()) for name in present(folder)]


def bad_zip(folder: Path, kind: str) -> bytes:
    good = entries(folder)
    weights = next(entry for entry in good if entry.name.decode() == WEIGHTS)
    rest = [entry for entry in good if entry is not weights]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        for name in FILES:
            archive.writestr(name, b"\0" * 100_000_000 if name == WEIGHTS else b"{}")
    made_of: dict[str, Callable[[], bytes]] = {
        "overlapping": lambda: raw_zip([*rest, weights, Raw(b"head.safetensors", b"", at=0)]),
        "forged size": lambda: raw_zip([*rest, Raw(weights.name, b"x", size=2**31, packed=2**31)]),
        "forged packed size": lambda: raw_zip([*rest, Raw(weights.name, b"x", size=9, packed=2**31, method=8)]),
        "forged checksum": lambda: raw_zip([*rest, Raw(weights.name, weights.data, crc=1)]),
        "another name inside": lambda: raw_zip([*rest, Raw(weights.name, weights.data, local_name=b"x" * 17)]),
        "a link": lambda: raw_zip([*rest, Raw(weights.name, b"/etc/passwd", mode=0o120777)]),
        "a device": lambda: raw_zip([*rest, Raw(weights.name, b"", mode=0o020666)]),
        "locked": lambda: raw_zip([*rest, Raw(weights.name, weights.data, flags=1)]),
        "NUL in a name": lambda: raw_zip([*rest, Raw(weights.name + b"\0.txt", weights.data)]),
        "an unknown method": lambda: raw_zip([*rest, Raw(weights.name, weights.data, method=99)]),
        "a bomb": packed.getvalue,
        "cut": lambda: raw_zip(good)[:-100],
        "nothing": lambda: b"",
        "no entries": lambda: raw_zip([]),
    }
    return made_of[kind]()


KINDS = ["overlapping", "forged size", "forged packed size", "forged checksum", "another name inside", "a link"]
KINDS += ["a device", "locked", "NUL in a name", "an unknown method", "a bomb", "cut", "nothing", "no entries"]


@pytest.mark.parametrize("kind", KINDS)
def test_case_69_a_forged_zip_is_refused_and_writes_no_more_than_it_holds(
    pristine: Path, kind: str, tmp_path: Path
) -> None:
    bad, into = tmp_path / "m.zip", tmp_path / "out"
    bad.write_bytes(bad_zip(pristine, kind))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NotABundleError, match="m.zip"):
        from_zip(bad, into)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path != bad)
    assert written <= 4 * bad.stat().st_size + 1_000_000
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


def test_a_zip_that_another_program_packed_opens(pristine: Path, tmp_path: Path) -> None:
    """In a folder of its own, deflated, with what a Mac puts beside everything."""
    repacked = tmp_path / "again.zip"
    with zipfile.ZipFile(repacked, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in present(pristine):
            archive.write(pristine / name, f"my model/{name}")
            archive.writestr(f"__MACOSX/my model/._{name}", b"x")
    _, info = bundle.load(from_zip(repacked, tmp_path / "out"))
    assert info.class_names == ("ants", "bees")
    stored = to_zip(pristine, tmp_path / "stored.zip")
    for name in present(pristine):
        assert (from_zip(stored, tmp_path / "out2") / name).read_bytes() == (pristine / name).read_bytes()


# in the child


def test_a_model_without_its_card_gets_one(pristine: Path, tmp_path: Path) -> None:
    """On the Hub people delete them."""
    bare = Path(shutil.copytree(pristine, tmp_path / "bare"))
    (bare / "README.md").unlink()
    open_bundle(bare, tmp_path / "run")
    assert "ants" in (tmp_path / "run" / "bundle" / "README.md").read_text(encoding="utf-8")
    to_zip(tmp_path / "run" / "bundle", tmp_path / "again.zip")


def test_what_takes_too_much_memory_is_refused_in_the_child(pristine: Path, tmp_path: Path) -> None:
    """Whatever our own checks have missed: here, that the right tensors may be many times what we allow to be held."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom tl_core.bundle import opening\n"
        "opening._LOADING = 5_000_000\nopening.main()"
    )
    job = {"source": str(to_zip(pristine, tmp_path / "m.zip")), "folder": str(tmp_path / "run"), "name": "m.zip"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(job), capture_output=True, text=True)
    assert "accuracy" not in done.stdout and not (tmp_path / "run" / REPORT).exists()


def test_a_refusal_names_what_the_person_named(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(NotABundleError, match="alice/zoo"):
        open_bundle(tmp_path / "b", tmp_path / "run", name="alice/zoo")
    assert not (tmp_path / "run").exists()


def test_weights_are_as_they_were(pristine: Path, tmp_path: Path) -> None:
    open_bundle(to_zip(pristine, tmp_path / "m.zip"), tmp_path / "run")
    ours, theirs = load_file(tmp_path / "run" / "bundle" / WEIGHTS), load_file(pristine / WEIGHTS)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
