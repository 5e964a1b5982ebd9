"""Readings of the CT: which of its contents are rendered, and how they are compared with the X-ray.

The whole CT explains an X-ray best where it holds all that the rays pass. Where it is cut, its bone alone may explain more.
Both are readings, and the registration decides between them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.hu_thresholds import DENSE_OBJECT_HU, METAL_HU
from fluoro_reg.ct.volume import CTVolume

SATURATION_DEPTH_MM = 7.0  # metal of this thickness leaves 1/e of the contrast; 3 to 10 on real knee implants
MOSTLY_AIR = 0.15  # a CT of which less than this fraction is not air is a single object and not a body
MOSTLY_DENSE = 0.5  # a CT of which more than this fraction is denser than soft tissue was cut out of a body
MARGIN_MM = 9.0  # residuals are taken up to this far beyond the projected object, measured at the object
MARGIN_OF_BONE_MM = 4.0  # the neighbours of a bone are nearer than those of an implant
LOCAL_MM_OF_BONE = 26.0  # the thickness of soft tissue changes over longer distances than that of bone
BONE_FINEST_PX = 224  # edges of bone are thinner than those of a body


@dataclass(frozen=True, slots=True)
class ObjectModel:
    """Pivot (patient mm), region of the image that is compared (`roi`), and S of the intensity model `1 - exp(-S L)`.

    S is in 1 / line integral; 0 means that nothing saturates. `margin_mm` is the width of the region around an object. The last
    stage has at least `finest_px` pixels across the CT's projection. `veto_cut_rays` leaves out rays that leave the CT within
    the body. From far away, values are compared relative to their mean within `local_mm`; 0: as they are.
    """

    pivot: Float[Tensor, "3"]
    roi: str
    saturation: float
    margin_mm: float = MARGIN_MM
    finest_px: int = 0
    veto_cut_rays: bool = True
    local_mm: float = 0.0

    @property
    def compared(self) -> str:
        """What the gates take the comparison to be: of a `body`, of an `object` in air, or of the `bone` of a cut CT."""
        if self.roi == "full":
            return "body"
        return "object" if self.veto_cut_rays else "bone"

    @property
    def is_plain(self) -> bool:
        """Whether the whole image is compared with line integrals as they are."""
        return self.roi == "full" and self.saturation == 0


def object_model_of(volume: CTVolume, roi: str, saturation: str, pivot: Float[Tensor, "3"]) -> ObjectModel:
    """The model of a whole CT, with the settings `roi` and `saturation` of `RegistrationOptions`.

    `auto` compares an object in air near its projection only, and takes an object of metal to saturate.
    """
    values = sample_filled_voxels(volume)
    is_dense = _are_mostly_dense(values)
    if roi == "auto":
        filled = int(torch.count_nonzero(volume.attenuation > 0)) / volume.attenuation.numel()
        is_object = is_dense or filled < MOSTLY_AIR
        roi = "moving-support" if is_object else "full"
    middle = float(values.median())
    is_metal = middle > attenuation_of_tissue(METAL_HU)
    is_bone = is_dense and not is_metal
    margin_mm, local_mm = (MARGIN_OF_BONE_MM, LOCAL_MM_OF_BONE) if is_bone else (MARGIN_MM, 0.0)
    if saturation == "auto":
        strength = 1 / (float(values.quantile(0.9)) * SATURATION_DEPTH_MM) if is_metal else 0.0
    else:
        strength = 0.0 if saturation == "off" else float(saturation)
    return ObjectModel(pivot, roi, strength, margin_mm, local_mm=local_mm)


def is_dense_object(volume: CTVolume) -> bool:
    """Whether a CT is a bone or an implant in air: most of it is denser than soft tissue."""
    return _are_mostly_dense(sample_filled_voxels(volume))


def _are_mostly_dense(values: Float[Tensor, "n"]) -> bool:
    return float((values > attenuation_of_tissue(DENSE_OBJECT_HU)).float().mean()) > MOSTLY_DENSE


def sample_filled_voxels(volume: CTVolume) -> Float[Tensor, "n"]:
    """About 100 000 voxels that are not air, from all over the CT."""
    values = volume.attenuation.detach().cpu().numpy()
    filled = values[values > 0]  # in numpy, which is five times as fast here as torch
    return torch.from_numpy(filled[:: max(1, filled.size // 100_000)].copy())


def bone_model_of(whole: ObjectModel) -> ObjectModel:
    """The model of the bone of a CT that is cut. The rest of the body is not in it, so it is compared near the bone only."""
    return ObjectModel(
        whole.pivot, "moving-support", 0.0, MARGIN_MM, BONE_FINEST_PX, veto_cut_rays=False, local_mm=LOCAL_MM_OF_BONE
    )
