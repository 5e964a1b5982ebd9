"""Bones that move on their own in the demo: what the listener received for each, its error, and the checks that failed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.demo.scene import DemoScene
from fluoro_reg.evaluation.metrics import TargetErrors, target_registration_errors
from fluoro_reg.formats.bags import read_bag_body_truth, read_bag_truth
from fluoro_reg.formats.bodies import BodiesConfig, read_bodies
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.simulation.body_motion import BodyScene

MAXIMUM_IN_PLANE_MM = 2.0  # of an accepted body
_SEED = 0  # of the points at which errors are measured


@dataclass(frozen=True, slots=True)
class BodyRecord:
    """One body in one frame. `camera_from_patient` was received on /tf; `errors` are those of it, at points of the bone."""

    accepted: bool
    reason: str
    camera_from_patient: RigidTransform | None = None
    errors: TargetErrors | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry of frames.json."""
        pose, errors = self.camera_from_patient, self.errors
        return {
            "accepted": self.accepted,
            "reason": self.reason,
            "camera_from_patient": None if pose is None else pose.matrix().tolist(),
            "errors": None if errors is None else asdict(errors),
        }


@dataclass(frozen=True, slots=True)
class BodiesTruth:
    """The bodies, the true poses of each by stamp, and points on each; nothing where the CT is one body."""

    frames: dict[str, str]
    poses: dict[int, dict[str, RigidTransform]]
    points: dict[str, Float[Tensor, "_ 3"]]

    @staticmethod
    def read(scene: DemoScene) -> "BodiesTruth":
        """Read the files beside the bag."""
        if scene.bodies is None:
            return NO_BODIES
        config = read_bodies(scene.bodies.bodies)
        bodies = BodyScene.read(scene.bodies, read_ct(scene.ct), torch.Generator().manual_seed(_SEED))
        poses = read_bag_body_truth(scene.recording.truth)
        for stamp, pose in read_bag_truth(scene.recording.truth).items():
            if pose is not None:
                poses[stamp][config.reference] = pose
        return BodiesTruth(_frames(config), poses, bodies.points)

    def records(
        self, stamp_ns: int, answers: Mapping[str, Mapping[str, str]], received: Mapping[str, RigidTransform]
    ) -> dict[str, BodyRecord]:
        """The record of every body in one frame, from its status on ~/result and the transforms received, by frame."""
        records = {}
        for name, frame in self.frames.items():
            answer = answers.get(name, {"accepted": "false", "reason": "the node gave no answer"})
            pose, truth = received.get(frame), self.poses.get(stamp_ns, {}).get(name)
            errors = None
            if pose is not None and truth is not None:
                errors = target_registration_errors(pose, truth, self.points[name])
            records[name] = BodyRecord(answer["accepted"] == "true", answer["reason"], pose, errors)
        return records


NO_BODIES = BodiesTruth({}, {}, {})


def _frames(config: BodiesConfig) -> dict[str, str]:
    return {name: body.frame for name, body in config.bodies.items()}


def summarise_bodies(frames: Sequence[Mapping[str, BodyRecord]]) -> dict[str, dict[str, Any]]:
    """The entry `bodies` of summary.json; errors in mm over accepted frames."""
    summary = {}
    for name in frames[0] if frames else ():
        records = [frame[name] for frame in frames]
        errors = [record.errors for record in records if record.accepted and record.errors is not None]
        summary[name] = {
            "accepted": sum(record.accepted for record in records),
            "tf_received": sum(record.camera_from_patient is not None for record in records),
            "median_in_plane_mm": float(np.median([e.in_plane_mm for e in errors])) if errors else None,
            "max_in_plane_mm": max((e.in_plane_mm for e in errors), default=None),
            "median_mtre_mm": float(np.median([e.mtre_mm for e in errors])) if errors else None,
        }
    return summary


def failed_body_checks(frames: Sequence[Mapping[str, BodyRecord]]) -> list[str]:
    """Return one sentence for each failed check; an empty list is a success."""
    failed = []
    for name, body in summarise_bodies(frames).items():
        accepted = {n for n, frame in enumerate(frames) if frame[name].accepted}
        received = {n for n, frame in enumerate(frames) if frame[name].camera_from_patient is not None}
        if not accepted:
            failed.append(f"{name} was accepted in no frame")
        if accepted != received:
            failed.append(f"{name}: frames with a transform on /tf and accepted frames differ in {len(accepted ^ received)}")
        if (largest := body["max_in_plane_mm"]) is not None and largest > MAXIMUM_IN_PLANE_MM:
            failed.append(f"an accepted pose of {name} has an in-plane error of {largest:.1f} mm")
    return failed
