"""Pushing with the real client against a stand-in Hub: checked first, private, only listed files, no token anywhere."""

import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_stand_in import GOOD, READ, Repo, StandIn, serve
from tests.test_bundle import made
from tl_core import errors
from tl_core.bundle.files import FILES
from tl_core.hub import push


@pytest.fixture
def hub() -> Iterator[StandIn]:
    stand_in, server = serve()
    yield stand_in
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "b"
    made(path, ("ants", "bees"))
    (path / "secret.txt").write_text("not for the world")
    return path


def test_a_model_arrives_whole_private_and_alone(hub: StandIn, folder: Path) -> None:
    pushed = push(folder, " ants-and-bees ", token=f" {GOOD}\n", endpoint=hub.url)
    assert pushed.repo_id == "alice/ants-and-bees" and pushed.url.endswith("/alice/ants-and-bees")
    repo = hub.repos["alice/ants-and-bees"]
    assert repo.private
    assert set(repo.files) == set(FILES)
    assert all(repo.files[name] == (folder / name).read_bytes() for name in FILES)


def test_timm_loads_it_from_there_to_the_same_answers(hub: StandIn, folder: Path, tmp_path: Path) -> None:
    push(folder, "clf", token=GOOD, endpoint=hub.url)
    code = (
        "import sys, timm, torch; x = torch.ones(2, 3, 128, 128);"
        "a = timm.create_model('hf-hub:alice/clf', pretrained=True).eval();"
        "b = timm.create_model('local-dir:' + sys.argv[1], pretrained=True).eval();"
        "assert a.pretrained_cfg['label_names'] == ['ants', 'bees'];"
        "assert torch.equal(a(x), b(x))"
    )
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PATH": "", "HF_HUB_DISABLE_XET": "1"}
    subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True)


def test_public_only_when_asked(hub: StandIn, folder: Path) -> None:
    push(folder, "alice/open", token=GOOD, private=False, endpoint=hub.url)
    assert not hub.repos["alice/open"].private


def test_case_76_an_existing_model_is_only_written_into_when_asked_and_keeps_its_files(
    hub: StandIn, folder: Path
) -> None:
    hub.repos["alice/mine"] = Repo(private=True, files={"notes.txt": b"mine"})
    with pytest.raises(errors.RepoExistsError, match="You already have a model called “alice/mine”"):
        push(folder, "mine", token=GOOD, endpoint=hub.url)
    assert set(hub.repos["alice/mine"].files) == {"notes.txt"}
    push(folder, "mine", token=GOOD, replace=True, endpoint=hub.url)
    assert set(hub.repos["alice/mine"].files) == {"notes.txt", *FILES}


@pytest.mark.parametrize(
    "name", ["a/b/c", "../x", "a--b", "a/b.git", "\u732b", "x" * 97, "", "/", "a/", "a b", "-a", "victim/x\nevil"]
)
def test_case_75_a_name_that_cannot_be_is_refused_before_any_request(hub: StandIn, folder: Path, name: str) -> None:
    with pytest.raises(errors.RepoNameError):
        push(folder, name, token=GOOD, endpoint=hub.url)
    assert hub.requests == []


@pytest.mark.parametrize(
    "token", ["", "hf_", "hf_short", "x" * 40, f"{GOOD}\0", "hf_\u00e9" + "a" * 20, "hf_" + "a" * 10_000]
)
def test_case_80_a_malformed_token_is_refused_before_any_request(hub: StandIn, folder: Path, token: str) -> None:
    with pytest.raises(errors.TokenFormatError) as caught:
        push(folder, "x", token=token, endpoint=hub.url)
    assert hub.requests == []
    assert len(token) < 9 or token not in "".join(traceback.format_exception(caught.value))


def test_somebody_elses_name_is_refused_before_anything_is_made(hub: StandIn, folder: Path) -> None:
    with pytest.raises(errors.NoWriteAccessError, match="may not write to “victim/x”"):
        push(folder, "victim/x", token=GOOD, endpoint=hub.url)
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("token", "error"),
    [("hf_" + "unknownunknown", errors.TokenRefusedError), (READ, errors.NoWriteAccessError)],
)
def test_case_84_refusals_have_their_sentence(hub: StandIn, folder: Path, token: str, error: type) -> None:
    with pytest.raises(error):
        push(folder, "x", token=token, endpoint=hub.url)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_case_84_an_overloaded_hub_is_named_without_its_page_or_the_token(
    hub: StandIn, folder: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fail_with = status
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(errors.HubRefusedError, match=f"status {status}") as caught:
        push(folder, "x", token=GOOD, endpoint=hub.url)
    shown = "".join(traceback.format_exception(caught.value))
    assert GOOD not in shown and "<html>" not in shown


def test_no_network_is_said(folder: Path) -> None:
    with pytest.raises(errors.HubUnreachableError):
        push(folder, "x", token=GOOD, endpoint="http://127.0.0.1:9")


def test_case_83_the_hosts_own_token_is_never_used(hub: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hosthosthost")
    push(folder, "x", token=GOOD, endpoint=hub.url)
    assert {token for _, _, token in hub.requests if token} == {GOOD}
