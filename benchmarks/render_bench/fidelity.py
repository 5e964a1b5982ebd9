"""Agreement of the contenders' images with ours, and their accuracy.

A peer is comparable if the rms difference between its image and ours is below that caused by moving ours, along rows and
columns, by a quarter of a pixel, or of a voxel if that is larger. A camera that is half a pixel off, flipped or scaled fails
this test. Image errors are rms differences from the exact integrals, relative to their range.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import retract
from render_bench.contenders import Contender
from render_bench.oracle import in_patient_axes
from render_bench.scene import SOURCE_TO_CENTRE_MM, SOURCE_TO_DETECTOR_MM, Scene


@dataclass(frozen=True)
class Agreement:
    """The agreement of a peer's image with ours; differences are rms relative to our image's range."""

    correlation: float
    difference: float
    allowed: float

    @property
    def comparable(self) -> bool:
        return self.difference < self.allowed


def image_of(contender: Contender) -> Float[Tensor, "height width"]:
    """Return the scene's view, in float64 on the CPU."""
    with torch.no_grad():
        return contender.images(contender.scene.poses(1))[0].cpu().double()


def agreement(peer: Contender, ours: Contender) -> Agreement:
    image, expected = image_of(peer), image_of(ours)
    correlation = torch.corrcoef(torch.stack([image.flatten(), expected.flatten()]))[0, 1]
    moved = ours.images(retract(ours.scene.poses(1), _quarter_shift(ours.scene), ours.scene.pivot))[0].cpu().double()
    return Agreement(float(correlation), relative_rms(image, expected), relative_rms(moved, expected))


def relative_rms(values: Tensor, expected: Tensor) -> float:
    """Return the rms difference, relative to the range of the expected values."""
    return float((values - expected).square().mean().sqrt() / (expected.max() - expected.min()))


def image_error(contender: Contender, pixels: Float[Tensor, "n 2"], exact: Float[Tensor, "n"]) -> float:
    u, v = pixels.long().unbind(-1)
    return relative_rms(image_of(contender)[v, u], exact)


def _quarter_shift(scene: Scene) -> Float[Tensor, "6"]:
    pixel_mm = SOURCE_TO_DETECTOR_MM / scene.camera.fx * SOURCE_TO_CENTRE_MM / SOURCE_TO_DETECTOR_MM
    shift = max(pixel_mm, *scene.volume.voxel_size_mm) / 4
    return in_patient_axes(scene, torch.tensor([[shift, shift, 0, 0, 0, 0]], dtype=torch.float64))[0]
