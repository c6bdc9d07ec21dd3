"""The ImageNet networks whose features the embedded backbone learns to predict. Their weights are never shipped."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalised(crops: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 -> float32 as all networks here want them, on the same device."""
    mean, std = (torch.tensor(value, device=crops.device).view(1, 3, 1, 1) for value in (MEAN, STD))
    return (crops.float() / 255 - mean) / std


@dataclass(frozen=True)
class Targets:
    """What the student should predict for a batch of N crops."""

    squeeze: Tensor  # (N, 512) pooled features of SqueezeNet 1.1
    squeeze_map: Tensor  # (N, 512, h, w) the same before pooling, at stride 16
    logits: Tensor  # (N, 1000) ImageNet logits of SqueezeNet 1.1
    mobile: Tensor  # (N, 1280) pooled features of MobileNetV2


class Teachers(nn.Module):
    """Both teachers as one module: (N, 3, H, W) normalised RGB -> the four tensors of `Targets`."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.squeezenet = torchvision.models.squeezenet1_1()
        self.squeezenet.load_state_dict(load_file(weights / "squeezenet1_1.torchvision-keys.safetensors"))
        self.mobilenet = torchvision.models.mobilenet_v2()
        # The ONNX model zoo's MobileNetV2 expands in its first bottleneck too, unlike torchvision's.
        block = self.mobilenet.features[1].conv
        expand = Conv2dNormActivation(32, 32, kernel_size=1, activation_layer=nn.ReLU6)
        self.mobilenet.features[1].conv = nn.Sequential(expand, *block.children())
        self.mobilenet.classifier = nn.Identity()
        self.mobilenet.load_state_dict(load_file(weights / "mobilenet_v2.onnx-zoo.safetensors"))
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = self.squeezenet.features(pictures)
        logits = F.relu(self.squeezenet.classifier[1](maps)).mean((2, 3))
        return maps.mean((2, 3)), maps, logits, self.mobilenet(pictures)


class Teaching:
    """Runs the teachers in the fastest engine at hand: OpenVINO on a CPU, bf16 PyTorch on a GPU."""

    def __init__(self, weights: Path, *, size: int, device: torch.device) -> None:
        self.device, self.model = device, Teachers(weights).to(device)
        self.engine = None
        if device.type == "cpu":
            import openvino as ov

            core = ov.Core()
            # Not pinned: the processes of a run would all be pinned to the same core, and two be a third as fast.
            core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False})
            converted = ov.convert_model(self.model, example_input=torch.zeros(2, 3, size, size))
            self.engine = core.compile_model(converted, "CPU")

    def __call__(self, pictures: Tensor) -> Targets:
        if self.engine is not None:
            out = self.engine(pictures.numpy())
            return Targets(*(torch.from_numpy(out[i]) for i in range(4)))
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            return Targets(*(t.float() for t in self.model(pictures)))
