"""The result of a registration: a pose with its uncertainty. Failure is a value with a reason, never a default pose."""

import enum
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.xray.image import Intensity


class Outcome(str, enum.Enum):
    """How a registration ended; only CONVERGED is ever accepted."""

    CONVERGED = "converged"
    AMBIGUOUS = "ambiguous"  # another pose explains the image as well
    NOT_CONVERGED = "not_converged"
    REJECTED_IMAGE = "rejected_image"
    REJECTED_POSE = "rejected_pose"
    NO_START = "no_start"
    SEARCHING = "searching"  # a tracker's: nothing is known about this image until the search beside tracking has ended


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A pose, and its similarity to the image (1 is perfect)."""

    camera_from_patient: RigidTransform
    similarity: float


@dataclass(frozen=True, slots=True)
class RegistrationResult:
    """The answer to one image, or to several views.

    Attributes:
        outcome: How the registration ended.
        reason: One sentence that explains the outcome.
        method: The method's name.
        camera_from_patient: The pose, float64, mm; None if there is none. Only an accepted pose may be used.
        initial_camera_from_patient: The pose that the search began from.
        similarity: Gradient NCC at the pose; 1 is perfect.
        alternatives: Other, distinct poses with their similarities.
        covariance: Covariance of the pose in ROS's convention (x, y, z of the patient's origin in mm, then rotations about the
            fixed camera axes in rad), 6 x 6; None if a direction is undetermined.
        intensity: The assumed meaning of the pixel values: transmitted or attenuation.
        intensity_confidence: The probability of that, if it was inferred from the image (0.5 is a guess); None if it was given.
        reading: How image and CT were read, in words: the meaning of the pixels, the field, and what of the CT was compared.
        readings: The same by name: intensity, field, without_instruments (whether what looks like an instrument was left out),
            ct, roi (the region that is compared) and ct_cut (whether the body goes on beyond the CT); empty if nothing was
            registered.
        start: Where the registration began: `pose` (given, or of the frame before), `weights` (predicted), `header` (the views
            around the nominal one of a DICOM file), or `range` (all views of a range).
        start_detail: Which views were searched, and whether the header contradicts them; empty if none were.
        stands_out: Whether a search of views has found nothing far from this pose that explains the image nearly as well; False
            where none were searched.
        warnings: One sentence for each pose, the initial one or the result, that is outside the views on which the weights in
            use have been trained.
        n_renders: Rendered views.
        elapsed_s: Total time in seconds.
        device: Where the images were rendered.
        scores: The values that the gates check, by name.
        seconds: Seconds by stage.
        pose_source: What the pose rests on: `image`, this image alone, or `filtered`, this image and the motion until then.
        state: The tracker's state after this frame; empty without a tracker.
        frame: What the frame is: `new`, or `repeated` or `dark`, which are not registered; empty without a tracker.
        searching: Whether a search runs beside tracking that may still explain this image: if no other image comes before it
            has ended, this one has a second result.
        bodies: Where bones have poses of their own: the result of every body by name, the reference first. The result itself is
            then that of the reference. `camera_from_patient` of a body maps the coordinates of its CT, moved with the body.
    """

    outcome: Outcome
    reason: str
    method: str
    camera_from_patient: RigidTransform | None = None
    initial_camera_from_patient: RigidTransform | None = None
    similarity: float | None = None
    alternatives: tuple[Hypothesis, ...] = ()
    covariance: Float[Tensor, "6 6"] | None = None
    intensity: str = Intensity.AUTO.value
    intensity_confidence: float | None = None
    reading: str = ""
    readings: dict[str, str | bool] = field(default_factory=dict)
    start: str = ""
    start_detail: str = ""
    stands_out: bool = False
    warnings: tuple[str, ...] = ()
    n_renders: int = 0
    elapsed_s: float = 0.0
    device: str = "cpu"
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    pose_source: str = "image"
    state: str = ""
    frame: str = ""
    searching: bool = False
    bodies: dict[str, "RegistrationResult"] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the pose may be published."""
        return self.outcome is Outcome.CONVERGED and self.camera_from_patient is not None

    def to_json(self) -> dict[str, Any]:
        """The object that `fluoro-reg register --json` prints."""

        def matrix(pose: RigidTransform | None) -> list[list[float]] | None:
            return None if pose is None else pose.matrix().tolist()

        each = {"bodies": {name: body.to_json() for name, body in self.bodies.items()}} if self.bodies else {}
        return {
            "accepted": self.accepted,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "method": self.method,
            "camera_from_patient": matrix(self.camera_from_patient),
            "initial_camera_from_patient": matrix(self.initial_camera_from_patient),
            "unit": "mm",
            "similarity": self.similarity,
            "alternatives": [
                {"camera_from_patient": matrix(h.camera_from_patient), "similarity": h.similarity} for h in self.alternatives
            ],
            "covariance": None if self.covariance is None else self.covariance.flatten().tolist(),
            "intensity": self.intensity,
            "intensity_confidence": self.intensity_confidence,
            "reading": self.reading,
            "readings": self.readings,
            "start": self.start,
            "start_detail": self.start_detail,
            "stands_out": self.stands_out,
            "warnings": list(self.warnings),
            "n_renders": self.n_renders,
            "elapsed_s": self.elapsed_s,
            "device": self.device,
            "scores": self.scores,
            "seconds": self.seconds,
            "pose_source": self.pose_source,
            "state": self.state,
            "frame": self.frame,
            "searching": self.searching,
            **each,
        }
