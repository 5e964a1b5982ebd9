"""What lies between the body and the network's eye: tools, writing, shading, the collimator. Drawn over a whole batch at once.

Images run from 0 (open air) to 1 (darkest); coordinates from -1 to 1 across the image.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.training.random_values import RandomValues

Images = Float[Tensor, "batch height width"]

_MAXIMUM_TOOLS = 3
_TOOL_WIDTH = (0.01, 0.05)
_GLYPHS, _GLYPH_HEIGHT = 4, 5
_SMALLEST_FIELD, _LARGEST_FIELD = 0.6, 1.1
_COLLIMATOR_FOUND = 0.7


def ramp(height: int, width: int, random: RandomValues) -> Images:
    """Heel effect and vignetting: a slope in a random direction and a bowl, each within -1 to 1."""
    y, x = _grid(height, width, random)
    angle = random.even(0, 2 * math.pi)[:, None, None]
    bowl = random.even(-1, 1)[:, None, None]
    return 0.5 * (torch.cos(angle) * x + torch.sin(angle) * y) + 0.5 * bowl * (x * x + y * y - 1)


def with_tools(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """Up to three rods that end somewhere, each one adding about what the darkest bone has."""
    y, x = _grid(images.shape[1], images.shape[2], random)
    for number in range(_MAXIMUM_TOOLS):
        centre_x, centre_y, angle = random.even(-0.9, 0.9), random.even(-0.9, 0.9), random.even(0, math.pi)
        length, radius = random.even(0.1, 1.2), random.log_uniform(*_TOOL_WIDTH)
        dx, dy = x - centre_x[:, None, None], y - centre_y[:, None, None]
        cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
        along, across = (dx * cosine + dy * sine).abs(), (dy * cosine - dx * sine).abs()
        pixel = 2 / images.shape[2]
        inside = _soft(radius[:, None, None] - across, pixel) * _soft(length[:, None, None] - along, pixel)
        there = chosen & random.happens(1 - number / _MAXIMUM_TOOLS)
        images = images + (random.even(0.3, 1.0) * there)[:, None, None] * inside
    return images


def with_writing(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """A short row of random glyphs, white or black, somewhere near the upper or lower border."""
    batch, height, width = images.shape
    rows = min(_GLYPH_HEIGHT, height // 4)
    columns = min(_GLYPHS * (rows - 1), width // 2)
    dots = torch.rand(batch, rows, columns, generator=random.generator, device=images.device) < 0.5
    value = torch.where(random.happens(0.5), 0.0, 1.0)
    top = torch.where(random.happens(0.5), 1, height - rows - 1)
    left = random.even(1, width - columns - 1).long()
    row = (top[:, None] + torch.arange(rows, device=images.device))[:, :, None]
    column = (left[:, None] + torch.arange(columns, device=images.device))[:, None, :]
    place = (torch.arange(batch, device=images.device)[:, None, None], row, column)
    written = images.clone()
    written[place] = torch.where(dots & chosen[:, None, None], value[:, None, None], images[place])
    return written


def collimated(
    images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues
) -> tuple[Images, Bool[Tensor, "batch height width"]]:
    """A round or square field; beyond it, the least light there is. Where the field was found, its outside is masked."""
    y, x = _grid(images.shape[1], images.shape[2], random)
    centre_x, centre_y = random.even(-0.15, 0.15)[:, None, None], random.even(-0.15, 0.15)[:, None, None]
    wide, high = (random.even(_SMALLEST_FIELD, _LARGEST_FIELD)[:, None, None] for _ in range(2))
    angle = random.even(-0.3, 0.3)[:, None, None]
    dx, dy = x - centre_x, y - centre_y
    u, v = dx * torch.cos(angle) + dy * torch.sin(angle), dy * torch.cos(angle) - dx * torch.sin(angle)
    square = ((u / wide).abs() <= 1) & ((v / high).abs() <= 1)
    is_round = random.happens(0.5)[:, None, None]
    opening = torch.where(is_round, dx * dx + dy * dy <= wide * wide, square) | ~chosen[:, None, None]
    found = random.happens(_COLLIMATOR_FOUND)[:, None, None]
    return torch.where(opening, images, images.amax((1, 2), keepdim=True)), opening | ~found


def _grid(height: int, width: int, random: RandomValues) -> tuple[Tensor, Tensor]:
    device = random.generator.device
    y = torch.linspace(-1, 1, height, device=device)[:, None]
    return y, torch.linspace(-1, 1, width, device=device)[None, :]


def _soft(distance: Tensor, pixel: float) -> Tensor:
    """How much of a pixel lies inside an edge that far away."""
    return (distance / pixel + 0.5).clamp(0, 1)
