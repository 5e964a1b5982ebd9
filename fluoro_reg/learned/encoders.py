"""From an image to a small grid of features, smoothly: what a learned similarity compares.

The gradient of the similarity to the pose is itself differentiated in training, so every layer has second derivatives that say
something: no kinks, and means instead of maxima where the image shrinks. Groups of channels are normalised and not batches: two
images of one patient are no sample of anything. The layers are those of ProST's encoders (C. Gao et al., IEEE TMI 43(1), 2024),
with fewer channels.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

GROUPS = 4


class ImageEncoder(nn.Module):
    """Each entry of `channels` is a convolution, a residual block and a halving; a last convolution makes the embedding.

    Moving and fixed image have an encoder each, with weights of its own: they look nothing alike.
    """

    def __init__(self, channels_in: int, channels: Sequence[int] = (16, 32, 64), embedding: int = 32) -> None:
        super().__init__()
        self.embedding, self.shrinks = embedding, 2 ** len(channels)
        layers: list[nn.Module] = []
        for before, after in zip((channels_in, *channels), channels, strict=False):
            layers += [_convolution(before, after), nn.SiLU(), SmoothResidual(after), nn.AvgPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], embedding, 3, padding=1))

    def forward(self, images: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch embedding i j"]:
        """Height and width are divided by `shrinks`, a remainder is dropped."""
        return self.layers(images)


class SmoothResidual(nn.Module):
    """Two convolutions and a way past them (K. He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(_convolution(channels, channels), nn.SiLU(), _convolution(channels, channels))
        self.after = nn.SiLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        return self.after(x + self.change(x))


def _convolution(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, channels))
