"""Which processor trains, with the reason as a sentence for people."""

from dataclasses import dataclass

import torch

from tl_core.errors import OptionError


@dataclass(frozen=True)
class Device:
    name: str  # torch's: "cpu", "cuda", "mps"
    reason: str


def pick_device(wanted: str = "auto") -> Device:
    """The device called `wanted`, or the fastest there is. Raises OptionError when it is not there."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return Device("cuda", f"GPU: {torch.cuda.get_device_name()}.")
        if torch.backends.mps.is_available():
            return Device("mps", "GPU: Apple silicon.")
        return Device("cpu", "Processor only: no GPU was found. The quick way does not need one.")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(wanted, False):
        known = ", ".join(name for name, ok in there.items() if ok)
        raise OptionError(option="--device", found=wanted, needed=f"one of auto, {known} is needed here")
    return Device(wanted, f"{wanted}, as asked.")
