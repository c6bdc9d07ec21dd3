"""What this machine has, whether it can work, and how fast the built-in backbone is on it."""

import os
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import numpy.typing as npt
import torch

from tl_core.models import backbone
from tl_core.models.availability import hub_cache, is_local
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone
from tl_core.settings import Settings
from tl_core.training.device import pick_device
from tl_core.training.features import BATCH, cores, in_order
from tl_core.training.plan import Machine

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "gradio",
    "huggingface_hub",
    "pillow",
    "numpy",
    "simplejpeg",
    "pillow-heif",
)
_PROBE_BATCHES, _PROBE_SECONDS = 64, 1.0


def examine(settings: Settings) -> dict[str, object]:
    """Facts by name, ready to print; lists are lines."""
    folder = settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    speed = probe(settings)
    return {
        "python": platform.python_version(),
        "packages": [f"{name} {_version(name)}" for name in _PACKAGES],
        "device": pick_device().reason,
        "cores": cores(),
        "pictures a second (built-in backbone)": round(speed, 1),
        "data folder": f"{folder} ({'writable' if os.access(folder, os.W_OK) else 'NOT WRITABLE'})",
        "free disk": f"{shutil.disk_usage(folder).free / 1e9:.1f} GB",
        "backbones": [f"{row.id}: {row.title}, {_where(row)}" for row in CATALOGUE],
        "torch hub cache": str(hub_cache()),
    }


def probe(settings: Settings) -> float:
    """Pictures a second of the built-in backbone on random pixels, a second's worth; remembered for plans."""
    device = pick_device().name
    model = backbone.load(EMBEDDED, timeout=0).to(device)
    size = EMBEDDED.preprocessing.size
    batch = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8, device=device)

    def one(_: int) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            features: npt.NDArray[np.float32] = model(EMBEDDED.preprocessing.normalise(batch)).float().cpu().numpy()
        return features

    workers, done, started = cores() if device == "cpu" else 1, 0, 0.0
    for number, _ in enumerate(in_order(one, range(_PROBE_BATCHES), workers=workers)):
        if number < workers:  # the first batch of every thread pays for set-up
            started = time.monotonic()
            continue
        done += BATCH
        if time.monotonic() - started > _PROBE_SECONDS:
            break
    speed = done / (time.monotonic() - started)
    Machine(settings).remember(EMBEDDED, speed)
    return speed


def _where(row: Backbone) -> str:
    if row.source == "embedded":
        return "comes with the program"
    return "on this machine" if is_local(row) else f"{row.download_mb} MB to download"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
