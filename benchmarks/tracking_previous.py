"""The tracker of version 0.2, for comparison: the last two stages of the method from the last accepted pose, no prediction."""

from dataclasses import dataclass, field, replace

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import Outcome, Registrar, RegistrationResult
from fluoro_reg.xray.image import XrayImage

LOST_AFTER = 5


@dataclass(slots=True)
class PreviousTracker:
    """A frame that fails is searched again around the last pose; after `LOST_AFTER` rejections the initial pose is used."""

    registrar: Registrar
    initial_pose: RigidTransform | None = None
    _last: RigidTransform | None = field(default=None, init=False)
    _reading: str = field(default="", init=False)
    _rejected_in_a_row: int = field(default=0, init=False)

    def update(self, xray: XrayImage, stamp_ns: int) -> RegistrationResult:
        """Register the next image; stamps are not used."""
        result = self._first(xray) if self._last is None else self._tracked(xray, self._last)
        if result.accepted:
            self._last, self._reading, self._rejected_in_a_row = result.camera_from_patient, result.reading, 0
            return result
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row >= LOST_AFTER:
            self._last = None
        return result

    def _first(self, xray: XrayImage) -> RegistrationResult:
        return self.registrar.register(xray, self.initial_pose)

    def _tracked(self, xray: XrayImage, last: RigidTransform) -> RegistrationResult:
        tracked = self.registrar.register(xray, last, tracking=True, reading=self._reading)
        result = self._jump_checked(tracked, last)
        if result.accepted or result.outcome is Outcome.REJECTED_IMAGE:
            return result
        return self._jump_checked(self.registrar.register(xray, last), last)

    def _jump_checked(self, result: RegistrationResult, last: RigidTransform) -> RegistrationResult:
        if not result.accepted or result.camera_from_patient is None:
            return result
        jump = self.registrar.displacement_mm(result.camera_from_patient, last)
        if jump <= self.registrar.options.gate.maximum_jump_mm:
            return result
        return replace(result, outcome=Outcome.REJECTED_POSE, reason=f"the CT would have jumped {jump:.0f} mm")
