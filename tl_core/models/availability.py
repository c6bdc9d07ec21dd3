"""Which backbones need no download, answered without importing torch (the web process must start without it)."""

import os
from pathlib import Path

from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone


def hub_cache() -> Path:
    """Where torch hub keeps downloaded weights; the same rule as `torch.hub.get_dir()`."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", os.path.join(cache, "torch")), "hub", "checkpoints").expanduser()


def is_local(row: Backbone) -> bool:
    """Whether the weights of `row` are on this machine."""
    return row.source == "embedded" or (hub_cache() / row.hub_file).exists()


def best_local() -> Backbone:
    """The most preferred backbone whose weights are on this machine; the embedded one always is."""
    return next((row for row in CATALOGUE if is_local(row)), EMBEDDED)
