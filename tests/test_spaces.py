"""Spaces against a stand-in Hub: this app deployed, and the demo of a model, which really runs."""

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard

from tests.browser import free_port
from tests.conftest import picture
from tests.hub_stand_in import GOOD, READ, Repo, StandIn
from tests.test_bundle import made
from tl_core import errors, hub_errors
from tl_core.bundle.predictor import Predictor
from tl_core.cli.commands import main
from tl_core.exports import onnx
from tl_core.hub.spaces import ROOT, Deployed, add_demo, demo_files, deploy, tracked
from tl_core.models.catalogue import CATALOGUE


def sent(hub: StandIn, repo: str = "alice/lab", **wish: Any) -> Deployed:
    *_, last = deploy(repo, token=GOOD, endpoint=hub.url, **wish)
    assert isinstance(last, Deployed)
    return last


def test_a_space_gets_what_the_app_needs_and_nothing_else(hub: StandIn) -> None:
    place = sent(hub, storage="alice/kept", private=True)
    repo = hub.repos["spaces/alice/lab"]
    assert place.repo_id == "alice/lab" and repo.private
    assert (repo.made["sdk"], repo.made["hardware"]) == ("gradio", "zero-a10g")
    weights = {f"tl_core/models/weights/{row.weights}" for row in CATALOGUE if row.source == "embedded"}
    needed = {"app.py", "README.md", "requirements.txt", *weights}
    assert needed <= set(repo.files)
    assert not any(name.startswith(("tests/", ".git/", ".venv/", "bench/")) for name in repo.files)
    assert all(repo.files[name] == (ROOT / name).read_bytes() for name in needed)
    assert "/data" in str(repo.made["volumes"]) and "alice/kept" in str(repo.made["volumes"])
    assert "/data/transfer-lab" in str(repo.made["variables"])
    assert ("POST", "/api/buckets/alice/kept", GOOD) in hub.requests


def test_deploying_again_brings_it_up_to_date(hub: StandIn) -> None:
    sent(hub)
    repo = hub.repos["spaces/alice/lab"]
    repo.files.pop("app.py")
    repo.files |= {"tl_core/gone.py": b"", "tl_core/deep/gone.py": b"", "notes.md": b"theirs"}
    sent(hub)
    assert "app.py" in repo.files and "notes.md" in repo.files
    assert not any(name.endswith("gone.py") for name in repo.files)
    assert [wish["flavor"] for wish in repo.made["hardware_asked"]] == ["zero-a10g"]


def test_untracked_files_and_secrets_stay_here(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "app.py").write_text("x")
    (tmp_path / ".env").write_text("TOKEN=1")
    (tmp_path / "link").symlink_to("/etc/passwd")
    subprocess.run(["git", "-C", str(tmp_path), "add", "app.py", "link"], check=True)
    assert tracked(tmp_path) == ["app.py"]
    for installed in (Path("/proc"), tmp_path / ".venv"):
        installed.mkdir(exist_ok=True)
        with pytest.raises(hub_errors.NotACheckoutError):
            tracked(installed)


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"hardware": "cpu-basic"}, hub_errors.SpaceRefusedError),
        ({"repo": "victim/lab"}, errors.NoWriteAccessError),
        ({"repo": "../lab"}, errors.RepoNameError),
        ({"storage": "kept"}, hub_errors.StorageNameError),
        ({"storage": "alice/../kept"}, hub_errors.StorageNameError),
    ],
)
def test_what_the_hub_will_not_do_is_named(hub: StandIn, wish: dict[str, str], error: type) -> None:
    with pytest.raises(error):
        sent(hub, **wish)
    assert hub.repos == {}


def test_the_command_line_takes_its_token_from_a_file(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
    (tmp_path / "token").write_text(f"{GOOD}\n")
    assert main(["deploy-space", "lab", "--token-file", str(tmp_path / "token")]) == 0
    made(tmp_path / "b", ("ants", "bees"))
    push = ["push", str(tmp_path / "b"), "ants", "--no-onnx", "--token-file", str(tmp_path / "token")]
    assert main([*push, "--public"]) == 0
    assert {"spaces/alice/lab", "alice/ants"} <= set(hub.repos)
    assert main(push) == 2  # it is there already
    out = capsys.readouterr()
    assert GOOD not in out.out + out.err and "already have a model" in out.err


def test_a_demo_of_a_private_model_is_refused_with_the_reason(hub: StandIn) -> None:
    hub.repos["alice/secret"] = Repo(private=True)
    with pytest.raises(hub_errors.PrivateModelError, match="cannot read it"):
        add_demo("secret", token=GOOD, endpoint=hub.url)
    hub.repos["alice/plain"] = Repo(private=False)
    with pytest.raises(hub_errors.NoOnnxError):
        add_demo("plain", token=GOOD, endpoint=hub.url)
    assert not any(name.startswith("spaces/") for name in hub.repos)
    with pytest.raises(hub_errors.ModelNotFoundError):
        add_demo("none", token=GOOD, endpoint=hub.url)
    with pytest.raises(hub_errors.ReadOnlyTokenError):
        add_demo("bob/x", token=READ, endpoint=hub.url)


@pytest.mark.slow
def test_a_demo_runs_and_answers_as_the_app(hub: StandIn, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    made(tmp_path / "b", ("ants", "bees"))
    predictor = Predictor(tmp_path / "b")
    file = onnx.write(predictor, tmp_path / "model.onnx")
    hub.repos["alice/clf"] = Repo(private=False, files={"model.onnx": file.read_bytes()})
    url = add_demo("clf", token=GOOD, endpoint=hub.url)
    assert url.endswith("spaces/alice/clf-demo")

    space = tmp_path / "space"
    space.mkdir()
    for name, data in hub.repos["spaces/alice/clf-demo"].files.items():
        (space / name).write_bytes(data)
    assert SpaceCard.load(space / "README.md").data.to_dict()["models"] == ["alice/clf"]
    port = free_port()
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "GRADIO_SERVER_PORT": str(port),
        "HOME": str(tmp_path),
    }
    process = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment)
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.2)
        (tmp_path / "a.png").write_bytes(picture(1, ending="png"))
        client = Client(f"http://127.0.0.1:{port}/", verbose=False)
        answer, note = client.predict(handle_file(str(tmp_path / "a.png")), api_name="/predict")
    finally:
        process.kill()
        process.wait()
    import numpy as np
    from PIL import Image

    (mine,) = predictor.predict([np.array(Image.open(tmp_path / "a.png").convert("RGB"))])
    theirs = {row["label"]: row["confidence"] for row in answer["confidences"]}
    assert all(abs(theirs[name] - share) < 1e-3 for name, share in mine.ranking) and note == ""


def test_the_demo_names_its_model_in_yaml_that_nothing_can_break() -> None:
    files = demo_files("alice/clf")
    assert b"OWNER/MODEL" not in files["app.py"] and b'"alice/clf"' in files["app.py"]
    assert set(files) == {"README.md", "app.py", "predict.py", "requirements.txt"}
