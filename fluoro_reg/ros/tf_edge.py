"""The node's edges on tf2: which frames they connect, whether the tree has room for them, and their publisher.

There is one edge, or one for each body that is accepted. Bodies other than the reference are always children: in mode `inverse`
the camera hangs on the reference, and they hang on the camera.

A frame has one parent on tf2. A second publisher of the same child makes the tree flicker between two poses, and nothing tells
the consumers. `TfEdge` therefore refuses to publish once `TfInput` has seen another publisher of the same child. Poses are then
rejected, so that lookups go stale and fail. This lasts until somebody calls `~/reset`, because two nodes that waited for each
other's silence would both begin again.

The broadcaster of tf2_ros is not a lifecycle publisher. It is safe here because only the worker calls `send`, and the worker
runs only while the node is active and is joined before the node becomes inactive.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import TransformStamped
from jaxtyping import Float
from rclpy.lifecycle import LifecycleNode
from tf2_msgs.msg import TFMessage
from torch import Tensor

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.fusion import FusedPose, PatientFusion
from fluoro_reg.registration.result import RegistrationResult
from fluoro_reg.ros import conversions
from fluoro_reg.ros.frame_tree import Forbidden
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.tf_input import TF_PROFILE, TfInput


@dataclass(frozen=True, slots=True)
class Placed:
    """The transforms to publish, and the fused pose that they hold, if poses are fused."""

    transforms: tuple[TransformStamped, ...]
    fused: FusedPose | None = None


class TfEdge:
    """Places accepted poses on tf2. `place` and `send` belong to the worker's thread.

    `tf_input` is what other nodes publish. `pivot` is the point of the patient (mm) about which fused poses turn.
    `frame_of_other` are the frames of bodies other than the reference, by name.
    """

    def __init__(
        self,
        node: LifecycleNode,
        options: NodeOptions,
        tf_input: TfInput,
        pivot: Float[Tensor, "3"],
        frame_of_other: Mapping[str, str] | None = None,
    ) -> None:
        self._node = node
        self._options = options
        self._frame_of_other = dict(frame_of_other or {})
        self._input = tf_input
        self._pivot = pivot
        self.forget_poses()
        inverse = options.tf.mode == "inverse"
        first = options.frames.camera if inverse else options.frames.patient  # empty until the first image names it
        self._input.children = (first, *self._frame_of_other.values())
        self._publisher, self._broadcaster = self._create_publisher()

    def close(self) -> None:
        """Destroy the publisher."""
        self._node.destroy_publisher(self._publisher)

    def place(self, result: RegistrationResult, stamp: int, camera_frame: str) -> Placed:
        """Return the transforms to publish for an accepted result, one for each accepted body; stamp in ns.

        Raises:
            InputError: another node publishes the same child, or the camera's pose in the anchor is unknown at the stamp or
                rests on a registration.
        """
        frames, mode = self._options.frames, self._options.tf.mode
        camera_from_patient = result.camera_from_patient
        assert camera_from_patient is not None  # or it would not be accepted
        if mode == "inverse":
            self._input.children = (camera_frame, *self._frame_of_other.values())
        self._refuse_second_parent()
        others = self._others(result)
        if mode == "inverse":
            first = conversions.transform_message(camera_from_patient.inverse(), stamp, frames.patient, camera_frame)
            return Placed((first, *_transforms(others, stamp, camera_frame)))
        if mode == "direct":
            return Placed(_transforms({frames.patient: camera_from_patient, **others}, stamp, camera_frame))
        above = Forbidden(self._input.children, "use tf.mode direct")
        anchor_from_camera = self._input.tree.lookup(frames.anchor, camera_frame, stamp, self._options.tf.timeout, above)
        fused = self._fusion.add(anchor_from_camera, result) if self._options.tf.fuse else None
        pose = anchor_from_camera @ camera_from_patient if fused is None else fused.anchor_from_patient
        placed = {frames.patient: pose, **{child: anchor_from_camera @ other for child, other in others.items()}}
        return Placed(_transforms(placed, stamp, frames.anchor), fused)

    def send(self, transforms: Sequence[TransformStamped]) -> None:
        """Publish transforms from `place`, in one message."""
        self._input.remember(transforms)
        self._broadcaster.sendTransform(list(transforms))

    def problem(self) -> str:
        """Return why an edge cannot be published at present, in words; empty if all can."""
        child = next((child for child in self._input.children if child in self._input.foreign), None)
        if child is None:
            return ""
        foreign = self._input.foreign[child]
        topic, then = ("/tf_static", "configure this node again") if foreign.is_static else ("/tf", "call ~/reset")
        rename = "the frame in bodies.path" if self._frame_of_other else "frames.patient"
        return (
            f"another node publishes '{child}' below '{foreign.parent}' on {topic}, and a frame has one parent on tf2; "
            f"stop that node, rename {rename}, or choose another tf.mode, and then {then}"
        )

    def forget_poses(self) -> None:
        """Begin the fusion anew with the next frame."""
        tf = self._options.tf
        self._fusion = PatientFusion(self._pivot, (tf.anchor_sd_mm, math.radians(tf.anchor_sd_deg)))

    def _others(self, result: RegistrationResult) -> dict[str, RigidTransform]:
        """`camera_from_patient` of the accepted bodies other than the reference, by frame."""
        poses = dict[str, RigidTransform]()
        for name, frame in self._frame_of_other.items():
            body = result.bodies[name]
            if body.accepted and body.camera_from_patient is not None:
                poses[frame] = body.camera_from_patient
        return poses

    def _refuse_second_parent(self) -> None:
        if problem := self.problem():
            raise InputError(problem)

    def _create_publisher(self) -> tuple[Any, Any]:
        try:
            broadcaster = importlib.import_module("tf2_ros").TransformBroadcaster(self._node)
        except ImportError:
            publisher = self._node.create_lifecycle_publisher(TFMessage, "/tf", TF_PROFILE)
            return publisher, _Broadcaster(publisher)
        return broadcaster.pub_tf, broadcaster


class _Broadcaster:
    """Publishes on /tf without tf2_ros, which the ROS wheels do not include."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher

    def sendTransform(self, transforms: list[TransformStamped]) -> None:  # noqa: N802
        self._publisher.publish(TFMessage(transforms=transforms))


def _transforms(parent_from_child: Mapping[str, RigidTransform], stamp: int, parent: str) -> tuple[TransformStamped, ...]:
    """The messages of several children of one parent."""
    return tuple(conversions.transform_message(pose, stamp, parent, child) for child, pose in parent_from_child.items())
