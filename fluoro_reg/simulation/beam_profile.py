"""The intensity of the beam over the image: heel effect, vignetting, and a collimator that may leak and have a soft edge.

A real collimator is a set of lead blades near the tube. They let about 1 % of the beam through, so that the surroundings of the
field are dark but not empty. The focal spot blurs their edges, and the C-arm can turn and close them.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.simulation.options import SimulationOptions


def beam_profile(intrinsics: CameraIntrinsics, options: SimulationOptions) -> Float[Tensor, "height width"]:
    """Return the relative intensity of the beam, 1 where nothing weakens it."""
    y = torch.linspace(-1, 1, intrinsics.height)[:, None]
    x = torch.linspace(-1, 1, intrinsics.width)[None, :]
    shading = (1 - options.heel * (y + 1) / 2) * (1 - options.vignetting * (x * x + y * y) / 2)
    if options.collimator == "none":
        return shading
    radius = _radius(x, y, options)
    if options.collimator_edge_mm == 0:
        is_open = radius <= options.collimator_opening
        return shading * torch.where(is_open, 1.0, options.collimator_leak)
    pixel_mm = (intrinsics.source_to_detector_mm or intrinsics.fx) / intrinsics.fx
    half_width_mm = intrinsics.width * pixel_mm / 2
    inside_mm = (options.collimator_opening - radius) * half_width_mm
    passing = torch.sigmoid(4 * inside_mm / options.collimator_edge_mm)
    return shading * (options.collimator_leak + (1 - options.collimator_leak) * passing)


def _radius(x: Float[Tensor, "1 width"], y: Float[Tensor, "height 1"], options: SimulationOptions) -> Float[Tensor, "h w"]:
    """Return the size of the field of the collimator's shape that ends at each pixel, relative to the image."""
    centre_x, centre_y = options.collimator_centre
    tilt = math.radians(options.collimator_tilt_deg)
    right, down = x - centre_x, y - centre_y
    across = math.cos(tilt) * right + math.sin(tilt) * down
    along = (math.cos(tilt) * down - math.sin(tilt) * right) / options.collimator_aspect
    if options.collimator == "rectangle":
        return torch.maximum(across.abs(), along.abs())
    return (across * across + along * along).sqrt()
