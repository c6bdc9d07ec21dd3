"""What a figure was measured on: printed with every result."""

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

from tl_core.training.features import cores

DATA = Path(__file__).parents[2] / "shared" / "data"


def describe() -> str:
    """Date, processor, cores and the versions that matter, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    flags = ""
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        model = next((line.split(": ")[1] for line in text.splitlines() if line.startswith("model name")), model)
        kinds = {"amx_bf16": ", AMX", "avx512_bf16": ", AVX-512 with bf16", "avx512f": ", AVX-512"}
        flags = next((said for flag, said in kinds.items() if flag in text), "")
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "gradio"))
    return f"{date.today()}, {model}{flags}, {cores()} cores, Python {platform.python_version()}, {packages}"
