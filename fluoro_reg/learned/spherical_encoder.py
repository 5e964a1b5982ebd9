"""The encoder of the spherical similarity: convolutions, self-attention among the cells of the feature grid, an embedding head.

A convolution captures the position of a contour within its cell. A rotation of the whole body or a change of its depth shows
only in cells that are far apart, which attention compares. Every layer can be differentiated twice, in forward and in backward
mode. Attention and layer normalisation are written out, because torch's fused kernels cannot be differentiated twice or give
wrong derivatives.

CNN and transformer as in M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, which gives no sizes; A. Vaswani et al., NeurIPS
2017, with pre-normalisation (R. Xiong et al., ICML 2020).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.learned.encoders import EmbeddingHead, make_trunk

CHANNELS = (16, 32, 64)  # each stage halves the image
HIDDEN = 256
_EPSILON = 1e-5
POSITION_BASE = 100.0  # the wavelengths of the positional encoding run from 2 pi cells to this many times as long


class SphericalEncoder(nn.Module):
    """Maps an image to an embedding of any length; the metric normalises it."""

    def __init__(self, embedding_size: int = 32, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(make_trunk(1, CHANNELS), nn.Conv2d(CHANNELS[-1], width, 1))
        self.blocks = nn.Sequential(*[AttentionBlock(width, heads) for _ in range(layers)])
        self.norm = LayerNorm(width)
        self.head = EmbeddingHead(width, embedding_size, HIDDEN)

    def forward(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch embedding"]:
        return self.head(self.features(images))

    def features(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch channels i j"]:
        """Return the feature grid after attention, an eighth of the image's size."""
        grid = self.stem(images)
        tokens = (grid + positional_encoding(*grid.shape[1:]).to(grid)).flatten(2).mT
        return self.norm(self.blocks(tokens)).mT.unflatten(-1, grid.shape[2:])


class AttentionBlock(nn.Module):
    """A pre-norm transformer block: multi-head self-attention and an MLP, each with a skip connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = LayerNorm(width), LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Float[Tensor, "batch cells width"]) -> Float[Tensor, "batch cells width"]:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def attention(self, tokens: Float[Tensor, "batch cells width"]) -> Float[Tensor, "batch cells width"]:
        """Return the projected output of multi-head self-attention."""
        by_head = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).movedim(1, -2)
        query, key, value = by_head.unbind(1)
        weights = torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1)
        return self.proj((weights @ value).movedim(1, 2).flatten(2))


class LayerNorm(nn.Module):
    """Layer normalisation (J. L. Ba et al., 2016), written out.

    When torch's own is differentiated in forward mode, the weights before it get a wrong gradient (seen with torch 2.13; the
    test of this encoder shows it).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        centred = tokens - tokens.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + _EPSILON).rsqrt() * self.weight + self.bias


def positional_encoding(width: int, rows: int, columns: int) -> Float[Tensor, "width rows columns"]:
    """Return sines and cosines of row and column, each for a quarter of the `width` channels."""
    rate = POSITION_BASE ** -(torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    phases = [rate[:, None, None] * position for position in (row, column)]
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)])
