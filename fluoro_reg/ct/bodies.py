"""The bodies of a CT: bones that move on their own, cut out of it by their labels, and the rest.

A bone displaces soft tissue. Its volume is therefore what it attenuates beyond soft tissue, and the rest of the CT holds soft
tissue in its place: when the bone moves, it leaves no hole. At the pose of the CT, all parts add up to it exactly.

Voxels at the surface of a bone are only partly bone, and segmentations often leave them out. A body takes those next to it that
nobody claims; otherwise its outline would stay behind as a ghost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int32
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.hu_thresholds import SOFT_TISSUE_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError


def split_bodies(
    ct: CTVolume, labels: Int32[Tensor, "slices rows columns"], bodies: Mapping[str, Sequence[int]]
) -> tuple[CTVolume, dict[str, CTVolume]]:
    """The rest of a CT and the volume of every body, each cropped to its box with one voxel of air around it.

    Where a body reaches a face of the CT, its volume ends there, too.

    Args:
        ct: The CT.
        labels: The label of each of its voxels.
        bodies: The labels of each body, by its name.

    Raises:
        InputError: Two bodies share a label, or a body has no voxels or nothing denser than soft tissue.
    """
    soft = attenuation_of_tissue(SOFT_TISSUE_HU)
    rest, volumes = ct.attenuation.clone(), dict[str, CTVolume]()
    for name, mask in body_masks(labels, bodies).items():
        excess = torch.where(mask, (ct.attenuation - soft).clamp_min(0.0), 0.0)
        if not bool((excess > 0).any()):
            raise InputError(f"the body {name} is nowhere denser than soft tissue; give the labels of a bone")
        rest -= excess
        volumes[name] = cropped(replace(ct, attenuation=excess))
    return replace(ct, attenuation=rest), volumes


def body_masks(
    labels: Int32[Tensor, "slices rows columns"], bodies: Mapping[str, Sequence[int]]
) -> dict[str, Bool[Tensor, "slices rows columns"]]:
    """The voxels of each body, grown by one voxel where no label claims the neighbour; the first body takes what two want.

    Raises:
        InputError: Two bodies share a label, or a body has no voxels.
    """
    owners: dict[int, str] = {}
    for name, numbers in bodies.items():
        for number in numbers:
            if owners.setdefault(number, name) != name:
                raise InputError(
                    f"the label {number} belongs to the bodies {owners[number]} and {name}; give it to one of them"
                )
    free, masks = labels == 0, dict[str, Bool[Tensor, "slices rows columns"]]()
    for name, numbers in bodies.items():
        own = torch.isin(labels, torch.tensor(list(numbers), dtype=labels.dtype))
        if not bool(own.any()):
            listed = ", ".join(str(number) for number in numbers)
            raise InputError(f"the body {name} has no voxels: the labels {listed} are not in the segmentation within the CT")
        border = _grown(own) & free
        free = free & ~border
        masks[name] = own | border
    return masks


def cropped(volume: CTVolume) -> CTVolume:
    """The box of the voxels that attenuate, with one voxel of air around it where the grid has one."""
    filled = volume.attenuation.nonzero()
    size = torch.tensor(volume.attenuation.shape)
    low = (filled.amin(0) - 1).clamp_min(0)
    high = (filled.amax(0) + 2).minimum(size)
    box = tuple(slice(begin, end) for begin, end in zip(low.tolist(), high.tolist(), strict=True))
    patient_from_voxel = volume.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] = volume.points_patient(low.flip(0).double())
    return replace(volume, attenuation=volume.attenuation[box].contiguous(), patient_from_voxel=patient_from_voxel)


def _grown(mask: Bool[Tensor, "slices rows columns"]) -> Bool[Tensor, "slices rows columns"]:
    """The mask and its six neighbours."""
    grown = mask.clone()
    for dim in range(3):
        n = mask.shape[dim]
        grown.narrow(dim, 1, n - 1).logical_or_(mask.narrow(dim, 0, n - 1))
        grown.narrow(dim, 0, n - 1).logical_or_(mask.narrow(dim, 1, n - 1))
    return grown
