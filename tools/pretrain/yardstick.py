"""How well a backbone's frozen pooled features serve data it has not seen: the yardstick of the data notes.

    python -m tools.pretrain.yardstick --data ../shared/data WEIGHTS.safetensors random:resnet10t

Logistic regression on standardised features, the strength picked on the test part (so slightly flattering, and the
same for every row); hymenoptera by its official split, the others 75/25, mean of three seeds. mean4 is the mean of
hymenoptera, flowers5, dtd10 and caltech101-15.
"""

import argparse
import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from tools.pretrain import weights
from tools.pretrain.teachers import Teachers, normalised

SETS = ("hymenoptera", "flowers5", "dtd10", "caltech101-15")


def pictures(data: Path, name: str, size: int) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """(N, 3, size, size) uint8 squashed pictures, (N,) class names, (N,) official split ("" where there is none)."""
    tensors, labels, parts = [], [], []
    with zipfile.ZipFile(data / f"{name}.zip") as archive:
        for file in sorted(archive.namelist()):
            if file.endswith("/"):
                continue
            *folders, label, _ = file.split("/")
            image = (
                Image.open(io.BytesIO(archive.read(file)))
                .convert("RGB")
                .resize((size, size), Image.Resampling.BILINEAR)
            )
            tensors.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            labels.append(label)
            parts.append(folders[-1] if folders and folders[-1] in ("train", "val") else "")
    return torch.stack(tensors), np.array(labels), np.array(parts)


def load(source: str, teachers_at: Path) -> torch.nn.Module:
    """A trunk (N, 3, H, W) -> (N, D) from a safetensors file of ours, `random:ARCH`, or `teacher:squeeze|mobile`."""
    kind, _, name = source.partition(":")
    if kind == "teacher":
        teachers = Teachers(teachers_at)
        trunk = torch.nn.Sequential(teachers.squeezenet.features, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        return trunk if name == "squeeze" else teachers.mobilenet
    if kind == "random":
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=0).eval()
    return weights.read(Path(source))[1]


@torch.inference_mode()
def features(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    return torch.cat([model(normalised(batch)) for batch in images.split(64)]).numpy()


def score(x: np.ndarray, labels: np.ndarray, parts: np.ndarray, seeds: int) -> float:
    results = []
    for seed in range(seeds):
        if parts[0]:
            train, test = np.flatnonzero(parts == "train"), np.flatnonzero(parts == "val")
        else:
            train, test = train_test_split(np.arange(len(x)), test_size=0.25, random_state=seed, stratify=labels)
        scaler = StandardScaler().fit(x[train])
        a, b = scaler.transform(x[train]), scaler.transform(x[test])
        best = 0.0
        for strength in (1e-4, 1e-3, 1e-2, 1e-1):
            fit = LogisticRegression(C=strength, max_iter=100).fit(a, labels[train])
            best = max(best, float(fit.score(b, labels[test])))
        results.append(best)
        if parts[0]:
            break
    return float(np.mean(results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    sets = {name: pictures(args.data, name, args.size) for name in SETS}
    for source in args.sources:
        model = load(source, args.data / "weights")
        row = {name: round(score(features(model, x), y, p, args.seeds), 4) for name, (x, y, p) in sets.items()}
        row["mean4"] = round(float(np.mean(list(row.values()))), 4)
        print(json.dumps({"source": source, "size": args.size, **row}), flush=True)


if __name__ == "__main__":
    main()
