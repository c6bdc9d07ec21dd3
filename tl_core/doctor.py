"""What this machine has, whether it can work, and how fast the built-in backbone is on it."""

import copy
import os
import platform
import shutil
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from tl_core.models import backbone
from tl_core.models.availability import hub_cache, is_local
from tl_core.models.catalogue import CATALOGUE, EMBEDDED, Backbone
from tl_core.models.classifier import Classifier
from tl_core.settings import Settings
from tl_core.training.checkpoint import Checkpoints
from tl_core.training.cores import cores, in_order
from tl_core.training.device import pick_device
from tl_core.training.distributed import World
from tl_core.training.engine import CHECKED, ENGINES, choose
from tl_core.training.features import BATCH
from tl_core.training.finetune import Tuner
from tl_core.training.gradient import TrainingData
from tl_core.training.plan import STRATEGIES, Machine
from tl_core.training.recipe import Recipe, Strategy
from tl_core.training.tuning import precisions

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
_PROBE_SECONDS = 1.0


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
    """Pictures a second of the built-in backbone on made-up pictures, a second's worth; remembered for plans, as is
    how fast it can be fine-tuned here."""
    device, machine = pick_device().name, Machine(settings)
    trunk = backbone.load(EMBEDDED, timeout=0).to(device)
    size, most = EMBEDDED.preprocessing.size, BATCH[device]
    coarse = torch.rand((most, 3, 8, 8), generator=torch.Generator().manual_seed(0)) * 255
    pictures = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear").to(torch.uint8)
    # As if for a long job, so that a converted network is there when the first run wants it.
    engine = choose(
        trunk,
        EMBEDDED.preprocessing,
        pictures[:CHECKED],
        pictures=10**6,
        device=device,
        cache=settings.data_dir / ENGINES,
    )
    workers, done, started = cores() if device == "cpu" else 1, 0, 0.0
    for number, _ in enumerate(in_order(lambda _: engine.run(pictures), range(10**6), workers=workers)):
        if number < workers:  # the first batch of every thread pays for set-up
            started = time.monotonic()
            continue
        done += most
        if time.monotonic() - started > _PROBE_SECONDS:
            break
    speed = done / (time.monotonic() - started)
    machine.remember(EMBEDDED, speed)
    for strategy in STRATEGIES:
        machine.remember(EMBEDDED, _steps(trunk, pictures, strategy, device), strategy)
    return speed


def _steps(trunk: torch.nn.Module, pictures: torch.Tensor, strategy: Strategy, device: str) -> float:
    """Pictures a second of fine-tuning steps in the fastest precision."""
    frames = pictures.cpu().repeat(4, 1, 1, 1).numpy()[:32]
    numbers = np.arange(len(frames))
    data = TrainingData(frames, numbers % 2, numbers, np.ones(len(frames), dtype=np.float32))
    speeds = []
    for precision in precisions(device):
        recipe = Recipe(strategy, 1, EMBEDDED.preprocessing.size, precision=precision)
        tuner = Tuner(
            Classifier(copy.deepcopy(trunk), torch.nn.Linear(EMBEDDED.width, 2), 2),
            data,
            recipe,
            sizes=[recipe.image_size],
            preprocessing=EMBEDDED.preprocessing,
            device=device,
            seed=0,
            checkpoints=Checkpoints(Path(), "", ""),
            world=World(),
        )
        speeds.append(tuner.measure())
    return max(speeds)


def _where(row: Backbone) -> str:
    if row.source == "embedded":
        return "comes with the program"
    return "on this machine" if is_local(row) else f"{row.download_mb} MB to download"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
