"""Random artefacts for a batch of training images: missing tissue, couch, tools, shading, collimators and writing.

Images are line integrals, except those of `add_writing`. Coordinates run from -1 to 1 across the image.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from fluoro_reg.training.random_values import RandomValues

Images = Float[Tensor, "batch height width"]

_MAXIMUM_TOOLS = 3
_TOOL_WIDTH = (0.01, 0.05)
_GLYPHS, _GLYPH_HEIGHT = 4, 5
_TOOL_INTEGRAL = (0.3, 4.0)  # 3 mm of steel and more
_BACKGROUND_GRIDS, _BACKGROUND_INTEGRAL = (4, 9), (0.2, 3.0)  # 10 to 150 mm of water
_OUTLINE_WIDTH = (0.05, 1.0)  # over which the body becomes thick
_COUCH_INTEGRAL, _RIM_INTEGRAL, _RIM_WIDTH = (0.05, 0.4), (0.1, 0.8), (0.02, 0.06)
_FIELD_SIZE = (0.45, 1.1)  # half the side, or the radius
_FIELD_EDGE = (0.01, 0.06)  # width over which the beam falls
_LEAK = (0.002, 0.03)  # fraction of the beam that passes the collimator
_COLLIMATOR_DETECTED = 0.85  # fraction of collimators whose outside is masked


def shading(height: int, width: int, random: RandomValues) -> Images:
    """Return heel effect and vignetting: a slope in a random direction plus a bowl, each from -1 to 1."""
    y, x = _grid(height, width, random)
    angle = random.uniform(0, 2 * math.pi)[:, None, None]
    bowl = random.uniform(-1, 1)[:, None, None]
    return 0.5 * (torch.cos(angle) * x + torch.sin(angle) * y) + 0.5 * bowl * (x * x + y * y - 1)


def add_tools(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """Add up to three rods of finite length to the `chosen` images."""
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
        images = images + (random.log_uniform(*_TOOL_INTEGRAL) * present)[:, None, None] * inside
    return images


def add_background(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """Add tissue that the CT lacks to the `chosen` images; its outline may be in the image."""
    y, x = _grid(images.shape[1], images.shape[2], random)
    grids = [random.normal(size, size).sigmoid()[:, None] for size in _BACKGROUND_GRIDS]
    coarse, fine = (interpolate(grid, size=images.shape[1:], mode="bicubic")[:, 0].clamp_min(0) for grid in grids)
    tissue = 1 + coarse + random.uniform(0, 0.5)[:, None, None] * fine
    angle = random.uniform(0, 2 * math.pi)[:, None, None]
    outline = random.uniform(0.2, 2.0)[:, None, None] - (x * torch.cos(angle) + y * torch.sin(angle))
    width = random.log_uniform(*_OUTLINE_WIDTH)[:, None, None]
    body = (outline / width).clamp(0, 1).sqrt()  # thin at its outline, as a cylinder is
    return images + (random.log_uniform(*_BACKGROUND_INTEGRAL) * chosen)[:, None, None] * tissue * body


def add_couch(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """Add a couch to the `chosen` images: a wide band with straight, denser rims and perhaps an end."""
    y, x = _grid(images.shape[1], images.shape[2], random)
    angle = (random.uniform(-0.3, 0.3) + math.pi / 2 * random.bernoulli(0.3))[:, None, None]
    across, along = x * torch.cos(angle) + y * torch.sin(angle), y * torch.cos(angle) - x * torch.sin(angle)
    centre, half_width = random.uniform(-0.8, 0.8)[:, None, None], random.uniform(0.4, 1.2)[:, None, None]
    end = torch.where(random.bernoulli(0.4), random.uniform(-0.8, 0.8), -3.0)[:, None, None]
    inside = torch.minimum(half_width - (across - centre).abs(), along - end)
    pixel, rim = 2 / images.shape[2], random.uniform(*_RIM_WIDTH)[:, None, None]
    top, edge = (random.uniform(*limits)[:, None, None] for limits in (_COUCH_INTEGRAL, _RIM_INTEGRAL))
    covered = _soft_edge(inside, pixel)
    couch = top * covered + edge * (covered - _soft_edge(inside - rim, pixel))
    return images + chosen[:, None, None] * couch


def add_writing(images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues) -> Images:
    """Add a short row of random glyphs, white or black, near a border of the `chosen` images, which run from 0 to 1."""
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


def collimator(
    images: Images, chosen: Bool[Tensor, "batch"], random: RandomValues
) -> tuple[Images, Bool[Tensor, "batch height width"]]:
    """Return the fraction of the beam that passes round or rectangular collimators of the `chosen` images.

    Returns:
        The fractions, and masks that exclude what is outside of those fields that count as detected.
    """
    y, x = _grid(images.shape[1], images.shape[2], random)
    centre_x, centre_y = random.uniform(-0.2, 0.2)[:, None, None], random.uniform(-0.2, 0.2)[:, None, None]
    half_width, half_height = (random.uniform(*_FIELD_SIZE)[:, None, None] for _ in range(2))
    angle = random.uniform(-0.45, 0.45)[:, None, None]
    dx, dy = x - centre_x, y - centre_y
    u, v = dx * torch.cos(angle) + dy * torch.sin(angle), dy * torch.cos(angle) - dx * torch.sin(angle)
    in_rectangle = torch.minimum(half_width - u.abs(), half_height - v.abs())
    in_circle = half_width - (dx * dx + dy * dy).sqrt()
    inside = torch.where(random.bernoulli(0.5)[:, None, None], in_circle, in_rectangle)
    leak = random.log_uniform(*_LEAK)[:, None, None]
    passing = leak + (1 - leak) * torch.sigmoid(4 * inside / random.log_uniform(*_FIELD_EDGE)[:, None, None])
    uncollimated = ~chosen[:, None, None]
    detected = random.bernoulli(_COLLIMATOR_DETECTED)[:, None, None]
    return torch.where(uncollimated, 1.0, passing), (inside >= 0) | uncollimated | ~detected


def _grid(height: int, width: int, random: RandomValues) -> tuple[Tensor, Tensor]:
    """Return the coordinates of rows and columns."""
    device = random.generator.device
    y = torch.linspace(-1, 1, height, device=device)[:, None]
    return y, torch.linspace(-1, 1, width, device=device)[None, :]


def _soft_edge(distance: Tensor, pixel: float) -> Tensor:
    """Return the fraction of a pixel inside an edge at a signed `distance`."""
    return (distance / pixel + 0.5).clamp(0, 1)
