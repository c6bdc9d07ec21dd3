"""Which backbones need no download, answered without importing torch (the web process must start without it)."""

import os
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone

_OLDER_NAME = "pytorch_model.bin"  # what timm downloaded before it had safetensors


def hub_cache() -> Path:
    """Where torch hub keeps downloaded weights; the same rule as `torch.hub.get_dir()`."""
    return Path(os.environ.get("TORCH_HOME", os.path.join(_cache(), "torch")), "hub", "checkpoints").expanduser()


def huggingface_cache() -> Path:
    """Where huggingface_hub keeps downloads; its own rule, which it applies only once, when imported."""
    home = os.environ.get("HF_HOME", os.path.join(_cache(), "huggingface"))
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(named or os.path.join(home, "hub")).expanduser()


def cached_file(row: Backbone) -> Path | None:
    """The file of `row`'s weights in its library's cache; None where it would have to be downloaded."""
    if row.source == "timm":
        repository, _, name = row.hub_file.rpartition("/")
        for candidate in (name, _OLDER_NAME):
            found = try_to_load_from_cache(repository, candidate, cache_dir=huggingface_cache())
            if isinstance(found, str):
                return Path(found)
        return None
    file = hub_cache() / row.hub_file
    return file if file.is_file() else None


def is_local(row: Backbone) -> bool:
    """Whether the weights of `row` are on this machine."""
    return row.source == "embedded" or cached_file(row) is not None


def local_rows() -> list[Backbone]:
    """The backbones for "auto" whose weights are on this machine, most preferred first; the embedded one, which always
    is here, comes last (those after it in the catalogue a person must choose)."""
    free = CATALOGUE[: CATALOGUE.index(EMBEDDED) + 1]
    return [row for row in free if is_local(row)]


def _cache() -> str:
    return os.environ.get("XDG_CACHE_HOME", "~/.cache")
