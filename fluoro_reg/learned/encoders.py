"""The convolutional encoder of ProST, and the layers that all encoders of learned similarities share.

An encoder maps an image to an embedding, and a learned similarity compares two embeddings. Training differentiates the gradient
of the similarity with respect to the pose once more, so every layer needs useful second derivatives: SiLU instead of ReLU, mean
pooling instead of max pooling. Group normalisation replaces batch normalisation, because two images of one patient are not a
representative sample. The embedding describes the whole image, like that of the pose regressor and unlike ProST's grid of 16 x
16 places (C. Gao et al., IEEE TMI 43(1), 2024): the distance between two views shows in parts of the image that are far apart.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

NORM_GROUPS = 4
GRID = 6  # rows and columns of the feature grid that the embedding is computed from


class ImageEncoder(nn.Module):
    """A convolutional trunk and an embedding head."""

    def __init__(
        self, channels_in: int, channels: Sequence[int] = (16, 32, 64), embedding_size: int = 32, hidden: int = 256
    ) -> None:
        super().__init__()
        self.trunk = make_trunk(channels_in, channels)
        self.head = EmbeddingHead(channels[-1], embedding_size, hidden)

    def forward(self, images: Float[Tensor, "batch c height width"]) -> Float[Tensor, "batch embedding"]:
        return self.head(self.trunk(images))


class EmbeddingHead(nn.Module):
    """Maps a grid of features to an embedding: average pooling to `GRID` x `GRID` cells, and an MLP with one hidden layer."""

    def __init__(self, channels: int, embedding_size: int, hidden: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(GRID)
        self.mlp = nn.Sequential(nn.Linear(channels * GRID**2, hidden), nn.SiLU(), nn.Linear(hidden, embedding_size))

    def forward(self, features: Float[Tensor, "batch channels i j"]) -> Float[Tensor, "batch embedding"]:
        return self.mlp(self.pool(features).flatten(1))


def make_trunk(channels_in: int, channels: Sequence[int]) -> nn.Sequential:
    """Return a trunk with one stage for each entry of `channels`: a convolution that halves the image, and a residual block."""
    layers: list[nn.Module] = []
    for before, after in zip((channels_in, *channels), channels, strict=False):
        layers += [_convolution(before, after, stride=2), nn.SiLU(), SmoothResidualBlock(after)]
    return nn.Sequential(*layers)


class SmoothResidualBlock(nn.Module):
    """A residual block (K. He et al., CVPR 2016) with a smooth activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(_convolution(channels, channels), nn.SiLU(), _convolution(channels, channels))
        self.activation = nn.SiLU()

    def forward(self, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        return self.activation(x + self.residual(x))


def _convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False), nn.GroupNorm(NORM_GROUPS, channels)
    )
