"""Whatever can go wrong between this machine and the Hub has its sentence, shows no token and leaves nothing public.

The rows of ECOSYSTEM 3.3 and cases 84 and 86 of SECURITY, with the real client, also with its Xet uploader.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_stand_in import GOOD, SIGNED_IN, Handler, Repo, StandIn, standing_in
from tests.test_bundle import made
from tests.test_hub import send
from tl_core import errors, hub_errors
from tl_core.bundle.files import FILES, present
from tl_core.hub import access
from tl_core.hub.checks import PushWish, check
from tl_core.hub.fetch import fetch
from tl_core.hub.push import push
from tl_core.models.catalogue import EMBEDDED

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "b"
    made(path, ("ants", "bees"))
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client waits for a fifth of a second only; before and after it is as everywhere."""
    from huggingface_hub import close_session

    stays = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: None if seconds > 0.5 else stays(seconds))
    monkeypatch.setattr(access, "SILENCE", (0.2, 0.2, 0.2, 0.2))
    monkeypatch.setattr("tl_core.hub.checks._SECONDS", 0.2)
    close_session()
    yield
    close_session()


def shown(error: BaseException) -> str:
    """All that a log would say of it."""
    return "".join(traceback.format_exception(error))


# what is on the way


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_case_84_a_file_that_is_refused_by_the_storage_is_named(
    hub: StandIn, folder: Path, status: int, quick: None
) -> None:
    """The library wraps what befell the upload itself in a RuntimeError."""
    hub.refuse = {f"/lfs/{digit}": status for digit in "0123456789abcdef"}  # not the batch before it
    with pytest.raises(errors.HubError) as caught:
        send(folder, "x", hub.url)
    assert type(caught.value) is not errors.HubError and hub.repos["alice/x"].files == {}
    assert GOOD not in shown(caught.value) and "RuntimeError" not in shown(caught.value)


@pytest.mark.parametrize(
    "part", ["/api/whoami-v2", "/api/models/alice/x", "/api/repos/create", "/preupload/", "/lfs/", "/commit/"]
)
def test_case_84_a_hub_that_says_nothing_is_given_up(hub: StandIn, folder: Path, part: str, impatient: None) -> None:
    hub.silent = {part}
    with pytest.raises(errors.HubUnreachableError):
        send(folder, "x", hub.url)
    assert not hub.repos or hub.repos["alice/x"].files == {}


@pytest.mark.parametrize("page", [b"<html><title>Free Wi-Fi</title>", b"\xff\xfe\x00binary", b""])
def test_case_84_a_page_of_the_network_in_place_of_the_hub_is_told_from_it(
    hub: StandIn, folder: Path, tmp_path: Path, page: bytes
) -> None:
    hub.instead = page or b" "
    with pytest.raises(hub_errors.NotTheHubError, match="in place of the Hugging Face Hub"):
        send(folder, "x", hub.url)
    with pytest.raises(hub_errors.NotTheHubError):
        list(fetch("alice/x", tmp_path / "back", endpoint=hub.url))
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("status", [301, 404, 410, 418, 451, 502, 504])
def test_case_84_statuses_nobody_expects_are_named_too(hub: StandIn, folder: Path, status: int, quick: None) -> None:
    hub.refuse["/commit/"] = status
    with pytest.raises(errors.HubError, match=f"status {status}|cannot be reached|in place of"):
        send(folder, "x", hub.url)


def test_case_84_an_asker_too_often_is_told_to_wait_before_anything_is_made(hub: StandIn, folder: Path) -> None:
    hub.refuse["/api/whoami-v2"] = 429
    with pytest.raises(errors.HubRefusedError, match=r"status 429.*Wait a minute"):
        send(folder, "x", hub.url)
    assert hub.repos == {}


