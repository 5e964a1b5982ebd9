"""From an image to a row of numbers, smoothly: what a learned similarity compares.

The gradient of the similarity to the pose is itself differentiated in training, so every layer has second derivatives that say
something: no kinks, no maxima. Groups of channels are normalised and not batches: two images of one patient are no sample of
anything. The numbers belong to the whole image, like those of the pose regressor and unlike ProST's grid of 16 x 16 places
(C. Gao et al., IEEE TMI 43(1), 2024): how far two views are apart is told by what happens far apart in the image.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

GROUPS = 4
PLACES = 6  # rows and columns of the grid that is mixed into the numbers


class ImageEncoder(nn.Module):
    """A trunk of convolutions, then a mixture of its places."""

    def __init__(self, channels_in: int, channels: Sequence[int] = (16, 32, 64), numbers: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.trunk = trunk(channels_in, channels)
        self.mixture = Mixture(channels[-1], numbers, hidden)

    def forward(self, images: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch numbers"]:
        return self.mixture(self.trunk(images))


class Mixture(nn.Module):
    """All places of a grid of features, mixed: one hidden layer."""

    def __init__(self, channels: int, numbers: int, hidden: int) -> None:
        super().__init__()
        self.places = nn.AdaptiveAvgPool2d(PLACES)
        self.mix = nn.Sequential(nn.Linear(channels * PLACES**2, hidden), nn.SiLU(), nn.Linear(hidden, numbers))

    def forward(self, grid: Float[Tensor, "batch channels i j"]) -> Float[Tensor, "batch numbers"]:
        return self.mix(self.places(grid).flatten(1))


def trunk(channels_in: int, channels: Sequence[int]) -> nn.Sequential:
    """Each entry of `channels` halves the image: a convolution with a stride, and a residual block."""
    layers: list[nn.Module] = []
    for before, after in zip((channels_in, *channels), channels, strict=False):
        layers += [_convolution(before, after, stride=2), nn.SiLU(), SmoothResidual(after)]
    return nn.Sequential(*layers)


class SmoothResidual(nn.Module):
    """Two convolutions and a way past them (K. He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(_convolution(channels, channels), nn.SiLU(), _convolution(channels, channels))
        self.after = nn.SiLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        return self.after(x + self.change(x))


def _convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False), nn.GroupNorm(GROUPS, channels))
