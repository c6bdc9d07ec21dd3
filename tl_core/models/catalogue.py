"""The backbones one can choose, as a table: one row is all there is to know about one. Add a row to add a backbone.

Every row names a timm architecture, so that what is trained here loads with `timm.create_model` elsewhere; weights
made for torchvision are renamed on loading (same numbers, `backbone.py`). Mean and deviation are ImageNet's, as all
three sources were trained: https://docs.pytorch.org/vision/stable/models.html
"""

import difflib
from dataclasses import dataclass, field
from typing import Literal

from tl_core.data.pixels import Preprocessing
from tl_core.errors import UnknownBackboneError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """One row. `width` is the number of features the head sees; `gflops` multiply-adds of one picture, in 10^9."""

    id: str
    title: str
    source: Literal["embedded", "torchvision"]
    weights: str  # a file beside this module, or a torchvision weights id
    weights_licence: str
    architecture: str  # timm's name
    classifier: str  # timm's name of the last layer
    width: int
    params_millions: float
    gflops: float
    download_mb: int
    hub_file: str  # what torch hub's cache calls the download; "" for the embedded one
    preprocessing: Preprocessing
    url: str
    model_args: dict[str, float] = field(default_factory=dict)


def _imagenet_eval(size: int, crop_pct: float) -> Preprocessing:
    return Preprocessing(size, "crop", crop_pct, IMAGENET_MEAN, IMAGENET_STD)


# In order of preference: "auto" takes the first whose weights are on this machine.
CATALOGUE: tuple[Backbone, ...] = (
    Backbone(
        id="resnet18",
        title="ResNet-18",
        source="torchvision",
        weights="ResNet18_Weights.IMAGENET1K_V1",
        weights_licence="BSD-3-Clause (torchvision); trained on ImageNet",
        architecture="resnet18",
        classifier="fc",
        width=512,
        params_millions=11.7,
        gflops=1.82,
        download_mb=45,
        hub_file="resnet18-f37072fd.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url="https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.resnet18.html",
    ),
    Backbone(
        id="mobilenet_v3_large",
        title="MobileNetV3 Large",
        source="torchvision",
        weights="MobileNet_V3_Large_Weights.IMAGENET1K_V1",
        weights_licence="BSD-3-Clause (torchvision); trained on ImageNet",
        architecture="mobilenetv3_large_100",
        classifier="classifier",
        width=1280,
        params_millions=5.5,
        gflops=0.22,
        download_mb=21,
        hub_file="mobilenet_v3_large-8738ca79.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url="https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.mobilenet_v3_large.html",
        model_args={"bn_eps": 1e-3},
    ),
    Backbone(
        id="mobilenet_v3_small",
        title="MobileNetV3 Small",
        source="torchvision",
        weights="MobileNet_V3_Small_Weights.IMAGENET1K_V1",
        weights_licence="BSD-3-Clause (torchvision); trained on ImageNet",
        architecture="mobilenetv3_small_100",
        classifier="classifier",
        width=1024,
        params_millions=2.5,
        gflops=0.06,
        download_mb=10,
        hub_file="mobilenet_v3_small-047dcff4.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url="https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.mobilenet_v3_small.html",
        model_args={"bn_eps": 1e-3},
    ),
    Backbone(
        id="embedded",
        title="Built-in (ResNet-10)",
        source="embedded",
        weights="embedded.safetensors",
        weights_licence="see tl_core/models/weights/README.md: trained on research data sets",
        architecture="resnet10t",
        classifier="fc",
        width=512,
        params_millions=4.9,
        gflops=0.36,
        download_mb=0,
        hub_file="",
        preprocessing=_imagenet_eval(128, 1.0),
        url="https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/resnet.py",
    ),
)
EMBEDDED = next(row for row in CATALOGUE if row.source == "embedded")


def find(backbone_id: str) -> Backbone:
    """The row called `backbone_id`. Raises UnknownBackboneError with the closest name."""
    for row in CATALOGUE:
        if row.id == backbone_id:
            return row
    known = [row.id for row in CATALOGUE]
    closest = difflib.get_close_matches(backbone_id, known, n=1, cutoff=0.0)[0]
    raise UnknownBackboneError(name=backbone_id, closest=closest, known=", ".join(["auto", *known]))
