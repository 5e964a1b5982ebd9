"""Volume preparation that the numba and Triton backends have in common."""

from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError


def reject_volume_gradient(volume: CTVolume, backend: str) -> None:
    """Reject a volume that requires a gradient: the backend's copy has no graph, so the volume would silently never change.

    Raises:
        InputError: the volume requires a gradient.
    """
    if volume.attenuation.requires_grad:
        raise InputError(
            f"the {backend} renderer has no gradient with respect to the volume; detach the volume or use the torch renderer"
        )


def occupied_bounds(attenuation: Tensor) -> tuple[list[int], list[int]]:
    """Return the bounding box of the voxels that are not air, [low, high) along (i, j, k).

    For a volume of air, it is the first voxel.
    """
    low, high = [0, 0, 0], [1, 1, 1]
    occupied = attenuation.detach() != 0
    for axis, (first, second) in enumerate(((0, 1), (0, 2), (1, 2))):
        indices = occupied.any(dim=second).any(dim=first).nonzero()
        if len(indices):
            low[axis], high[axis] = int(indices[0]), int(indices[-1]) + 1
    return low, high
