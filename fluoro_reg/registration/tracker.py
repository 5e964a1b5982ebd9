"""`Tracker`: frame after frame, from the last accepted pose if there is one, else from the initial pose with a search.

A tracked pose must also lie near the last one (`gate.maximum_jump_mm`). A frame that fails is searched again around the same
pose before it is rejected. After `LOST_AFTER` rejected frames in a row the last pose is dropped, and the initial pose is used
again.
"""

from dataclasses import dataclass, field, replace

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.xray.image import XrayImage

LOST_AFTER = 5


@dataclass(slots=True)
class Tracker:
    """The state of one stream of images. Do not use a tracker from two threads at once.

    Args:
        registrar: Registers each image.
        initial_pose: `camera_from_patient` to search around in the first image; None if the registrar predicts poses.
    """

    registrar: Registrar
    initial_pose: RigidTransform | None = None
    _last: RigidTransform | None = field(default=None, init=False)
    _reading: str = field(default="", init=False)
    _rejected_in_a_row: int = field(default=0, init=False)

    def update(self, xray: XrayImage) -> RegistrationResult:
        """Register the next image. Its pose may be published only if the result is `accepted`."""
        result = self._first(xray) if self._last is None else self._tracked(xray, self._last)
        if result.accepted:
            self._last, self._reading, self._rejected_in_a_row = result.camera_from_patient, result.reading, 0
            return result
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row >= LOST_AFTER:
            self._last = None
        return result

    def reset(self) -> None:
        """Forget the last pose; the next image is searched around the initial pose."""
        self._last, self._rejected_in_a_row = None, 0

    def change_options(self, options: RegistrationOptions) -> None:
        """Use other gates and another preprocessing from the next image on; all other options stay as they are."""
        self.registrar.options = replace(self.registrar.options, gate=options.gate, preprocess=options.preprocess)

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        """Replace the initial pose, and search around it in the next image."""
        self.initial_pose = camera_from_patient
        self.reset()

    def _first(self, xray: XrayImage) -> RegistrationResult:
        return self.registrar.register(xray, self.initial_pose)

    def _tracked(self, xray: XrayImage, last: RigidTransform) -> RegistrationResult:
        result = self._jump_checked(self.registrar.register(xray, last, tracking=True, reading=self._reading), last)
        if result.accepted or result.outcome is Outcome.REJECTED_IMAGE:
            return result
        return self._jump_checked(self.registrar.register(xray, last), last)

    def _jump_checked(self, result: RegistrationResult, last: RigidTransform) -> RegistrationResult:
        """The result, rejected if the CT moved too far since the last accepted frame."""
        if not result.accepted or result.camera_from_patient is None:
            return result
        jump = self.registrar.displacement_mm(result.camera_from_patient, last)
        limit = self.registrar.options.gate.maximum_jump_mm
        if jump <= limit:
            return result
        reason = f"the CT would have jumped {jump:.0f} mm since the last accepted frame, more than {limit:.0f} mm"
        return replace(result, outcome=Outcome.REJECTED_POSE, reason=reason)
