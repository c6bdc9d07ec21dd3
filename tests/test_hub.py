"""Pushing with the real client against a stand-in Hub: checked first, private, only listed files, no token anywhere."""

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from tests.hub_stand_in import FINE, GOOD, READ, SIGNED_IN, Repo, StandIn
from tests.test_bundle import made
from tl_core import errors, hub_errors
from tl_core.bundle.files import FILES, present
from tl_core.events import Progress
from tl_core.hub.access import Account, well_formed
from tl_core.hub.checks import PushWish, check
from tl_core.hub.fetch import fetch, name_of
from tl_core.hub.licences import FREE, allowed
from tl_core.hub.push import Pushed, push
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, find


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "b"
    made(path, ("ants", "bees"))
    (path / "secret.txt").write_text("not for the world")
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def send(folder: Path, name: str, hub_url: str, *, token: str = GOOD, **wish: Any) -> Pushed:
    """Check and push as the page does."""
    asked = PushWish(name, **wish)
    checked = check(asked, EMBEDDED, token=token, endpoint=hub_url)
    *_, last = push(folder, present(folder), asked, checked, token=token, endpoint=hub_url)
    assert isinstance(last, Pushed)
    return last


def test_a_model_arrives_whole_private_and_alone(hub: StandIn, folder: Path) -> None:
    pushed = send(folder, " ants-and-bees ", hub.url, token=f" {GOOD}\n")
    assert pushed.repo_id == "alice/ants-and-bees" and pushed.url.endswith("/alice/ants-and-bees")
    repo = hub.repos["alice/ants-and-bees"]
    assert repo.private and pushed.commit == repo.sha
    assert set(repo.files) == set(FILES)
    assert all(repo.files[name] == (folder / name).read_bytes() for name in FILES)


def test_it_says_how_far_it_is(hub: StandIn, folder: Path) -> None:
    wish = PushWish("x")
    checked = check(wish, EMBEDDED, token=GOOD, endpoint=hub.url)
    steps = list(push(folder, present(folder), wish, checked, token=GOOD, endpoint=hub.url))
    told = [step for step in steps if isinstance(step, Progress)]
    total = sum((folder / name).stat().st_size for name in FILES)
    assert told[0].done == 0 and told[-1].done == total and {step.total for step in told} == {total}
    assert [step.done for step in told] == sorted(step.done for step in told)


def test_nothing_is_made_by_a_check(hub: StandIn) -> None:
    found = check(PushWish("school/ants"), EMBEDDED, token=GOOD, endpoint=hub.url)
    assert (found.user, found.repo_id, found.parent) == ("alice", "school/ants", "")
    assert hub.repos == {} and all(method in ("GET", "HEAD") for method, _, _ in hub.requests)


def test_stopping_leaves_nothing_to_be_seen(hub: StandIn, folder: Path) -> None:
    wish = PushWish("x")
    checked = check(wish, EMBEDDED, token=GOOD, endpoint=hub.url)
    steps = push(folder, present(folder), wish, checked, token=GOOD, endpoint=hub.url, should_stop=lambda: True)
    assert not any(isinstance(step, Pushed) for step in steps)
    assert hub.repos["alice/x"].files == {}


def test_public_only_when_asked(hub: StandIn, folder: Path) -> None:
    send(folder, "alice/open", hub.url, private=False)
    assert not hub.repos["alice/open"].private


def test_what_was_sent_before_a_failure_is_not_sent_again(hub: StandIn, folder: Path, quick: None) -> None:
    hub.refuse["/commit/"] = 500
    with pytest.raises(hub_errors.HubBusyError, match="status 500"):
        send(folder, "x", hub.url)
    assert hub.repos["alice/x"].files == {} and len(hub.blobs) == 1
    hub.refuse.clear()
    hub.requests.clear()
    send(folder, "x", hub.url, replace=True)
    assert set(hub.repos["alice/x"].files) == set(FILES)
    assert not [path for method, path, _ in hub.requests if path.startswith("/lfs/")]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_case_84_a_hub_that_is_busy_for_a_moment_is_waited_for(
    hub: StandIn, folder: Path, status: int, quick: None
) -> None:
    hub.fail_with, hub.failures = status, 2
    assert send(folder, "x", hub.url).repo_id == "alice/x"