def test_the_libraries_own_word_for_being_offline_is_understood(
    folder: Path, hub: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    def offline(*args: Any, **options: Any) -> None:
        raise OfflineModeIsEnabled("offline mode is enabled")

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", offline)
    with pytest.raises(errors.HubUnreachableError):
        send(folder, "x", hub.url)


# what the Hub has against it


@pytest.mark.parametrize(
    "said", ["Private repository storage limit reached, please upgrade", "Your storage patterns tripped our systems!"]
)
def test_case_84_a_full_storage_is_not_taken_for_a_missing_right(hub: StandIn, folder: Path, said: str) -> None:
    hub.refuse, hub.refusal = {"/objects/batch": 403}, json.dumps({"error": said}).encode()
    with pytest.raises(hub_errors.HubStorageError, match="no room left for “alice/x”") as caught:
        send(folder, "x", hub.url)
    assert said not in shown(caught.value)


@pytest.mark.parametrize("part", ["/api/repos/create", "/preupload/", "/objects/batch", "/commit/"])
def test_case_86_a_sign_in_that_allows_too_little_says_what_to_allow(hub: StandIn, folder: Path, part: str) -> None:
    hub.refuse[part] = 403
    with pytest.raises(hub_errors.SignInScopeError, match="allow it to create repositories"):
        send(folder, "x", hub.url, token=SIGNED_IN, private=False)
    assert not hub.repos or hub.repos["alice/x"].files == {}


@pytest.mark.parametrize("part", ["/api/repos/create", "/preupload/", "/objects/batch", "/commit/"])
def test_case_86_a_sign_in_that_ends_at_any_step_is_said(hub: StandIn, folder: Path, part: str) -> None:
    checked = check(PushWish("x"), EMBEDDED, token=SIGNED_IN, endpoint=hub.url)
    hub.refuse[part] = 401
    with pytest.raises(hub_errors.SignInExpiredError):
        list(push(folder, present(folder), PushWish("x"), checked, token=SIGNED_IN, endpoint=hub.url))
    assert not hub.repos or hub.repos["alice/x"].files == {}


def test_case_76_a_name_taken_after_the_check_is_not_written_into(hub: StandIn, folder: Path) -> None:
    checked = check(PushWish("x"), EMBEDDED, token=GOOD, endpoint=hub.url)
    hub.repos["alice/x"] = Repo(private=True, files={"theirs.txt": b"theirs"})
    with pytest.raises(errors.RepoExistsError):
        list(push(folder, present(folder), PushWish("x"), checked, token=GOOD, endpoint=hub.url))
    assert set(hub.repos["alice/x"].files) == {"theirs.txt"}


def test_what_a_broken_off_push_left_may_be_filled_without_asking(hub: StandIn, folder: Path) -> None:
    hub.repos["alice/x"] = Repo(private=True, files={".gitattributes": b"*.safetensors filter=lfs"}, commits=1)
    assert send(folder, "x", hub.url).repo_id == "alice/x"
    assert set(FILES) < set(hub.repos["alice/x"].files)


def test_a_private_model_never_goes_where_everybody_looks(hub: StandIn, folder: Path) -> None:
    hub.repos["alice/x"] = Repo(private=False, files={"old": b""})
    for taken in (hub.repos["alice/x"], Repo(private=False)):
        hub.repos["alice/x"] = taken
        with pytest.raises(hub_errors.PublicAlreadyError, match="everybody can see it"):
            send(folder, "x", hub.url, replace=True)
    assert hub.repos["alice/x"].files == {}
    assert send(folder, "x", hub.url, private=False).repo_id == "alice/x"


def test_a_model_that_was_made_while_its_answer_got_lost_is_still_ours(folder: Path, quick: None) -> None:
    class Forgetful(Handler):
        def create(self, wish: dict[str, Any], token: str, user: str | None) -> None:
            if wish["name"] not in str(self.hub.repos):
                self.hub.repos[f"alice/{wish['name']}"] = Repo(private=True)
                return self.answer(500, {"error": "lost"})
            return super().create(wish, token, user)

    with standing_in(Forgetful) as hub:
        assert send(folder, "x", hub.url).repo_id == "alice/x"
        assert hub.repos["alice/x"].private and set(hub.repos["alice/x"].files) == set(FILES)


def test_an_upload_that_breaks_off_goes_on_with_what_is_missing(folder: Path, tmp_path: Path, quick: None) -> None:
    """The line goes dead in the middle of the second large file; the first is not sent again."""
    two = tmp_path / "two"
    shutil.copytree(folder, two)
    (two / "model.onnx").write_bytes(os.urandom(200_000))
    names = [*present(folder), "model.onnx"]
    wish = PushWish("x")

    class Cut(Handler):
        sent: dict[str, int] = {}  # of all connections
        broken = True

        def respond(self) -> None:
            if self.path.startswith("/lfs/"):
                self.sent[self.path] = self.sent.get(self.path, 0) + 1
                if self.broken and len(self.sent) == 2:
                    self.close_connection = True
                    return None
            return super().respond()

        do_PUT = do_GET = do_POST = do_HEAD = respond

    with standing_in(Cut) as hub:
        checked = check(wish, EMBEDDED, token=GOOD, endpoint=hub.url)
        with pytest.raises(errors.HubUnreachableError):
            list(push(two, names, wish, checked, token=GOOD, endpoint=hub.url))
        assert hub.repos["alice/x"].files == {} and len(hub.blobs) == 1
        first, Cut.broken = next(iter(Cut.sent)), False
        checked = check(wish, EMBEDDED, token=GOOD, endpoint=hub.url)
        list(push(two, names, wish, checked, token=GOOD, endpoint=hub.url))
        assert set(hub.repos["alice/x"].files) == set(names) and Cut.sent[first] == 1


def test_a_link_to_another_file_is_never_followed(hub: StandIn, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("not for the world")
    linked = tmp_path / "linked"
    shutil.copytree(folder, linked)
    (linked / "README.md").unlink()
    (linked / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(errors.NotABundleError, match="is a link"):
        send(linked, "x", hub.url)
    assert hub.repos == {}


# the other uploader


_WITH_XET = """
import pathlib, sys, traceback
from huggingface_hub.utils._runtime import is_xet_available
from tl_core.bundle.files import present
from tl_core.hub.checks import PushCheck, PushWish
from tl_core.hub.push import push
assert is_xet_available()
folder, hub, token = pathlib.Path(sys.argv[1]), sys.argv[2], sys.stdin.read()
for name in sys.argv[3:]:
    try:
        list(push(folder, present(folder), PushWish(name), PushCheck("", "alice/" + name), token=token, endpoint=hub))
    except Exception as error:
        traceback.print_exc()
        print(type(error).__name__)
"""


@pytest.mark.parametrize(
    "expected",
    [
        {401: "TokenRefusedError", 403: "NoWriteAccessError", 404: "HubRefusedError"},
        pytest.param({429: "HubBusyError"}, marks=pytest.mark.slow),  # it tries again for two minutes
        pytest.param({500: "HubBusyError"}, marks=pytest.mark.slow),
    ],
)
def test_case_84_the_xet_uploader_is_understood_too(
    hub: StandIn, folder: Path, tmp_path: Path, expected: dict[int, str]
) -> None:
    hub.refuse = {f"/x{status}/xet-write-token/": status for status in expected}
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "0", "PYTHONPATH": str(ROOT)}
    names = [f"x{status}" for status in expected]
    told = subprocess.run(
        [sys.executable, "-c", _WITH_XET, str(folder), hub.url, *names],
        env=environment,
        input=GOOD,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert told.stdout.split() == list(expected.values())
    assert all(hub.repos[f"alice/{name}"].files == {} for name in names)
    assert GOOD not in told.stdout + told.stderr and "Network error" not in told.stdout + told.stderr


# and back


def test_a_gated_model_says_where_to_ask(tmp_path: Path) -> None:
    class Gated(Handler):
        def file(self, repo_id: str, name: str) -> None:
            return self.answer(403, {"error": "Access is restricted"}, {"X-Error-Code": "GatedRepo"})

    with standing_in(Gated) as hub:
        hub.repos["alice/x"] = Repo(private=False, files=dict.fromkeys(FILES, b"{}"))
        with pytest.raises(hub_errors.GatedModelError, match="Ask there"):
            list(fetch("alice/x", tmp_path / "back", endpoint=hub.url))
    assert not (tmp_path / "back").exists()


def test_the_token_does_not_go_along_to_another_host(folder: Path, tmp_path: Path) -> None:
    """The Hub sends downloads on to its storage, as any page could."""
    with standing_in() as other:

        class Elsewhere(Handler):
            def file(self, repo_id: str, name: str) -> None:
                place = f"{other.url}/{repo_id}/resolve/main/{name}"
                about = {"X-Repo-Commit": "0" * 40, "ETag": f'"{name}"', "X-Linked-Size": str(len(data[name]))}
                return self.answer(302, b"", {"location": place.replace("127.0.0.1", "localhost"), **about})

        data = {name: (folder / name).read_bytes() for name in FILES}
        other.repos["alice/x"] = Repo(private=False, files=data)
        with standing_in(Elsewhere) as hub:
            hub.repos["alice/x"] = other.repos["alice/x"]
            list(fetch("alice/x", tmp_path / "back", token=GOOD, endpoint=hub.url))
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == data["model.safetensors"]
    assert other.requests and {token for _, _, token in other.requests} == {""}


def test_a_download_that_is_not_what_was_listed_is_not_kept(folder: Path, tmp_path: Path, quick: None) -> None:
    class Short(Handler):
        def file(self, repo_id: str, name: str) -> None:
            whole = self.hub.repos[repo_id].files[name]
            self.hub.repos[repo_id].files[name] = whole[: len(whole) // 2] if name.endswith("safetensors") else whole
            super().file(repo_id, name)
            self.hub.repos[repo_id].files[name] = whole

    with standing_in(Short) as hub:
        hub.repos["alice/x"] = Repo(private=False, files={name: (folder / name).read_bytes() for name in FILES})
        with contextlib.suppress(errors.TLError):
            list(fetch("alice/x", tmp_path / "back", endpoint=hub.url))
            from tl_core.bundle.bundle import load

            with pytest.raises(errors.BundleError):
                load(tmp_path / "back")


def test_a_hub_that_dies_during_a_download_is_named_and_nothing_stays(
    folder: Path, tmp_path: Path, quick: None
) -> None:
    class Dying(Handler):
        def file(self, repo_id: str, name: str) -> None:
            if not name.endswith("safetensors") or self.command == "HEAD":
                return super().file(repo_id, name)
            self.send_response(200)
            self.send_header("content-length", str(len(self.hub.repos[repo_id].files[name])))
            self.end_headers()
            self.wfile.write(b"x" * 1000)
            self.close_connection = True
            return None

    with standing_in(Dying) as hub:
        hub.repos["alice/x"] = Repo(private=False, files={name: (folder / name).read_bytes() for name in FILES})
        with pytest.raises(errors.HubError):
            list(fetch("alice/x", tmp_path / "back", endpoint=hub.url))
    assert not (tmp_path / "back").exists()
