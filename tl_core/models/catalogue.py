"""The backbones one can choose, as a table: one row is all there is to know about one. Add a row to add a backbone.

Nearly every row names a timm architecture, so that what is trained here loads with `timm.create_model` elsewhere;
weights made for torchvision are renamed on loading (same numbers, `backbone.py`). Facts of torchvision's rows:
https://docs.pytorch.org/vision/stable/models.html; of timm's: its own table of pretrained weights. The tests compare.
"""

import difflib
from dataclasses import dataclass, field
from typing import Any, Literal

from tl_core.data.pixels import Interpolation, Preprocessing
from tl_core.errors import UnknownBackboneError

Library = Literal["timm", "torchvision"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Backbone:
    """One row. `width` is the number of features the head sees; `gflops` multiply-adds of one picture, in 10^9."""

    id: str
    title: str
    source: Literal["embedded", "torchvision", "timm"]
    weights: str  # a file beside this module, a torchvision weights id, or timm's "architecture.tag"
    weights_licence: str
    architecture: str  # the name that `library` builds it by
    classifier: str  # the name of the last layer
    width: int
    params_millions: float  # with the classifier the weights were made with
    gflops: float
    download_mb: int  # 2^20 bytes
    hub_file: str  # in the cache: torch hub's file name, or Hugging Face's "owner/name/file"; "" for the embedded one
    preprocessing: Preprocessing
    url: str
    size_step: int = 32  # other input sizes must be multiples of it; 0: there are none
    model_args: dict[str, Any] = field(default_factory=dict)  # transformers have "img_size" here: made for one size
    least_size: int = 32  # below it the network's own layers have nothing left to see
    library: Library = "timm"  # torchvision's own network only where timm has no equal

    def fits(self, size: int) -> bool:
        """Whether the network can be made for pictures of `size` x `size`."""
        if size == self.preprocessing.size:
            return True
        return self.size_step > 0 and size >= self.least_size and size % self.size_step == 0

    def arguments(self, image_size: int | None = None) -> dict[str, Any]:
        """What the network is created with for `image_size` (None: the row's). Raises ValueError for an unfit one."""
        if image_size is None:
            return self.model_args
        if not self.fits(image_size):
            raise ValueError(f"{self.id} cannot be made for {image_size} pixels")
        return self.model_args | ({"img_size": image_size} if "img_size" in self.model_args else {})


def _torchvision(
    name: str,
    title: str,
    file: str,
    weights: str,
    architecture: str,
    classifier: str,
    numbers: tuple[int, float, float, int],
    *,
    see: Preprocessing | None = None,
    size_step: int = 32,
    least_size: int = 32,
    library: Library = "timm",
    **model_args: Any,
) -> Backbone:
    """A network of torchvision's; `numbers` are width, millions of parameters, GFLOPs and MB to download."""
    width, params, gflops, download = numbers
    return Backbone(
        id=name,
        title=title,
        source="torchvision",
        weights=f"{weights}_Weights.IMAGENET1K_V1",
        weights_licence="BSD-3-Clause (torchvision); trained on ImageNet",
        architecture=architecture,
        classifier=classifier,
        width=width,
        params_millions=params,
        gflops=gflops,
        download_mb=download,
        hub_file=file,
        preprocessing=see or _seen(224, 0.875),
        url=f"https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.{name}.html",
        size_step=size_step,
        least_size=least_size,
        model_args=model_args,
        library=library,
    )


def _timm(
    name: str,
    title: str,
    weights: str,
    licence: str,
    classifier: str,
    numbers: tuple[int, float, float, int],
    see: Preprocessing,
    *,
    size_step: int = 32,
    **model_args: Any,
) -> Backbone:
    """A network of timm's, its weights on the Hugging Face Hub; `numbers` as in `_torchvision`."""
    width, params, gflops, download = numbers
    return Backbone(
        id=name,
        title=title,
        source="timm",
        weights=weights,
        weights_licence=licence,
        architecture=weights.partition(".")[0],
        classifier=classifier,
        width=width,
        params_millions=params,
        gflops=gflops,
        download_mb=download,
        hub_file=f"timm/{weights}/model.safetensors",
        preprocessing=see,
        url=f"https://huggingface.co/timm/{weights}",
        size_step=size_step,
        model_args=model_args,
    )


def _seen(
    size: int,
    crop_pct: float,
    interpolation: Interpolation = "bilinear",
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Preprocessing:
    return Preprocessing(size, "crop", crop_pct, mean, std, interpolation)


# In order of preference: "auto" takes the first whose weights are on this machine. It never gets past the first of the
# embedded ones: below it stand the one it replaced, which models made before know by name, and weights with conditions
# on their use. Those a person must choose.
# fmt: off
CATALOGUE: tuple[Backbone, ...] = (
    _timm("dinov2_small", "DINOv2 ViT-S/14", "vit_small_patch14_dinov2.lvd142m", "apache-2.0", "head",
          (384, 21.6, 6.12, 84), _seen(224, 1.0, "bicubic"), size_step=14, img_size=224),
    _timm("vit_small", "ViT-S/16 (ImageNet-21k)", "vit_small_patch16_224.augreg_in21k_ft_in1k", "apache-2.0", "head",
          (384, 22.1, 4.6, 84), _seen(224, 0.9, "bicubic", _HALF, _HALF), size_step=16, img_size=224),
    _torchvision("resnet18", "ResNet-18", "resnet18-f37072fd.pth", "ResNet18", "resnet18", "fc",
                 (512, 11.7, 1.82, 45)),
    _torchvision("efficientnet_b0", "EfficientNet-B0", "efficientnet_b0_rwightman-7f5810bc.pth", "EfficientNet_B0",
                 "efficientnet_b0", "classifier", (1280, 5.3, 0.386, 20), see=_seen(224, 0.875, "bicubic")),
    _timm("mobilenetv4_small", "MobileNetV4 Small", "mobilenetv4_conv_small.e2400_r224_in1k", "apache-2.0",
          "classifier", (1280, 3.8, 0.18, 14), _seen(224, 0.875, "bicubic")),
    _torchvision("resnet50", "ResNet-50", "resnet50-0676ba61.pth", "ResNet50", "resnet50", "fc",
                 (2048, 25.6, 4.09, 98)),
    _torchvision("densenet121", "DenseNet-121", "densenet121-a639ec97.pth", "DenseNet121", "densenet121", "classifier",
                 (1024, 8.0, 2.83, 31)),
    _torchvision("convnext_tiny", "ConvNeXt Tiny", "convnext_tiny-983f1562.pth", "ConvNeXt_Tiny", "convnext_tiny",
                 "head.fc", (768, 28.6, 4.46, 109), see=_seen(224, 0.95)),
    _torchvision("swin_t", "Swin Tiny", "swin_t-704ceda3.pth", "Swin_T", "swin_tiny_patch4_window7_224", "head.fc",
                 (768, 28.3, 4.49, 108), see=_seen(224, 0.966, "bicubic"), size_step=0),
    _torchvision("efficientnet_v2_s", "EfficientNetV2 Small", "efficientnet_v2_s-dd5fe13b.pth", "EfficientNet_V2_S",
                 "efficientnetv2_s", "classifier", (1280, 21.5, 8.37, 83), see=_seen(384, 1.0), bn_eps=1e-3),
    _torchvision("regnet_y_400mf", "RegNetY 400MF", "regnet_y_400mf-c65dace8.pth", "RegNet_Y_400MF", "regnety_004",
                 "head.fc", (440, 4.3, 0.4, 17)),
    _timm("clip_vit_base_32", "CLIP ViT-B/32 (LAION-2B)", "vit_base_patch32_clip_224.laion2b", "apache-2.0", "head",
          (768, 87.8, 4.41, 335), _seen(224, 0.9, "bicubic", _CLIP_MEAN, _CLIP_STD), size_step=32, img_size=224),
    _timm("siglip2_base", "SigLIP 2 ViT-B/16", "vit_base_patch16_siglip_224.v2_webli", "apache-2.0", "head",
          (768, 92.9, 17.7, 354), _seen(224, 0.9, "bicubic", _HALF, _HALF), size_step=16, img_size=224),
    _torchvision("vit_b_16", "ViT-B/16", "vit_b_16-c867db91.pth", "ViT_B_16", "vit_base_patch16_224", "head",
                 (768, 86.6, 17.56, 330), size_step=16, img_size=224),
    # Made for pixels from -1 to 1; torchvision's `transform_input` does that inside its network.
    _torchvision("inception_v3", "Inception v3", "inception_v3_google-0cc3c7bd.pth", "Inception_V3", "inception_v3",
                 "fc", (2048, 23.8, 5.71, 104), see=_seen(299, 0.875, mean=_HALF, std=_HALF), least_size=96),
    _torchvision("mobilenet_v3_large", "MobileNetV3 Large", "mobilenet_v3_large-8738ca79.pth", "MobileNet_V3_Large",
                 "mobilenetv3_large_100", "classifier", (1280, 5.5, 0.22, 21), bn_eps=1e-3),
    _torchvision("mobilenet_v2", "MobileNetV2", "mobilenet_v2-b0353104.pth", "MobileNet_V2", "mobilenetv2_100",
                 "classifier", (1280, 3.5, 0.3, 14)),
    _torchvision("mobilenet_v3_small", "MobileNetV3 Small", "mobilenet_v3_small-047dcff4.pth", "MobileNet_V3_Small",
                 "mobilenetv3_small_100", "classifier", (1024, 2.5, 0.06, 10), bn_eps=1e-3),
    _torchvision("shufflenet_v2_x1_0", "ShuffleNetV2", "shufflenetv2_x1-5666bf0f80.pth", "ShuffleNet_V2_X1_0",
                 "shufflenet_v2_x1_0", "fc", (1024, 2.3, 0.145, 9), library="torchvision"),
    # Its classifier is a convolution before the pooling; here it is a linear layer after it, as everywhere.
    _torchvision("squeezenet1_1", "SqueezeNet", "squeezenet1_1-b8a52dc0.pth", "SqueezeNet1_1", "squeezenet1_1",
                 "classifier", (512, 1.2, 0.349, 5), library="torchvision"),
    _torchvision("vgg16_bn", "VGG-16", "vgg16_bn-6c64b313.pth", "VGG16_BN", "vgg16_bn", "head.fc",
                 (4096, 138.4, 15.5, 528)),
    Backbone(
        id="built_in", title="Built-in (ResNet-12)", source="embedded", weights="built_in.safetensors",
        weights_licence="see tl_core/models/weights/README.md: trained on research data sets",
        architecture="resnet10t", classifier="fc", width=512, params_millions=3.1, gflops=0.17, download_mb=0,
        hub_file="", preprocessing=_seen(128, 1.0),
        url="https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/resnet.py",
        model_args={"stem_width": 16, "block_reduce_first": 2, "layers": [1, 1, 2, 1], "channels": [48, 128, 256, 512]},
    ),
    Backbone(
        id="embedded", title="Built-in, older (ResNet-10)", source="embedded", weights="embedded.safetensors",
        weights_licence="see tl_core/models/weights/README.md: trained on research data sets",
        architecture="resnet10t", classifier="fc", width=512, params_millions=4.9, gflops=0.36, download_mb=0,
        hub_file="", preprocessing=_seen(128, 1.0),
        url="https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/resnet.py",
    ),
    _timm("dinov3_small", "DINOv3 ViT-S/16", "vit_small_patch16_dinov3.lvd1689m",
          "dinov3-license: Meta's own terms, https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
          "head", (384, 21.6, 6.25, 82), _seen(256, 1.0, "bicubic"), size_step=16, img_size=256),
    _timm("convnextv2_nano", "ConvNeXt V2 Nano", "convnextv2_nano.fcmae_ft_in22k_in1k",
          "cc-by-nc-4.0: not for commercial use", "head.fc", (640, 15.6, 2.45, 60), _seen(224, 0.875, "bicubic")),
)
# fmt: on
EMBEDDED = next(row for row in CATALOGUE if row.source == "embedded")


def find(backbone_id: str) -> Backbone:
    """The row called `backbone_id`, or one made for any network with weights that timm knows ("timm/<name>[.<tag>]").

    Asks no network; the second kind imports timm. Raises UnknownBackboneError with the closest name.
    """
    for row in CATALOGUE:
        if row.id == backbone_id:
            return row
    from tl_core.models import timm_rows  # imports torch, which the page starts without

    if (made := timm_rows.row(backbone_id)) is not None:
        return made
    known = [row.id for row in CATALOGUE]
    names = timm_rows.names() if backbone_id.startswith(timm_rows.PREFIXES) else known
    closest = difflib.get_close_matches(backbone_id[:100], names, n=1, cutoff=0.0)[0]
    raise UnknownBackboneError(name=backbone_id, closest=closest, known=", ".join(["auto", *known, "timm/..."]))
