"""`Tracker`: frame after frame, from the last accepted pose when there is one, else from the given start with a search.

A tracked pose must also lie near the last one (`gate.maximum_jump_mm`); a frame that fails is searched once more from the same
pose before it is rejected. After `LOST_AFTER` rejected frames in a row the last pose counts for nothing and the given start is
used again.
"""

from dataclasses import dataclass, field, replace

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.registrar import Registrar
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.xray.image import XrayImage

LOST_AFTER = 5


@dataclass(slots=True)
class Tracker:
    """State of one stream of images. Not for use from two threads at once."""

    registrar: Registrar
    start: RigidTransform | None
    _last: RigidTransform | None = field(default=None, init=False)
    _rejected_in_a_row: int = field(default=0, init=False)

    def update(self, image: XrayImage) -> RegistrationResult:
        """Registers the next image; the result says whether its pose may be published."""
        result = self._tracked(image) if self._last is not None else self.registrar.register(image, self.start)
        if result.accepted:
            self._last, self._rejected_in_a_row = result.camera_from_patient, 0
            return result
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row >= LOST_AFTER:
            self._last = None
        return result

    def reset(self) -> None:
        """Forgets the last pose; the next image starts from the given start."""
        self._last, self._rejected_in_a_row = None, 0

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        """A start from outside, used from the next image on."""
        self.start = camera_from_patient
        self.reset()

    def _tracked(self, image: XrayImage) -> RegistrationResult:
        result = self._checked(self.registrar.register(image, self._last, tracking=True))
        if result.accepted or result.outcome is Outcome.REJECTED_IMAGE:
            return result
        return self._checked(self.registrar.register(image, self._last))

    def _checked(self, result: RegistrationResult) -> RegistrationResult:
        if not result.accepted or self._last is None or result.camera_from_patient is None:
            return result
        poses = RigidTransform.stack([result.camera_from_patient])
        jump = float(self.registrar.metric.distances(poses, self._last)[0])
        limit = self.registrar.options.gate.maximum_jump_mm
        if jump <= limit:
            return result
        reason = f"the CT would have jumped {jump:.0f} mm since the last accepted frame, more than {limit:.0f} mm"
        return replace(result, outcome=Outcome.REJECTED_POSE, reason=reason)