def test_case_76_an_existing_model_is_only_written_into_when_asked_and_keeps_its_files(
    hub: StandIn, folder: Path
) -> None:
    hub.repos["alice/mine"] = Repo(private=True, files={"notes.txt": b"mine"}, commits=3)
    with pytest.raises(errors.RepoExistsError, match="You already have a model called “alice/mine”"):
        send(folder, "mine", hub.url)
    assert set(hub.repos["alice/mine"].files) == {"notes.txt"}
    send(folder, "mine", hub.url, replace=True)
    assert set(hub.repos["alice/mine"].files) == {"notes.txt", *FILES}


def test_case_76_what_somebody_else_changed_meanwhile_is_not_overwritten(hub: StandIn, folder: Path) -> None:
    hub.repos["alice/mine"] = Repo(private=True, commits=3)
    wish = PushWish("mine", replace=True)
    checked = check(wish, EMBEDDED, token=GOOD, endpoint=hub.url)
    hub.repos["alice/mine"].commits += 1
    with pytest.raises(hub_errors.RepoChangedError):
        list(push(folder, present(folder), wish, checked, token=GOOD, endpoint=hub.url))
    assert hub.repos["alice/mine"].files == {}


@pytest.mark.parametrize(
    "name", ["a/b/c", "../x", "a--b", "a/b.git", "\u732b", "x" * 97, "", "/", "a/", "a b", "-a", "victim/x\nevil"]
)
def test_case_75_a_name_that_cannot_be_is_refused_before_any_request(hub: StandIn, folder: Path, name: str) -> None:
    with pytest.raises(errors.RepoNameError):
        send(folder, name, hub.url)
    assert hub.requests == []


@pytest.mark.parametrize(
    "token", ["", "hf_", "hf_short", "x" * 40, f"{GOOD}\0", "hf_\u00e9" + "a" * 20, "hf_" + "a" * 10_000, f'{GOOD}"']
)
def test_case_80_a_malformed_token_is_refused_before_any_request(hub: StandIn, folder: Path, token: str) -> None:
    with pytest.raises(errors.TokenFormatError) as caught:
        send(folder, "x", hub.url, token=token)
    assert hub.requests == []
    assert len(token) < 9 or token not in "".join(traceback.format_exception(caught.value))


def test_a_token_of_a_sign_in_is_well_formed_but_not_the_mock_of_a_local_one() -> None:
    assert well_formed(f"{SIGNED_IN}\n") == SIGNED_IN
    with pytest.raises(errors.TokenFormatError):
        well_formed("mock-oauth-token-for-local-dev")


def test_case_75_somebody_elses_name_is_refused_before_anything_is_made(hub: StandIn, folder: Path) -> None:
    with pytest.raises(errors.NoWriteAccessError, match="may not write to “victim/x”"):
        send(folder, "victim/x", hub.url)
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("hf_" + "unknownunknown", errors.TokenRefusedError),
        ("hf_oauth_" + "unknownunknown", hub_errors.SignInExpiredError),
        (READ, hub_errors.ReadOnlyTokenError),
        (FINE, errors.NoWriteAccessError),
    ],
)
def test_case_84_refusals_have_their_sentence(hub: StandIn, folder: Path, token: str, error: type) -> None:
    with pytest.raises(error):
        send(folder, "x", hub.url, token=token)
    assert hub.repos == {}


def test_a_fine_grained_token_writes_where_it_may(hub: StandIn, folder: Path) -> None:
    assert send(folder, "allowed", hub.url, token=FINE).repo_id == "alice/allowed"
    assert Account.of({"name": "a", "auth": {}}).repo_id("x") == "a/x"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
@pytest.mark.parametrize("part", ["/api/repos/create", "/preupload/", "/commit/", "/lfs/"])
def test_case_84_every_refusal_at_every_step_is_named_without_its_page_or_the_token(
    hub: StandIn, folder: Path, status: int, part: str, quick: None
) -> None:
    hub.refuse[part] = status
    with pytest.raises(errors.HubError) as caught:
        send(folder, "x", hub.url)
    shown = "".join(traceback.format_exception(caught.value))
    assert GOOD not in shown and "<html>" not in shown and type(caught.value) is not errors.HubError


def test_case_86_a_sign_in_that_expires_in_the_middle_is_said_and_nothing_is_public(
    hub: StandIn, folder: Path, quick: None
) -> None:
    hub.refuse["/commit/"] = 401
    with pytest.raises(hub_errors.SignInExpiredError):
        send(folder, "x", hub.url, token=SIGNED_IN, private=False)
    assert hub.repos["alice/x"].files == {}


