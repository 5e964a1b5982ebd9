"""`BodiesTracker`: frame after frame, the reference as any CT is tracked, and every other body from where it was last accepted.

A bone moves against the reference much more slowly than the C-arm about both. So a body is taken to be where it was relative
to the reference, and is refined from there together with all others. It is searched within the prior of its joint where it has
no accepted pose, or has not been accepted for some frames. A search costs as much as several frames: a body that is not found,
such as one out of the field, is searched less and less often.

Every pose passes the gates of its own frame. A tracked one must also be near where it was. Nothing is accepted in a frame in
which the reference is not: what is known of the others is relative to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.result import Outcome, RegistrationResult
from fluoro_reg.registration.tracker import LOST_AFTER, Tracker
from fluoro_reg.registration.tracking.states import TrackerState
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.continued import KnownReading, read_again
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed, preprocess_reading
from fluoro_reg.xray.view import CalibratedXray

MAXIMUM_STEP_MM = 15.0  # relative to the reference between accepted frames: half of the way to the next vertebra
LONGEST_PAUSE = 16  # frames between two searches for a body that is not found


@dataclass(slots=True)
class FollowedBody:
    """What earlier frames tell of one body.

    Attributes:
        reference_from_body: Its pose relative to the reference in the last accepted frame; None if it must be searched.
        unaccepted: Frames in a row in which it was not accepted, although the reference was.
        pause: Frames after an unsuccessful search until the next one.
        waits: Frames until it is searched.
    """

    reference_from_body: RigidTransform | None = None
    unaccepted: int = 0
    pause: int = 1
    waits: int = 0

    @property
    def is_due(self) -> bool:
        """Whether it is to be searched in the next frame."""
        return self.reference_from_body is None and self.waits == 0

    def accept(self, reference_from_body: RigidTransform) -> None:
        """Follow it from here."""
        self.reference_from_body, self.unaccepted, self.pause, self.waits = reference_from_body, 0, 1, 0

    def reject(self) -> None:
        """Wait for the next search, or forget the last pose after some frames."""
        self.unaccepted += 1
        if self.is_due:
            self.waits, self.pause = self.pause, min(2 * self.pause, LONGEST_PAUSE)
        elif self.reference_from_body is None:
            self.waits -= 1
        elif self.unaccepted >= LOST_AFTER:
            self.reference_from_body = None


class BodiesTracker:
    """The state of one stream of images that show several bodies. Do not use it from two threads at once.

    Args:
        registrar: Registers the bodies.
        initial_pose: As for a `Tracker`: that of the reference.
        background: As for a `Tracker`. Only the reference is searched beside tracking.

    Raises:
        InputError: The settings ask for filtered poses, which bodies do not have.
    """

    def __init__(
        self, registrar: BodiesRegistrar, initial_pose: RigidTransform | None = None, background: bool = False
    ) -> None:
        if len(registrar.bodies) > 1 and registrar.options.tracking.pose == "filtered":
            raise InputError("tracking.pose is filtered, but poses of several bodies rest on the image alone; set it to image")
        self.registrar = registrar
        self._tracker = Tracker(registrar.rigid, initial_pose, background)
        self._xray: XrayImage | None = None
        self._reading: KnownReading | None = None
        self._forget()

    @property
    def state(self) -> TrackerState:
        """The state of the reference."""
        return self._tracker.state

    @property
    def searching_since(self) -> float | None:
        """When the search in the background began, on the monotonic clock, s; None if none runs."""
        return self._tracker.searching_since

    def update(self, xray: XrayImage, stamp_ns: int | None = None) -> RegistrationResult:
        """Register the next image; the arguments are those of `Tracker.update`.

        Returns:
            The result of the reference; its `bodies` holds that of every body.
        """
        self._xray = xray
        return self._with_bodies(self._tracker.update(xray, stamp_ns), xray)

    def late_result(self) -> RegistrationResult | None:
        """Return the second answer to the last image, as `Tracker.late_result` does."""
        result = self._tracker.late_result()
        return None if result is None or self._xray is None else self._with_bodies(result, self._xray)

    def when_search_ends(self, call: Callable[[], None]) -> None:
        """Call this whenever a search has ended in the background, from another thread."""
        self._tracker.when_search_ends(call)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Discard a search and end its thread; return False if that takes longer."""
        return self._tracker.close(timeout_s)

    def reset(self) -> None:
        """Forget the last poses of all bodies, and a search."""
        self._forget()
        self._tracker.reset()

    def change_options(self, options: RegistrationOptions) -> None:
        """Use other gates and another preprocessing from the next image on; all other options stay as they are."""
        self._tracker.change_options(options)

    def set_initial_pose(self, camera_from_patient: RigidTransform) -> None:
        """Replace the initial pose of the reference, and search around it in the next image."""
        self._forget()
        self._tracker.set_initial_pose(camera_from_patient)

    def _forget(self) -> None:
        """Know nothing of earlier frames; the reference is then expected where the rigid CT is."""
        self._followed = {body.name: FollowedBody() for body in self.registrar.bodies[1:]}
        self._rigid_from_reference: RigidTransform | None = None

    def _with_bodies(self, first: RegistrationResult, xray: XrayImage) -> RegistrationResult:
        """The bodies of a frame after the reference has been tracked as a rigid CT; none is accepted if that is not."""
        name = self.registrar.bodies[0].name
        if not first.accepted:
            self._rigid_from_reference = None
            results = self.registrar.without_poses(first)
            return replace(first, bodies=results)
        known = {n: body.reference_from_body for n, body in self._followed.items() if body.reference_from_body is not None}
        if self._rigid_from_reference is not None:
            known[name] = self._rigid_from_reference
        sought = [n for n, body in self._followed.items() if body.is_due]
        view = CalibratedXray(xray, RigidTransform.identity())
        found = self.registrar.with_bodies(first, [view], known, sought, self._prepared(xray, first.reading))
        results = dict(found.bodies)
        reference = results[name]
        self._rigid_from_reference = None
        if reference.accepted and first.camera_from_patient is not None and reference.camera_from_patient is not None:
            self._rigid_from_reference = first.camera_from_patient.inverse() @ reference.camera_from_patient
            for body in self.registrar.bodies[1:]:
                results[body.name] = self._followed_result(body, results[body.name], reference)
        return replace(results[name], bodies=results)

    def _prepared(self, xray: XrayImage, reading: str) -> Preprocessed | None:
        """The X-ray in the reading of the reference, which is that of an earlier frame while it applies; None without it."""
        coarse, options = coarse_image(xray.pixels, xray.mask), self.registrar.options.preprocess
        self._reading = read_again(xray, coarse, reading.partition("; ")[0], options, self._reading)
        return None if self._reading is None else preprocess_reading(xray, coarse, self._reading.reading, options)

    def _followed_result(self, body: Body, result: RegistrationResult, reference: RegistrationResult) -> RegistrationResult:
        """The result of a body whose reference is accepted, rejected if it jumped; the body is followed from it."""
        followed, pose = self._followed[body.name], result.camera_from_patient
        if not result.accepted or pose is None or reference.camera_from_patient is None:
            followed.reject()
            return result
        reference_from_body = reference.camera_from_patient.inverse() @ pose
        if (last := followed.reference_from_body) is not None:
            expected = RigidTransform.stack([reference.camera_from_patient @ last])
            step_mm = float(body.metric.distances(expected, pose)[0])
            if step_mm > MAXIMUM_STEP_MM:
                followed.reject()
                reason = f"it would have moved {step_mm:.0f} mm against the reference since the last accepted frame"
                return replace(result, outcome=Outcome.REJECTED_POSE, reason=reason)
        followed.accept(reference_from_body)
        return result
