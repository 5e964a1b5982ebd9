"""Backbones: networks that turn an image into a feature vector, behind one interface.

`small` is made for CPUs. It has a million parameters, does little work in the first layers, and pools to a 4 x 4 grid instead
of one mean, because the pose is visible in the positions of structures. The other backbones are MONAI's, which must be
installed to train or to use them (`pip install fluoro_reg[training]`).

All use group normalisation, as DiffPose does. A batch holds views of one patient and is not a representative sample, so the
statistics of batch normalisation would differ between training and inference.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.errors import InputError

GROUPS = 8


class ResidualBlock(nn.Module):
    """A residual block (K. He et al., CVPR 2016): two convolutions with a skip connection, the first with a stride."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels, stride)
        self.second = _convolution(channels, channels, 1)
        self.past = nn.Identity() if stride == 1 else nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(channels_in, channels, 1))

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d i j"]:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.past(x))


class SmallBackbone(nn.Module):
    """A backbone for images of 64 to 128 px; an image of 64 px takes 20 million multiplications."""

    CHANNELS = (16, 32, 64, 128)
    BLOCKS = (1, 2, 2)  # for each number of channels after the first
    FEATURES = 256
    GRID = 4

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(1, self.CHANNELS[0], 2), nn.ReLU()]
        for before, after, blocks in zip(self.CHANNELS[:-1], self.CHANNELS[1:], self.BLOCKS, strict=True):
            layers += [ResidualBlock(before, after, 2), *[ResidualBlock(after, after, 1) for _ in range(blocks - 1)]]
        self.trunk = nn.Sequential(*layers)
        self.grid = nn.AdaptiveAvgPool2d(self.GRID)
        self.mix = nn.Linear(self.CHANNELS[-1] * self.GRID**2, self.FEATURES)

    def forward(self, x: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch features"]:
        return torch.relu(self.mix(self.grid(self.trunk(x)).flatten(1)))


def _convolution(channels_in: int, channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False), nn.GroupNorm(min(GROUPS, channels), channels)
    )


def _small() -> tuple[nn.Module, int]:
    return SmallBackbone(), SmallBackbone.FEATURES


def _resnet(depth: int) -> Callable[[], tuple[nn.Module, int]]:
    def build() -> tuple[nn.Module, int]:
        make = getattr(_monai_networks(), f"resnet{depth}")
        return _with_group_norm(make(spatial_dims=2, n_input_channels=1, feed_forward=False, shortcut_type="B")), 512

    return build


def _densenet121() -> tuple[nn.Module, int]:
    return _with_group_norm(_monai_networks().DenseNet121(spatial_dims=2, in_channels=1, out_channels=256)), 256


def _efficientnet_b0() -> tuple[nn.Module, int]:
    make = _monai_networks().EfficientNetBN
    return _with_group_norm(make("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=1, num_classes=256)), 256


def _with_group_norm(network: nn.Module) -> nn.Module:
    """Replace batch normalisation in place; MONAI's own `norm` option does not reach every layer of every network."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(GROUPS, child.num_features))
    return network


def _monai_networks() -> Any:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise InputError("the network's backbone needs MONAI; install it with: pip install 'fluoro_reg[training]'") from error
    return nets


# Each entry returns a module (batch, 1, height, width) -> (batch, features) and the number of features.
BACKBONES: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "small": _small,
    "monai-resnet10": _resnet(10),
    "monai-resnet18": _resnet(18),
    "monai-resnet34": _resnet(34),
    "monai-densenet121": _densenet121,
    "monai-efficientnet-b0": _efficientnet_b0,
}
