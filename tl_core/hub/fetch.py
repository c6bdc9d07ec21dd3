"""A model that was pushed from here, fetched back: only the files of a bundle, and those no larger than one has."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tl_core.bundle.files import CARD, FILES, MANIFEST, MAX_JSON, MAX_WEIGHTS, OPTIONAL
from tl_core.errors import HubUnreachableError, NotABundleError
from tl_core.events import Progress
from tl_core.hub.access import check_name, connected, plain_failures, well_formed
from tl_core.hub_errors import GatedModelError, ModelNotFoundError, NotOurModelError

PREFIX = "hf://"


def fetch(repo: str, into: Path, *, token: str = "", endpoint: str | None = None) -> Iterator[Progress]:
    """Put the bundle of the model `repo` ("user/name", or with "hf://" or its page's address before it) into the folder
    `into`. Raises a HubError or NotABundleError; `into` is then gone."""
    repo_id = name_of(repo)
    check_name(repo_id)
    access: str | bool = well_formed(token) if token else False
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    api = connected(endpoint)
    try:
        with plain_failures(repo_id, token):
            try:
                info = api.model_info(repo_id, token=access, files_metadata=True, timeout=10)
                sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
                _check(sizes, repo_id)
                names = [name for name in (*FILES, *OPTIONAL) if name in sizes]
                total, done = sum(sizes[name] for name in names), 0
                into.mkdir(parents=True)
                for name in names:
                    yield Progress("fetching", done, total)
                    found = api.hf_hub_download(
                        repo_id, name, revision=info.sha, token=access, etag_timeout=10, local_dir=into
                    )
                    if Path(found).stat().st_size > _limit(name):
                        raise NotABundleError(name=repo_id, reason=f"{name} is too large")
                    done += sizes[name]
                yield Progress("fetching", total, total)
            except GatedRepoError:
                raise GatedModelError(repo=repo_id) from None
            except RepositoryNotFoundError:
                raise ModelNotFoundError(repo=repo_id) from None
            except LocalEntryNotFoundError:
                raise HubUnreachableError from None
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    shutil.rmtree(into / ".cache", ignore_errors=True)  # what the library remembers of the download


def name_of(text: str) -> str:
    """ "user/name" of what a person may give for it."""
    found = text.strip().removeprefix(PREFIX)
    for address in ("https://huggingface.co/", "huggingface.co/"):
        found = found.removeprefix(address)
    return "/".join(found.strip("/").split("/")[:2])


def _check(sizes: dict[str, int], repo_id: str) -> None:
    """Raises unless the listed files can be a bundle of ours."""
    if MANIFEST not in sizes:
        raise NotOurModelError(repo=repo_id)
    for name in FILES:
        if name not in sizes and name != CARD:
            raise NotABundleError(name=repo_id, reason=f"{name} is missing")
    for name in (*FILES, *OPTIONAL):
        if sizes.get(name, 0) > _limit(name):
            raise NotABundleError(name=repo_id, reason=f"{name} is too large")


def _limit(name: str) -> int:
    return MAX_WEIGHTS if name.endswith(".safetensors") else MAX_JSON
