"""Everything that can be known before a model is pushed, asked before anything is created."""

from dataclasses import dataclass
from pathlib import Path

from tl_core.errors import RepoExistsError
from tl_core.hub.access import Account, check_name, connected, plain_failures, well_formed
from tl_core.hub.licences import check_licence
from tl_core.hub_errors import PublicAlreadyError
from tl_core.models.catalogue import Backbone

_SECONDS = 10.0  # for the Hub to say whether the name is free


@dataclass(frozen=True)
class PushWish:
    """What the person asked for: `name` is "name" or "user/name"; `replace` allows writing into a model that has files;
    `licence` is the Hub's word for one; `data_note` says, as the person does, where the pictures are from."""

    name: str
    private: bool = True
    replace: bool = False
    licence: str = "apache-2.0"
    data_note: str = ""
    language: str = "en"


@dataclass(frozen=True)
class PushCheck:
    """What the Hub said: whose token it is, the model's full id, and its last commit where it exists already ("" where
    it does not)."""

    user: str
    repo_id: str
    parent: str = ""


def check(wish: PushWish, backbone: Backbone, *, token: str, endpoint: str | None = None) -> PushCheck:
    """Ask whether the push can be made, before anything is. Raises a HubError that says why not."""
    check_name(wish.name.strip())
    token = well_formed(token)
    check_licence(backbone, wish.licence)
    from huggingface_hub.errors import RepositoryNotFoundError

    api = connected(endpoint)
    with plain_failures(wish.name.strip(), token):
        account = Account.of(api.whoami(token=token))
        repo_id = account.repo_id(wish.name.strip())
        try:
            found = api.model_info(repo_id, token=token, timeout=_SECONDS)
        except RepositoryNotFoundError:
            return PushCheck(account.name, repo_id)
        # What the Hub itself puts into a new one; there is no more where a push broke off.
        empty = {file.rfilename for file in found.siblings or []} <= {".gitattributes"}
        if not wish.replace and not empty:
            raise RepoExistsError(repo=repo_id)
        if wish.private and not found.private:
            raise PublicAlreadyError(repo=repo_id)
        api.auth_check(repo_id, token=token, write=True)
        return PushCheck(account.name, repo_id, str(found.sha or ""))


def size_of(folder: Path, names: list[str]) -> int:
    """Bytes of the files called `names` in `folder`."""
    return sum((folder / name).stat().st_size for name in names)
