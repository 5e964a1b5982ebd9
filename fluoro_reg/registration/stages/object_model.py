"""Properties of the CT as an object: its pivot, the image region that is compared with the X-ray, and its saturation."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume

METAL_ATTENUATION = 0.065  # 1/mm: denser than any bone
SATURATION_DEPTH_MM = 7.0  # metal of this thickness leaves 1/e of the contrast; 3 to 10 on real knee implants
MOSTLY_AIR = 0.15  # a CT of which less than this fraction is not air is a single object and not a body


@dataclass(frozen=True, slots=True)
class ObjectModel:
    """Pivot (patient mm), region of the image that is compared (`roi`), and S of the intensity model `1 - exp(-S L)`.

    S is in 1 / line integral; 0 means that nothing saturates.
    """

    pivot: Float[Tensor, "3"]
    roi: str
    saturation: float

    @property
    def is_plain(self) -> bool:
        """Whether the whole image is compared with line integrals as they are."""
        return self.roi == "full" and self.saturation == 0


def object_model_of(volume: CTVolume, roi: str, saturation: str, pivot: Float[Tensor, "3"]) -> ObjectModel:
    """The model of a CT, with the settings `roi` and `saturation` of `RegistrationOptions`.

    `auto` compares an object in air near its projection only, and takes an object of metal to saturate.
    """
    filled = volume.attenuation > 0
    if roi == "auto":
        roi = "moving-support" if float(filled.float().mean()) < MOSTLY_AIR else "full"
    if saturation not in ("auto", "off"):
        return ObjectModel(pivot, roi, float(saturation))
    values = volume.attenuation[filled]
    dense = float(values[:: max(1, values.numel() // 100_000)].quantile(0.9))
    metal = saturation == "auto" and dense > METAL_ATTENUATION
    return ObjectModel(pivot, roi, 1 / (dense * SATURATION_DEPTH_MM) if metal else 0.0)
