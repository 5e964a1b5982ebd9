"""How the demo is assessed: each frame's transform against the pose that its image was made with, and what fell short.

Errors are those of the transforms that another process heard on /tf, at named points of the phantom's anatomy. The demo holds
itself to `MEDIAN_MTRE_MM` and `MAXIMUM_MTRE_MM`: a pose that is accepted and wrong is a failure of the demo; a rejected frame
is not, unless rejections are the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.evaluation.metrics import TargetErrors, target_registration_errors
from fluoro_reg.formats.bags import read_bag_truth
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.simulation.bags import SimulatedBag

MEDIAN_MTRE_MM, MAXIMUM_MTRE_MM = 1.0, 5.0


MINIMUM_ACCEPTED = 0.5


NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the node said of a frame on ~/result. Times are the wall clock's, s; `seconds` are the node's, by stage."""

    stamp_ns: int
    accepted: bool
    outcome: str
    reason: str
    device: str
    similarity: float | None
    published_s: float
    received_s: float
    seconds: dict[str, float]

    @staticmethod
    def from_json(line: dict[str, Any]) -> "Answer":
        """From a line of `bag_player --answers`."""
        values = line["values"]
        similarity = values.get("similarity", "")
        seconds = {key.removeprefix("seconds."): float(value) for key, value in values.items() if key.startswith("seconds.")}
        return Answer(
            stamp_ns=int(line["stamp_ns"]),
            accepted=values["accepted"] == "true",
            outcome=values["outcome"],
            reason=values["reason"],
            device=values["device"],
            similarity=float(similarity) if similarity else None,
            published_s=float(line["published_s"]),
            received_s=float(line["received_s"]),
            seconds={**seconds, "node": float(values["latency_s"])},
        )


@dataclass(frozen=True, slots=True)
class HeardTransform:
    """A transform as the listener heard it."""

    stamp_ns: int
    camera_from_patient: RigidTransform
    received_s: float

    @staticmethod
    def from_json(line: dict[str, Any]) -> "HeardTransform":
        """From a line of `tf_listener`."""
        pose = RigidTransform.from_matrix(line["parent_from_child"], "the transform on /tf")
        return HeardTransform(int(line["stamp_ns"]), pose, float(line["received_s"]))


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame of the demo.

    `latency_s` runs from the image's publication until another process has the answer: the transform where the frame is
    accepted, else the rejection. `errors` are those of the transform heard on /tf.
    """

    index: int
    stamp_ns: int
    blank: bool
    accepted: bool
    outcome: str
    reason: str
    similarity: float | None = None
    camera_from_patient: RigidTransform | None = None
    errors: TargetErrors | None = None
    latency_s: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    device: str = ""


@dataclass(frozen=True, slots=True)
class DemoTruth:
    """Stamps in order with the true poses, None where the frame is blank; the points at which errors are told."""

    poses: dict[int, RigidTransform | None]
    points_patient: Float[Tensor, "n 3"]

    @staticmethod
    def read(recording: SimulatedBag) -> "DemoTruth":
        """From the files beside the bag."""
        return DemoTruth(read_bag_truth(recording.truth), read_landmarks(recording.landmarks))

    def record(self, stamp_ns: int, answer: Answer | None, heard: HeardTransform | None) -> FrameRecord:
        """What became of one frame."""
        index, truth = list(self.poses).index(stamp_ns), self.poses[stamp_ns]
        if answer is None:
            return FrameRecord(index, stamp_ns, truth is None, False, NO_ANSWER, "the node gave no answer")
        pose = heard.camera_from_patient if heard is not None else None
        return FrameRecord(
            index=index,
            stamp_ns=stamp_ns,
            blank=truth is None,
            accepted=answer.accepted,
            outcome=answer.outcome,
            reason=answer.reason,
            similarity=answer.similarity,
            camera_from_patient=pose,
            errors=None if truth is None or pose is None else target_registration_errors(pose, truth, self.points_patient),
            latency_s=(heard.received_s if heard is not None else answer.received_s) - answer.published_s,
            seconds=answer.seconds,
            device=answer.device,
        )


def summary(records: Sequence[FrameRecord], tf_received: int) -> dict[str, Any]:
    """`summary.json`: errors (true 3-D mTRE, mm) and latencies (s, image published to transform heard) of accepted frames."""
    accepted = [record for record in records if record.accepted]
    errors = [record.errors.mtre_mm for record in accepted if record.errors is not None]
    latencies = [record.latency_s for record in accepted if record.latency_s is not None]
    return {
        "frames": len(records),
        "accepted": len(accepted),
        "rejected": len(records) - len(accepted),
        "median_mtre_mm": float(np.median(errors)) if errors else None,
        "max_mtre_mm": max(errors, default=None),
        "median_latency_s": float(np.median(latencies)) if latencies else None,
        "p99_latency_s": float(np.percentile(latencies, 99)) if latencies else None,
        "tf_received": tf_received,
        "device": next((record.device for record in records if record.device), ""),
    }


def shortcomings(records: Sequence[FrameRecord], heard: Sequence[HeardTransform]) -> list[str]:
    """What the demo did not do as it should, one sentence each; none is a success."""
    accepted = {record.stamp_ns: record for record in records if record.accepted}
    stamps = [transform.stamp_ns for transform in heard]
    unanswered = sum(record.outcome == NO_ANSWER for record in records)
    blank = sum(record.blank for record in accepted.values())
    shown = sum(not record.blank for record in records)
    errors = [record.errors.mtre_mm for record in accepted.values() if record.errors is not None]
    found = []
    if unanswered:
        found.append(f"frames without an answer: {unanswered}")
    if blank:
        found.append(f"blank frames accepted: {blank}")
    if len(accepted) < MINIMUM_ACCEPTED * shown:
        found.append(f"only {len(accepted)} of {shown} X-rays of the patient were accepted")
    if set(accepted) - set(stamps):
        found.append(f"accepted frames not heard on /tf: {len(set(accepted) - set(stamps))}")
    if set(stamps) - set(accepted):
        found.append(f"transforms on /tf that belong to no accepted frame: {len(set(stamps) - set(accepted))}")
    if any(later <= earlier for earlier, later in pairwise(stamps)):
        found.append("the stamps on /tf do not increase")
    if errors and np.median(errors) > MEDIAN_MTRE_MM:
        found.append(f"the median mTRE is {np.median(errors):.2f} mm, more than {MEDIAN_MTRE_MM:g} mm")
    if errors and max(errors) > MAXIMUM_MTRE_MM:
        found.append(f"an accepted pose is wrong by {max(errors):.1f} mm, more than {MAXIMUM_MTRE_MM:g} mm")
    return found
