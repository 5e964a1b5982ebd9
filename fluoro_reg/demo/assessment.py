"""Assessment of the demo: the errors of the received transforms against the true poses, and the checks that failed.

Errors are those of the transforms that another process received on /tf, at named points of the phantom's anatomy. The median
and the maximum error must not exceed `MEDIAN_MTRE_MM` and `MAXIMUM_MTRE_MM`. An accepted wrong pose is a failure of the demo. A
rejected frame is not, unless more than half of the frames are rejected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.demo.bodies import NO_BODIES, BodiesTruth, BodyRecord, failed_body_checks, summarise_bodies
from fluoro_reg.demo.scene import DemoScene
from fluoro_reg.evaluation.metrics import TargetErrors, target_registration_errors
from fluoro_reg.formats.bags import read_bag_truth
from fluoro_reg.formats.landmarks import read_landmarks
from fluoro_reg.geometry import RigidTransform

MEDIAN_MTRE_MM, MAXIMUM_MTRE_MM = 1.0, 5.0
MINIMUM_ACCEPTED_FRACTION = 0.5
NO_ANSWER = "no_answer"
PATIENT_FRAME = "patient"


@dataclass(frozen=True, slots=True)
class Answer:
    """The node's message on ~/result about one frame.

    `published_s` and `received_s` are wall-clock times in s. `seconds` are the times of the node's stages. `bodies` are the
    values of each body's status.
    """

    stamp_ns: int
    accepted: bool
    outcome: str
    reason: str
    device: str
    similarity: float | None
    published_s: float
    received_s: float
    seconds: dict[str, float]
    bodies: dict[str, dict[str, str]] = field(default_factory=dict)

    @staticmethod
    def from_json(line: dict[str, Any]) -> "Answer":
        """Parse a line of `bag_player --answers`."""
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
            bodies=line.get("bodies", {}),
        )


@dataclass(frozen=True, slots=True)
class ReceivedTransform:
    """A transform that the listener received on /tf; `child` is the frame of a body, or the patient's."""

    stamp_ns: int
    camera_from_patient: RigidTransform
    received_s: float
    child: str = PATIENT_FRAME

    @staticmethod
    def from_json(line: dict[str, Any]) -> "ReceivedTransform":
        """Parse a line of `tf_listener`."""
        pose = RigidTransform.from_matrix(line["parent_from_child"], "the transform on /tf")
        return ReceivedTransform(int(line["stamp_ns"]), pose, float(line["received_s"]), line["child"])


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """The result of one frame.

    `latency_s` is the time from the publication of the image until another process received the transform, or the message about
    the rejection. `errors` are those of the transform received on /tf. `bodies` are the bones that move on their own.
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
    bodies: dict[str, BodyRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DemoTruth:
    """The ground truth: true poses by stamp in order, None for blank frames, and the points at which errors are measured."""

    poses: dict[int, RigidTransform | None]
    points_patient: Float[Tensor, "n 3"]
    bodies: BodiesTruth = NO_BODIES

    @staticmethod
    def read(scene: DemoScene) -> "DemoTruth":
        """Read the files beside the bag."""
        files = scene.recording
        return DemoTruth(read_bag_truth(files.truth), read_landmarks(files.landmarks), BodiesTruth.read(scene))

    def record(self, stamp_ns: int, answer: Answer | None, received: Mapping[str, ReceivedTransform]) -> FrameRecord:
        """Return the record of one frame from the node's answer and the received transforms, by child frame."""
        index, truth, transform = list(self.poses).index(stamp_ns), self.poses[stamp_ns], received.get(PATIENT_FRAME)
        poses = {child: one.camera_from_patient for child, one in received.items()}
        bodies = self.bodies.records(stamp_ns, {} if answer is None else answer.bodies, poses)
        if answer is None:
            return FrameRecord(index, stamp_ns, truth is None, False, NO_ANSWER, "the node gave no answer", bodies=bodies)
        pose = transform.camera_from_patient if transform is not None else None
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
            latency_s=(transform.received_s if transform is not None else answer.received_s) - answer.published_s,
            seconds=answer.seconds,
            device=answer.device,
            bodies=bodies,
        )


def summarise(records: Sequence[FrameRecord], tf_received: int) -> dict[str, Any]:
    """Return the content of summary.json.

    Errors (3-D mTRE in mm) and latencies (s, from publication of the image to receipt of the transform) are those of accepted
    frames.
    """
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
        **({"bodies": bodies} if (bodies := summarise_bodies([record.bodies for record in records])) else {}),
    }


def failed_checks(records: Sequence[FrameRecord], transforms: Sequence[ReceivedTransform]) -> list[str]:
    """Return one sentence for each failed check; an empty list is a success."""
    accepted = {record.stamp_ns: record for record in records if record.accepted}
    stamps = [transform.stamp_ns for transform in transforms]
    unanswered = sum(record.outcome == NO_ANSWER for record in records)
    blank = sum(record.blank for record in accepted.values())
    with_patient = sum(not record.blank for record in records)
    errors = [record.errors.mtre_mm for record in accepted.values() if record.errors is not None]
    failed = []
    if unanswered:
        failed.append(f"frames without an answer: {unanswered}")
    if blank:
        failed.append(f"blank frames accepted: {blank}")
    if len(accepted) < MINIMUM_ACCEPTED_FRACTION * with_patient:
        failed.append(f"only {len(accepted)} of {with_patient} X-rays of the patient were accepted")
    if set(accepted) - set(stamps):
        failed.append(f"accepted frames without a transform on /tf: {len(set(accepted) - set(stamps))}")
    if set(stamps) - set(accepted):
        failed.append(f"transforms on /tf without an accepted frame: {len(set(stamps) - set(accepted))}")
    if any(later <= earlier for earlier, later in pairwise(stamps)):
        failed.append("the stamps on /tf do not increase")
    if errors and np.median(errors) > MEDIAN_MTRE_MM:
        failed.append(f"the median mTRE is {np.median(errors):.2f} mm, more than {MEDIAN_MTRE_MM:g} mm")
    if errors and max(errors) > MAXIMUM_MTRE_MM:
        failed.append(f"an accepted pose has an error of {max(errors):.1f} mm, more than {MAXIMUM_MTRE_MM:g} mm")
    return failed + failed_body_checks([record.bodies for record in records])