def test_an_uploader_that_only_says_its_status_in_words_is_understood(
    hub: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Xet's failures are built-in ConnectionErrors (ECOSYSTEM 3.3)."""
    import huggingface_hub

    def refused(*args: Any, **options: Any) -> None:
        raise ConnectionError(f"Network error: Request error: HTTP status client error (403 Forbidden) token {GOOD}")

    monkeypatch.setattr(huggingface_hub.HfApi, "preupload_lfs_files", refused)
    with pytest.raises(errors.NoWriteAccessError) as caught:
        send(folder, "x", hub.url)
    assert GOOD not in "".join(traceback.format_exception(caught.value))


def test_no_network_is_said(folder: Path) -> None:
    with pytest.raises(errors.HubUnreachableError):
        send(folder, "x", "http://127.0.0.1:9")


def test_case_83_the_hosts_own_token_is_never_used(hub: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hosthosthost")
    send(folder, "x", hub.url)
    list(fetch("alice/x", folder.parent / "back", token=GOOD, endpoint=hub.url))
    assert {token for _, _, token in hub.requests if token} == {GOOD}


def test_weights_with_conditions_limit_the_licences(hub: StandIn) -> None:
    limited = find("convnextv2_nano")
    with pytest.raises(hub_errors.LicenceConflictError, match=r"cc-by-nc-4\.0"):
        check(PushWish("x"), limited, token=GOOD, endpoint=hub.url)
    assert hub.requests == []
    assert check(PushWish("x", licence="cc-by-nc-4.0"), limited, token=GOOD, endpoint=hub.url).repo_id == "alice/x"
    assert allowed(find("dinov3_small")) == ("other",)
    assert all(allowed(row) for row in CATALOGUE) and allowed(EMBEDDED) == FREE


def test_timm_loads_it_from_there_to_the_same_answers(hub: StandIn, folder: Path, tmp_path: Path) -> None:
    send(folder, "clf", hub.url, private=False)
    code = (
        "import sys, timm, torch; x = torch.ones(2, 3, 128, 128);"
        "a = timm.create_model('hf-hub:alice/clf', pretrained=True).eval();"
        "b = timm.create_model('local-dir:' + sys.argv[1], pretrained=True).eval();"
        "assert a.pretrained_cfg['label_names'] == ['ants', 'bees'];"
        "assert torch.equal(a(x), b(x))"
    )
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PATH": "", "HF_HUB_DISABLE_XET": "1"}
    subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True)


# and back


def test_what_was_pushed_comes_back_as_it_was(hub: StandIn, folder: Path, tmp_path: Path) -> None:
    send(folder, "clf", hub.url)
    hub.repos["alice/clf"].files["model.pkl"] = b"not for us"
    told = list(fetch("hf://alice/clf", tmp_path / "back", token=GOOD, endpoint=hub.url))
    assert told[-1].done == told[-1].total > 1_000_000
    assert {path.name for path in (tmp_path / "back").iterdir()} == set(FILES)
    assert all((tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes() for name in FILES)


@pytest.mark.parametrize(
    ("repo", "error"),
    [
        ("alice/none", hub_errors.ModelNotFoundError),
        ("alice/private", hub_errors.ModelNotFoundError),
        ("alice/foreign", hub_errors.NotOurModelError),
        ("alice/half", errors.NotABundleError),
        ("alice/bloated", errors.NotABundleError),
        ("../x", errors.RepoNameError),
    ],
)
def test_what_cannot_be_fetched_is_named_and_leaves_nothing(
    hub: StandIn, tmp_path: Path, repo: str, error: type
) -> None:
    hub.repos["alice/private"] = Repo(private=True, files={"bundle.json": b"{}"})
    hub.repos["alice/foreign"] = Repo(private=False, files={"config.json": b"{}"})
    hub.repos["alice/half"] = Repo(private=False, files={"bundle.json": b"{}"})
    huge = {name: b"x" for name in FILES} | {"bundle.json": b"x" * 17_000_000}
    hub.repos["alice/bloated"] = Repo(private=False, files=huge)
    with pytest.raises(error):
        list(fetch(repo, tmp_path / "back", endpoint=hub.url))
    assert not (tmp_path / "back").exists()


def test_a_model_is_known_by_what_people_paste() -> None:
    pasted = ("alice/x", "hf://alice/x", " https://huggingface.co/alice/x/tree/main ", "huggingface.co/alice/x")
    assert {name_of(text) for text in pasted} == {"alice/x"}
