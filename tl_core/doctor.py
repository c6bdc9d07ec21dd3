"""What this machine has, whether it can work, and how fast the built-in backbone is on it."""

import os
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tl_core.models import backbone
from tl_core.models.catalogue import CATALOGUE, EMBEDDED
from tl_core.settings import Settings
from tl_core.training.device import pick_device
from tl_core.training.features import BATCH, cores
from tl_core.training.plan import Machine

_PACKAGES = ("torch", "torchvision", "timm", "gradio", "huggingface_hub", "pillow", "numpy", "simplejpeg", "pillow-heif")


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
        "torch hub cache": str(Path(torch.hub.get_dir())),
    }


def probe(settings: Settings) -> float:
    """Pictures a second of the built-in backbone on random pixels, a second's worth; remembered for plans."""
    device = pick_device().name
    model = backbone.load(EMBEDDED, timeout=0).to(device)
    size = EMBEDDED.preprocessing.size
    batch = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8, device=device)
    done, started = 0, 0.0
    with torch.inference_mode():
        for _ in range(20):
            model(EMBEDDED.preprocessing.normalise(batch)).cpu()
            if started == 0.0:  # the first batch pays for set-up
                started = time.monotonic()
                continue
            done += BATCH
            if time.monotonic() - started > 1:
                break
    speed = done / (time.monotonic() - started)
    Machine(settings).remember(EMBEDDED, speed)
    return speed


def _where(row: "backbone.Backbone") -> str:
    if row.source == "embedded":
        return "comes with the program"
    return "on this machine" if backbone.is_local(row) else f"{row.download_mb} MB to download"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
