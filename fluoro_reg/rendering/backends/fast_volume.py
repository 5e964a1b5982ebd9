"""What the fast backends share of the way from a CT to their own copy of it."""

from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError


def refuse_volume_gradient(volume: CTVolume, backend: str) -> None:
    """A copy has no graph: a volume to be optimised would silently stay as it was.

    Raises:
        InputError: the volume requires a gradient.
    """
    if volume.attenuation.requires_grad:
        raise InputError(f"the {backend} renderer has no gradient to the volume; detach the volume or use the torch renderer")


def air_box(attenuation: Tensor) -> tuple[list[int], list[int]]:
    """The tight box of voxels that are not air, [low, high) along (i, j, k); of a volume of air, its first voxel."""
    low, high = [0, 0, 0], [1, 1, 1]
    filled = attenuation.detach() != 0
    for axis, (first, second) in enumerate(((0, 1), (0, 2), (1, 2))):
        hit = filled.any(dim=second).any(dim=first).nonzero()
        if len(hit):
            low[axis], high[axis] = int(hit[0]), int(hit[-1]) + 1
    return low, high
