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


_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet"
_TORCHVISION_PAGE = "https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.{}.html"
# Inception's weights were made for pixels from -1 to 1; torchvision's `transform_input` does that inside its network.
_HALF = (0.5, 0.5, 0.5)

# In order of preference: "auto" takes the first whose weights are on this machine.
CATALOGUE: tuple[Backbone, ...] = (
    Backbone(
        id="resnet18",
        title="ResNet-18",
        source="torchvision",
        weights="ResNet18_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="resnet18",
        classifier="fc",
        width=512,
        params_millions=11.7,
        gflops=1.82,
        download_mb=45,
        hub_file="resnet18-f37072fd.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url=_TORCHVISION_PAGE.format("resnet18"),
    ),
    Backbone(
        id="resnet50",
        title="ResNet-50",
        source="torchvision",
        weights="ResNet50_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="resnet50",
        classifier="fc",
        width=2048,
        params_millions=25.6,
        gflops=4.09,
        download_mb=98,
        hub_file="resnet50-0676ba61.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url=_TORCHVISION_PAGE.format("resnet50"),
    ),
    Backbone(
        id="densenet121",
        title="DenseNet-121",
        source="torchvision",
        weights="DenseNet121_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="densenet121",
        classifier="classifier",
        width=1024,
        params_millions=8.0,
        gflops=2.83,
        download_mb=31,
        hub_file="densenet121-a639ec97.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url=_TORCHVISION_PAGE.format("densenet121"),
    ),
    Backbone(
        id="convnext_tiny",
        title="ConvNeXt Tiny",
        source="torchvision",
        weights="ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="convnext_tiny",
        classifier="head.fc",
        width=768,
        params_millions=28.6,
        gflops=4.46,
        download_mb=109,
        hub_file="convnext_tiny-983f1562.pth",
        preprocessing=_imagenet_eval(224, 0.95),
        url=_TORCHVISION_PAGE.format("convnext_tiny"),
    ),
    Backbone(
        id="inception_v3",
        title="Inception v3",
        source="torchvision",
        weights="Inception_V3_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="inception_v3",
        classifier="fc",
        width=2048,
        params_millions=23.8,
        gflops=5.71,
        download_mb=104,
        hub_file="inception_v3_google-0cc3c7bd.pth",
        preprocessing=Preprocessing(299, "crop", 0.875, _HALF, _HALF),
        url=_TORCHVISION_PAGE.format("inception_v3"),
    ),
    Backbone(
        id="mobilenet_v3_large",
        title="MobileNetV3 Large",
        source="torchvision",
        weights="MobileNet_V3_Large_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="mobilenetv3_large_100",
        classifier="classifier",
        width=1280,
        params_millions=5.5,
        gflops=0.22,
        download_mb=21,
        hub_file="mobilenet_v3_large-8738ca79.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url=_TORCHVISION_PAGE.format("mobilenet_v3_large"),
        model_args={"bn_eps": 1e-3},
    ),
    Backbone(
        id="mobilenet_v2",
        title="MobileNetV2",
        source="torchvision",
        weights="MobileNet_V2_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="mobilenetv2_100",
        classifier="classifier",
        width=1280,
        params_millions=3.5,
        gflops=0.3,
        download_mb=14,
        hub_file="mobilenet_v2-b0353104.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url=_TORCHVISION_PAGE.format("mobilenet_v2"),
    ),
    Backbone(
        id="mobilenet_v3_small",
        title="MobileNetV3 Small",
        source="torchvision",
        weights="MobileNet_V3_Small_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="mobilenetv3_small_100",
        classifier="classifier",
        width=1024,
        params_millions=2.5,
        gflops=0.06,
        download_mb=10,
        hub_file="mobilenet_v3_small-047dcff4.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url=_TORCHVISION_PAGE.format("mobilenet_v3_small"),
        model_args={"bn_eps": 1e-3},
    ),
    Backbone(
        id="vgg16_bn",
        title="VGG-16",
        source="torchvision",
        weights="VGG16_BN_Weights.IMAGENET1K_V1",
        weights_licence=_TORCHVISION_LICENCE,
        architecture="vgg16_bn",
        classifier="head.fc",
        width=4096,
        params_millions=138.4,
        gflops=15.5,
        download_mb=528,
        hub_file="vgg16_bn-6c64b313.pth",
        preprocessing=_imagenet_eval(224, 0.875),
        url=_TORCHVISION_PAGE.format("vgg16_bn"),
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
