"""What a registration gives: a pose with its doubts. Failure is a value with a sentence, never a default pose."""

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


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A pose and how well it explains the image (1 is perfect)."""

    camera_from_patient: RigidTransform
    similarity: float


@dataclass(frozen=True, slots=True)
class RegistrationResult:
    """One image's answer. Poses are unbatched float64; `covariance` is 6 x 6 in ROS order (x, y, z, rotations about the fixed
    camera axes) of `camera_from_patient`: of the patient's origin, mm and rad. `intensity` is what the X-ray's numbers were
    taken for, `intensity_confidence` how sure that is when it was judged from the image (0.5 is a guess; None: it was given).
    `scores` are the gates' numbers by name, `seconds` the times by stage.
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
    n_renders: int = 0
    elapsed_s: float = 0.0
    device: str = "cpu"
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the pose may be published."""
        return self.outcome is Outcome.CONVERGED and self.camera_from_patient is not None

    def to_json(self) -> dict[str, Any]:
        """The object that `fluoro-reg register --json` prints."""

        def matrix(pose: RigidTransform | None) -> list[list[float]] | None:
            return None if pose is None else pose.matrix().tolist()

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
            "n_renders": self.n_renders,
            "elapsed_s": self.elapsed_s,
            "device": self.device,
            "scores": self.scores,
            "seconds": self.seconds,
        }
