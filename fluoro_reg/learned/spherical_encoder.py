"""Convolutions to a grid of cells, then attention among the cells: features of a place that know of all the others.

A convolution sees how a contour lies in its cell; whether the whole has turned or come nearer is told by cells far apart. DRR
and X-ray go through the same weights, so both must come through `network_input`, and equal images have equal features. Every
layer can be differentiated twice, and forwards as well as backwards: attention is written out, since torch's fused kernels
cannot.

Layers: CNN and transformer as in M. Chen and Y. Kong, WACV 2026, arXiv 2509.06890, which tells no sizes; A. Vaswani et al.,
NeurIPS 2017, with normalisation before each part (R. Xiong et al., ICML 2020).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluoro_reg.learned.encoders import ImageEncoder

CHANNELS = (8, 24, 48)  # each halves the image
LONGEST_WAVE = 100.0  # cells; positions are told apart by waves from about six cells to so many times that


class SphericalEncoder(nn.Module):
    """Images of 64 px give 8 x 8 cells of `embedding` numbers, which need not have length 1: `SphericalMetric` sees to that."""

    def __init__(self, embedding: int = 32, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.cells = ImageEncoder(1, CHANNELS, width)
        self.attention = nn.Sequential(*[AttentionBlock(width, heads) for _ in range(layers)])
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embedding))
        self.embedding, self.shrinks = embedding, self.cells.shrinks

    def forward(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch embedding i j"]:
        """Height and width are divided by `shrinks`."""
        grid = self.cells(images)
        tokens = (grid + positions(*grid.shape[1:]).to(grid)).flatten(2).mT
        return self.project(self.attention(tokens)).mT.unflatten(-1, grid.shape[2:])


class AttentionBlock(nn.Module):
    """Each cell asks all cells, then thinks by itself; both are added to what it was."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_asking, self.before_thinking = nn.LayerNorm(width), nn.LayerNorm(width)
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


def positions(width: int, rows: int, columns: int) -> Float[Tensor, "width rows columns"]:
    """Sines and cosines of row and column, a quarter of `width` each."""
    rate = LONGEST_WAVE ** -(torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    phases = [rate[:, None, None] * at for at in (row, column)]
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)])
