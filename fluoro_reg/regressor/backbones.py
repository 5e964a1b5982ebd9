"""Backbones: from an image to a row of features. One interface, so that the rest knows no architecture.

`small` is our own, for a CPU: a million parameters, the least work in the first layers, and an end that keeps a 4 x 4 grid of
places instead of one mean, because where things are is what is asked. The others are MONAI's, which must be installed to train
or to use them (`pip install fluoro_reg[training]`).

All normalise by groups of channels, as DiffPose does: a batch of views of one patient is no sample of anything, so statistics
over it would differ between training and use.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.errors import InputError

GROUPS = 8


class ResidualBlock(nn.Module):
    """Two convolutions and a way past them (K. He et al., CVPR 2016); halves the image where channels grow."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels, stride)
        self.second = _convolution(channels, channels, 1)
        self.past = nn.Identity() if stride == 1 else nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(channels_in, channels, 1))

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch d i j"]:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.past(x))


class SmallBackbone(nn.Module):
    """For images of 64 to 128 px: 20 million multiplications for an image of 64."""

    CHANNELS = (16, 32, 64, 128)
    BLOCKS = (1, 2, 2)  # to each number of channels after the first
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
        make = getattr(_monai(), f"resnet{depth}")
        return _by_groups(make(spatial_dims=2, n_input_channels=1, feed_forward=False, shortcut_type="B")), 512

    return build


def _densenet121() -> tuple[nn.Module, int]:
    return _by_groups(_monai().DenseNet121(spatial_dims=2, in_channels=1, out_channels=256)), 256


def _efficientnet_b0() -> tuple[nn.Module, int]:
    make = _monai().EfficientNetBN
    return _by_groups(make("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=1, num_classes=256)), 256


def _by_groups(network: nn.Module) -> nn.Module:
    """Batch normalisation replaced, wherever it is: MONAI's own `norm` does not reach every layer of every network."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(GROUPS, child.num_features))
    return network


def _monai() -> Any:
    try:
        from monai.networks import nets
    except ImportError as error:
        raise InputError("this network's backbone is MONAI's; install it by: pip install 'fluoro_reg[training]'") from error
    return nets


# Each makes a module (batch, 1, height, width) -> (batch, features), and says how many features there are.
BACKBONES: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "small": _small,
    "monai-resnet10": _resnet(10),
    "monai-resnet18": _resnet(18),
    "monai-resnet34": _resnet(34),
    "monai-densenet121": _densenet121,
    "monai-efficientnet-b0": _efficientnet_b0,
}
