"""Readings of the CT: the whole of it and, where too few rays are complete, its bone alone."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.bone import bone_above_soft_tissue
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.stages.masks import CUT_FRACTION, CUT_FRACTION_OF_OBJECT
from fluoro_reg.registration.stages.object_model import ObjectModel, bone_model_of, is_dense_object, object_model_of
from fluoro_reg.registration.stages.objective import PoseObjective
from fluoro_reg.registration.stages.scales import CoarseRenderers, ImageScales, box_corners
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed

ENOUGH_COMPLETE = 0.6  # of the rays through the CT: with fewer, its bone is a reading, too
COMPLETENESS_PX = 32  # across the CT's projection


@dataclass(frozen=True, slots=True)
class CTReading:
    """What of the CT is rendered, and how it is compared."""

    name: str
    renderers: CoarseRenderers
    model: ObjectModel
    corners_patient: Float[Tensor, "8 3"]

    def scales(self, prepared: Preprocessed, initial_pose: RigidTransform) -> ImageScales:
        """The scales of an X-ray. Saturation does not move the edges of an object in a body, so all outlines count there."""
        outline = prepared.outline if self.model.roi == "full" else None
        return ImageScales(prepared.image, initial_pose, self.renderers, self.corners_patient, self.model, outline)


@dataclass(slots=True)
class CTReadings:
    """The readings of one CT, each made when it is first needed."""

    ct: CTVolume
    whole: CTReading
    device: str
    _bone: CTReading | None = field(default=None, init=False)
    _is_boneless: bool = field(default=False, init=False)

    @classmethod
    def of(cls, ct: CTVolume, roi: str, saturation: str, device: str) -> "CTReadings":
        """The readings of a CT, with the settings `roi` and `saturation` of `RegistrationOptions`."""
        cut_fraction = CUT_FRACTION_OF_OBJECT if is_dense_object(ct) else CUT_FRACTION
        renderers = CoarseRenderers(ct, device, cut_fraction)
        corners = box_corners(ct, renderers.extent)
        model = object_model_of(ct, roi, saturation, corners.mean(0))
        return cls(ct, CTReading("whole CT", renderers, model, corners), device)

    def plausible(self, prepared: Preprocessed, initial_pose: RigidTransform | None) -> list[CTReading]:
        """The readings that can explain an X-ray from near an initial pose; without one, from any view."""
        whole = self.whole
        if whole.model.roi != "full" or not whole.renderers.extent.is_cut:
            return [whole]
        if initial_pose is None:
            return [whole] if (bone := self._bone_reading()) is None else [whole, bone]
        complete = complete_fraction(whole.scales(prepared, initial_pose), whole.model, initial_pose)
        if complete >= ENOUGH_COMPLETE or (bone := self._bone_reading()) is None:
            return [whole]
        return [whole, bone] if complete > 0 else [bone]

    def named(self, name: str) -> CTReading | None:
        """The reading with a name, of those that have been made."""
        return next((one for one in (self.whole, self._bone) if one is not None and one.name == name), None)

    def decisions(self, reading: str, without_instruments: bool = False) -> dict[str, str | bool]:
        """What a reading in words (of an X-ray and this CT) decided, by name; empty if it is not one of this CT."""
        of_xray, _, of_ct = reading.partition("; ")
        intensity, _, field_name = of_xray.rpartition(", ")
        chosen, is_cut = self.named(of_ct), self.whole.renderers.extent.is_cut
        if chosen is None:
            return {}
        return {
            "intensity": intensity,
            "field": field_name,
            "without_instruments": without_instruments,
            "ct": of_ct,
            "roi": chosen.model.roi,
            "ct_cut": is_cut,
        }

    def _bone_reading(self) -> CTReading | None:
        """The bone alone; None if the CT has none."""
        if self._bone is None and not self._is_boneless:
            bone = bone_above_soft_tissue(self.ct)
            self._is_boneless = not bool((bone.attenuation > 0).any())
            if self._is_boneless:
                return None
            whole = self.whole
            self._bone = CTReading(
                "bone", CoarseRenderers(bone, self.device), bone_model_of(whole.model), whole.corners_patient
            )
        return self._bone


def complete_fraction(scales: ImageScales, model: ObjectModel, pose: RigidTransform) -> float:
    """The fraction of the usable rays through the CT that do not leave it within the body."""
    objective = PoseObjective(scales.scale(COMPLETENESS_PX, None, coarse=True), model, GradientNCC())
    seen = objective.images(RigidTransform.stack([pose]))
    wanted = (seen.moving > 0) * objective.scale.usable
    return float((objective.weight(seen) * wanted).sum() / torch.clamp_min(wanted.sum(), 1.0))
