"""Spaces: this app on the Hub for others, and a small page for one model.

Free accounts may have ZeroGPU Spaces only, so that is what is asked for unless something else is wished for. Calls and
words for hardware: https://huggingface.co/docs/huggingface_hub/guides/manage-spaces.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_core.errors import RepoNameError
from tl_core.events import Progress
from tl_core.exports.script import SOURCES
from tl_core.hub.access import Account, check_name, connected, plain_failures, status_of, well_formed
from tl_core.hub_errors import (
    ModelNotFoundError,
    NoOnnxError,
    NotACheckoutError,
    PrivateModelError,
    SpaceRefusedError,
    StorageNameError,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ZERO = "zero-a10g"
DEMO = Path(__file__).parent / "demo_space"
ROOT = Path(__file__).parents[2]
# What a Space has no use for: it is there for people who read the code.
_LEFT_OUT = ("docs/screenshots/", "bench/", ".ci/", "tests/")
# What a renamed or deleted module would leave behind in a Space that is brought up to date.
_OURS = ("tl_core/", "tl_ui/")
_ONNX = "model.onnx"  # what the demo's page asks
_REFUSED = (402, 403)
_STORAGE = "/data"


@dataclass(frozen=True)
class Deployed:
    """Where the Space is: its id and its page."""

    repo_id: str
    url: str


def deploy(
    repo: str,
    *,
    token: str,
    hardware: str = ZERO,
    storage: str = "",
    private: bool = False,
    root: Path = ROOT,
    endpoint: str | None = None,
) -> Iterator[Progress | Deployed]:
    """Create or update the Space `repo` with the tracked files of this project in `root`; `storage` is a bucket of the
    Hub ("user/name", made where there is none) to keep data in. The last one is where it is. Raises a HubError."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, Volume

    check_name(repo)
    if storage:
        check_storage(storage)
    token = well_formed(token)
    names = tracked(root)
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationAdd(name, root / name) for name in names]
    api = connected(endpoint)
    with plain_failures(repo, token):
        repo_id = Account.of(api.whoami(token=token)).repo_id(repo)
        yield Progress("uploading", 0, len(names))
        url = _created(api, repo_id, token=token, hardware=hardware, private=private)
        if storage:
            api.create_bucket(storage, private=True, exist_ok=True, token=token)
            volume = Volume(type="bucket", source=storage, mount_path=_STORAGE)
            api.set_space_volumes(repo_id, [volume], token=token)
            api.add_space_variable(repo_id, "TL_DATA_DIR", f"{_STORAGE}/transfer-lab", token=token)
        there = api.list_repo_files(repo_id, repo_type="space", token=token)
        stale = [name for name in there if name.startswith(_OURS) and name not in names]
        operations += [CommitOperationDelete(name, is_folder=False) for name in stale]
        said = "Transfer Lab"
        api.create_commit(repo_id, operations, commit_message=said, token=token, repo_type="space")
        yield Progress("uploading", len(names), len(names))
    yield Deployed(repo_id, url)


def check_storage(storage: str) -> None:
    """Raises StorageNameError unless `storage` can be "user/bucket"."""
    try:
        check_name(storage)
        good = "/" in storage
    except RepoNameError:
        good = False
    if not good:
        raise StorageNameError(name=storage)


def tracked(root: Path) -> list[str]:
    """The files of the project that belong on a Space: those git knows, so no data, no secrets and nothing built."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:  # no git, as in the container
        raise NotACheckoutError from None
    names = [name for name in listed.stdout.decode().split("\0") if name]
    if listed.returncode or "app.py" not in names:  # installed, perhaps in a folder that a checkout ignores
        raise NotACheckoutError
    kept = [name for name in names if not name.startswith(_LEFT_OUT) and not (root / name).is_symlink()]
    return [name for name in kept if (root / name).is_file()]


def add_demo(model: str, *, token: str, hardware: str = ZERO, endpoint: str | None = None) -> str:
    """Make a Space beside the model ("user/name") of this token's owner that shows it to anyone; gives its address.

    Raises PrivateModelError for a model that the Space could not read, NoOnnxError for one it could not run, and other
    HubErrors.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import RepositoryNotFoundError

    check_name(model)
    token = well_formed(token)
    api = connected(endpoint)
    with plain_failures(model, token):
        model_id = Account.of(api.whoami(token=token)).repo_id(model)
        try:
            found = api.model_info(model_id, token=token, timeout=10)
        except RepositoryNotFoundError:
            raise ModelNotFoundError(repo=model_id) from None
        if found.private:
            raise PrivateModelError(repo=model_id)
        if _ONNX not in {file.rfilename for file in found.siblings or ()}:
            raise NoOnnxError(repo=model_id)
        space = f"{model_id}-demo"
        url = _created(api, space, token=token, hardware=hardware, private=False)
        operations = [CommitOperationAdd(name, data) for name, data in demo_files(model_id).items()]
        said = f"Demo of {model_id}"
        api.create_commit(space, operations, commit_message=said, token=token, repo_type="space")
    return url


def demo_files(model_id: str) -> dict[str, bytes]:
    """The files of a model's demo Space by name."""
    from huggingface_hub import SpaceCardData

    name = model_id.rpartition("/")[2]
    data = SpaceCardData(
        title=name,
        sdk="gradio",
        sdk_version=gradio_version(),
        python_version="3.12",
        app_file="app.py",
        models=[model_id],
        tags=["image-classification", "transfer-lab"],
    )
    app = (DEMO / "app.py.template").read_text(encoding="utf-8").replace("OWNER/MODEL", model_id)
    return {
        "README.md": f"---\n{data.to_yaml()}\n---\n\nA demo of [{model_id}](https://huggingface.co/{model_id}).\n".encode(),
        "app.py": app.encode(),
        "predict.py": (SOURCES / "predict.py").read_bytes(),
        "requirements.txt": (DEMO / "requirements.txt").read_bytes(),
    }


def gradio_version() -> str:
    """The version of Gradio that this project runs on."""
    from importlib.metadata import version

    return version("gradio")


def _created(api: "HfApi", repo_id: str, *, token: str, hardware: str, private: bool) -> str:
    """The address of the Space, made where there is none and moved to the hardware where there is one."""
    from huggingface_hub.errors import HfHubHTTPError

    wanted: Any = hardware  # checked by the Hub
    try:
        there = api.repo_exists(repo_id, repo_type="space", token=token)
        made = api.create_repo(
            repo_id,
            token=token,
            private=private,
            repo_type="space",
            space_sdk="gradio",
            space_hardware=wanted,
            exist_ok=True,
        )
        if there:
            api.request_space_hardware(repo_id, wanted, token=token)
        return str(made)
    except HfHubHTTPError as error:
        if (status := status_of(error)) in _REFUSED:
            raise SpaceRefusedError(repo=repo_id, hardware=hardware, status=status) from None
        raise
