"""Random artefacts for a batch of training images: shading, tools, writing and collimators.

Images run from 0 (open air) to 1 (darkest), coordinates from -1 to 1 across the image.
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
_FIELD_SIZE = (0.6, 1.1)  # half the side, or the radius
_COLLIMATOR_DETECTED = 0.7  # fraction of collimators whose outside is masked


def shading(height: int, width: int, random: RandomValues) -> Images:
    """Return heel effect and vignetting: a slope in a random direction plus a bowl, each from -1 to 1."""
    y, x = _grid(height, width, random)
    angle = random.uniform(0, 2 * math.pi)[:, None, None]
    bowl = random.uniform(-1, 1)[:, None, None]
    return 0.5 * (torch.cos(angle) * x + torch.sin(angle) * y) + 0.5 * bowl * (x * x + y * y - 1)


def add_tools(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """Add up to three rods of finite length to the `chosen` images, each about as dense as the densest bone."""
    y, x = _grid(images.shape[1], images.shape[2], random)
    for number in range(_MAXIMUM_TOOLS):
        centre_x, centre_y, angle = random.uniform(-0.9, 0.9), random.uniform(-0.9, 0.9), random.uniform(0, math.pi)
        length, radius = random.uniform(0.1, 1.2), random.log_uniform(*_TOOL_WIDTH)
        dx, dy = x - centre_x[:, None, None], y - centre_y[:, None, None]
        cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
        along, across = (dx * cosine + dy * sine).abs(), (dy * cosine - dx * sine).abs()
        pixel = 2 / images.shape[2]
        inside = _soft_edge(radius[:, None, None] - across, pixel) * _soft_edge(length[:, None, None] - along, pixel)
        present = chosen & random.bernoulli(1 - number / _MAXIMUM_TOOLS)
        images = images + (random.uniform(0.3, 1.0) * present)[:, None, None] * inside
    return images


def add_writing(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """Add a short row of random glyphs, white or black, near the upper or lower border of the `chosen` images."""
    batch, height, width = images.shape
    rows = min(_GLYPH_HEIGHT, height // 4)
    columns = min(_GLYPHS * (rows - 1), width // 2)
    dots = torch.rand(batch, rows, columns, generator=random.generator, device=images.device) < 0.5
    value = torch.where(random.bernoulli(0.5), 0.0, 1.0)
    top = torch.where(random.bernoulli(0.5), 1, height - rows - 1)
    left = random.uniform(1, width - columns - 1).long()
    row = (top[:, None] + torch.arange(rows, device=images.device))[:, :, None]
    column = (left[:, None] + torch.arange(columns, device=images.device))[:, None, :]
    index = (torch.arange(batch, device=images.device)[:, None, None], row, column)
    result = images.clone()
    result[index] = torch.where(dots & chosen[:, None, None], value[:, None, None], images[index])
    return result


def collimate(
    images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues
) -> tuple[Images, Bool[Tensor, "batch height width"]]:
    """Collimate the `chosen` images to a round or rectangular field, outside of which they are darkest.

    Returns:
        The images, and masks that exclude what is outside of those fields that count as detected.
    """
    y, x = _grid(images.shape[1], images.shape[2], random)
    centre_x, centre_y = random.uniform(-0.15, 0.15)[:, None, None], random.uniform(-0.15, 0.15)[:, None, None]
    half_width, half_height = (random.uniform(*_FIELD_SIZE)[:, None, None] for _ in range(2))
    angle = random.uniform(-0.3, 0.3)[:, None, None]
    dx, dy = x - centre_x, y - centre_y
    u, v = dx * torch.cos(angle) + dy * torch.sin(angle), dy * torch.cos(angle) - dx * torch.sin(angle)
    rectangle = ((u / half_width).abs() <= 1) & ((v / half_height).abs() <= 1)
    is_round = random.bernoulli(0.5)[:, None, None]
    field = torch.where(is_round, dx * dx + dy * dy <= half_width * half_width, rectangle) | ~chosen[:, None, None]
    detected = random.bernoulli(_COLLIMATOR_DETECTED)[:, None, None]
    return torch.where(field, images, images.amax((1, 2), keepdim=True)), field | ~detected


def _grid(height: int, width: int, random: RandomValues) -> tuple[Tensor, Tensor]:
    """Return the coordinates of rows and columns."""
    device = random.generator.device
    y = torch.linspace(-1, 1, height, device=device)[:, None]
    return y, torch.linspace(-1, 1, width, device=device)[None, :]


def _soft_edge(distance: Tensor, pixel: float) -> Tensor:
    """Return the fraction of a pixel inside an edge at a signed `distance`."""
    return (distance / pixel + 0.5).clamp(0, 1)
