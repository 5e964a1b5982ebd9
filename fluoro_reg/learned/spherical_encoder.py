"""Convolutions to a grid of cells, attention among the cells, then a mixture of all.

A convolution sees how a contour lies in its cell; whether the whole has turned or come nearer is told by cells far apart. Every
layer can be differentiated twice, and forwards as well as backwards: attention and normalisation are written out, since torch's
fused kernels cannot, or not rightly.

Layers: CNN and transformer as in M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, which tells no sizes; A. Vaswani et al.,
NeurIPS 2017, with normalisation before each part (R. Xiong et al., ICML 2020).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.learned.encoders import Mixture, trunk

CHANNELS = (16, 32, 64)  # each halves the image
HIDDEN = 256
_NO_SPREAD = 1e-5
LONGEST_WAVE = 100.0  # cells; positions are told apart by waves from about six cells to so many times that


class SphericalEncoder(nn.Module):
    """`numbers` of an image, which need not have length 1: the metric sees to that."""

    def __init__(self, numbers: int = 32, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.cells = nn.Sequential(trunk(1, CHANNELS), nn.Conv2d(CHANNELS[-1], width, 1))
        self.attention = nn.Sequential(*[AttentionBlock(width, heads) for _ in range(layers)])
        self.norm = CellNorm(width)
        self.mixture = Mixture(width, numbers, HIDDEN)

    def forward(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch numbers"]:
        return self.mixture(self.attended(images))

    def attended(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch channels i j"]:
        """The cells, an eighth as fine as the image, after they have heard of each other."""
        grid = self.cells(images)
        tokens = (grid + positions(*grid.shape[1:]).to(grid)).flatten(2).mT
        return self.norm(self.attention(tokens)).mT.unflatten(-1, grid.shape[2:])


class AttentionBlock(nn.Module):
    """Each cell asks all cells, then thinks by itself; both are added to what it was."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_asking, self.before_thinking = CellNorm(width), CellNorm(width)
        self.asked, self.answered = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Float[Tensor, "batch cells width"]) -> Float[Tensor, "batch cells width"]:
        tokens = tokens + self.answered(self._heard(self.before_asking(tokens)))
        return tokens + self.think(self.before_thinking(tokens))

    def _heard(self, tokens: Float[Tensor, "batch cells width"]) -> Float[Tensor, "batch cells width"]:
        by_head = self.asked(tokens).unflatten(-1, (3, self.heads, -1)).movedim(1, -2)
        query, key, value = by_head.unbind(1)
        share = torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, dim=-1)
        return (share @ value).movedim(1, 2).flatten(2)


class CellNorm(nn.Module):
    """Layer normalisation (J. L. Ba et al., 2016), written out: differentiated forwards, torch's own teaches the weights before
    it a wrong gradient (seen with torch 2.13; the test of this encoder shows it).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        centred = tokens - tokens.mean(-1, keepdim=True)
        return centred * (centred.square().mean(-1, keepdim=True) + _NO_SPREAD).rsqrt() * self.weight + self.bias


def positions(width: int, rows: int, columns: int) -> Float[Tensor, "width rows columns"]:
    """Sines and cosines of row and column, a quarter of `width` each."""
    rate = LONGEST_WAVE ** -(torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    phases = [rate[:, None, None] * at for at in (row, column)]
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)])
