"""torchvision's names of layers as timm's, for networks in which the two libraries order their layers differently.

Each architecture (timm's name) has patterns: the first that fits a whole name decides. Names that no pattern fits stay
as they are, and architectures that are not here share all their names or their order of layers (`backbone.py`).
"""

import re

_Patterns = tuple[tuple[str, str], ...]
_LAYER = r"encoder\.layers\.encoder_layer_(\d+)\."

_VIT: _Patterns = (
    (r"class_token", r"cls_token"),
    (r"encoder\.pos_embedding", r"pos_embed"),
    (r"conv_proj\.(\w+)", r"patch_embed.proj.\1"),
    (_LAYER + r"ln_([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
    (_LAYER + r"self_attention\.in_proj_(\w+)", r"blocks.\1.attn.qkv.\2"),
    (_LAYER + r"self_attention\.out_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    # "linear_1" is what the published file says, "0" what torchvision saves today.
    (_LAYER + r"mlp\.(?:0|linear_1)\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
    (_LAYER + r"mlp\.(?:3|linear_2)\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
    (r"encoder\.ln\.(\w+)", r"norm.\1"),
)


def _swin_stage(i: int) -> _Patterns:
    stage = rf"features\.{2 * i + 1}\.(\d+)\."
    return (
        (stage + r"mlp\.0\.(\w+)", rf"layers.{i}.blocks.\1.mlp.fc1.\2"),
        (stage + r"mlp\.3\.(\w+)", rf"layers.{i}.blocks.\1.mlp.fc2.\2"),
        (stage + r"(.+)", rf"layers.{i}.blocks.\1.\2"),
        # torchvision merges patches between two stages, timm at the start of the second.
        (rf"features\.{2 * i + 2}\.(.+)", rf"layers.{i + 1}.downsample.\1"),
    )


_SWIN: _Patterns = (
    (r"features\.0\.0\.(\w+)", r"patch_embed.proj.\1"),
    (r"features\.0\.2\.(\w+)", r"patch_embed.norm.\1"),
    *_swin_stage(0),
    *_swin_stage(1),
    *_swin_stage(2),
    *_swin_stage(3),
)
# torchvision counts blocks from 0 and timm from 1: "+" after a number stands for the next one.
_BLOCK = r"trunk_output\.block(\d)\.block\d-(\d+)\."
_REGNET: _Patterns = (
    (r"stem\.0\.(\w+)", r"stem.conv.\1"),
    (r"stem\.1\.(\w+)", r"stem.bn.\1"),
    (_BLOCK + r"proj\.0\.(\w+)", r"s\1.b\2+.downsample.conv.\3"),
    (_BLOCK + r"proj\.1\.(\w+)", r"s\1.b\2+.downsample.bn.\3"),
    (_BLOCK + r"f\.a\.0\.(\w+)", r"s\1.b\2+.conv1.conv.\3"),
    (_BLOCK + r"f\.a\.1\.(\w+)", r"s\1.b\2+.conv1.bn.\3"),
    (_BLOCK + r"f\.b\.0\.(\w+)", r"s\1.b\2+.conv2.conv.\3"),
    (_BLOCK + r"f\.b\.1\.(\w+)", r"s\1.b\2+.conv2.bn.\3"),
    (_BLOCK + r"f\.se\.(.+)", r"s\1.b\2+.se.\3"),
    (_BLOCK + r"f\.c\.0\.(\w+)", r"s\1.b\2+.conv3.conv.\3"),
    (_BLOCK + r"f\.c\.1\.(\w+)", r"s\1.b\2+.conv3.bn.\3"),
)
_RENAMES: dict[str, _Patterns] = {
    "vit_base_patch16_224": _VIT,
    "swin_tiny_patch4_window7_224": _SWIN,
    "regnety_004": _REGNET,
}


def timm_name(name: str, architecture: str) -> str:
    """What timm calls the parameter or buffer that torchvision calls `name` in its twin of `architecture`."""
    for pattern, replacement in _RENAMES.get(architecture, ()):
        if (found := re.fullmatch(pattern, name)) is not None:
            return re.sub(r"(\d+)\+", _next, found.expand(replacement))
    return name


def _next(count: re.Match[str]) -> str:
    return str(int(count[1]) + 1)
