"""Everything the node publishes. Its publishers are lifecycle publishers, silent unless the node is active.

tf2_ros's broadcaster knows no lifecycle; where it is used, `Outputs.answer` is only called by the worker, which runs only while
the node is active and is joined before it becomes inactive.
"""

import importlib
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.ros import conversions
from fluoro_reg.ros.markers import scene_markers
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.pictures import Painter
from fluoro_reg.ros.processor import Processed
from fluoro_reg.ros.reports import result_message

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
TF_PROFILE = QoSProfile(depth=100)


class Outputs:
    """The publishers of one configured node."""

    def __init__(self, node: LifecycleNode, options: NodeOptions, painter: Painter) -> None:
        self._node = node
        self._options = options
        self._painter = painter
        create = node.create_lifecycle_publisher
        self._pose = create(PoseWithCovarianceStamped, "~/pose", 10)
        self._result = create(DiagnosticArray, "~/result", 10)
        self._valid = create(Bool, "~/valid", LATCHED)
        self._overlay = create(Image, "~/overlay", 1)
        self._drr = create(Image, "~/drr", 1)
        self._markers = create(MarkerArray, "~/markers", LATCHED)
        self.diagnostics = create(DiagnosticArray, "/diagnostics", 10)
        self._tf = self._tf_publisher() if options.tf.enable else None
        self._valid_state: bool | None = None
        self._valid_lock = threading.Lock()
        self._drawn_camera: tuple[CameraIntrinsics, str] | None = None
        self._last_picture_s = 0.0

    def close(self) -> None:
        """Destroys the publishers."""
        publishers = [self._pose, self._result, self._valid, self._overlay, self._drr, self._markers, self.diagnostics]
        if self._tf is not None:
            publishers.append(self._tf.publisher)
        for publisher in publishers:
            self._node.destroy_publisher(publisher)

    def answer(self, processed: Processed) -> None:
        """One frame's answer on all topics; a pose only when it is accepted."""
        frame, result = processed.frame, processed.result
        pose = result.camera_from_patient
        if result.accepted and pose is not None:
            if self._tf is not None:
                patient = self._options.frames.patient
                self._tf.send(conversions.transform_message(pose, frame.stamp_ns, frame.frame_id, patient))
            self._pose.publish(conversions.pose_message(pose, result.covariance, frame.stamp_ns, frame.frame_id))
        self.valid(result.accepted)
        self._result.publish(result_message(processed, self._node.get_name()))

    def result_only(self, processed: Processed) -> None:
        """The answer to a frame that was never registered and says nothing about the ones before it."""
        self._result.publish(result_message(processed, self._node.get_name()))

    def pictures(self, processed: Processed) -> None:
        """Overlay, DRR and markers of an accepted frame, as far as somebody wants them and not too often."""
        pose, xray, frame = processed.result.camera_from_patient, processed.xray, processed.frame
        if not processed.result.accepted or pose is None or xray is None:
            return
        if self._drawn_camera != (xray.intrinsics, frame.frame_id):
            self._drawn_camera = (xray.intrinsics, frame.frame_id)
            frames = (frame.frame_id, self._options.frames.patient)
            self._markers.publish(scene_markers(self._painter.volume, xray.intrinsics, *frames))
        due = time.monotonic() - self._last_picture_s >= 1 / self._options.debug.rate
        wanted = [publisher.get_subscription_count() > 0 for publisher in (self._overlay, self._drr)]
        if not due or not any(wanted):
            return
        self._last_picture_s = time.monotonic()
        for publisher, paint, is_wanted in zip(
            (self._overlay, self._drr), (self._painter.overlay, self._painter.drr), wanted, strict=True
        ):
            if is_wanted:
                publisher.publish(conversions.image_message(paint(xray, pose), frame.stamp_ns, frame.frame_id))

    def valid(self, state: bool) -> None:
        """Says on ~/valid whether the last pose may be relied on; only changes are published."""
        with self._valid_lock:
            if state != self._valid_state:
                self._valid_state = state
                self._valid.publish(Bool(data=state))

    def _tf_publisher(self) -> "_PlainTf | _Tf2RosTf":
        try:
            broadcaster = importlib.import_module("tf2_ros").TransformBroadcaster(self._node)
        except ImportError:
            return _PlainTf(self._node.create_lifecycle_publisher(TFMessage, "/tf", TF_PROFILE))
        return _Tf2RosTf(broadcaster)


class _PlainTf:
    """/tf without tf2_ros, which the ROS wheels lack."""

    def __init__(self, publisher: Any) -> None:
        self.publisher = publisher

    def send(self, transform: Any) -> None:
        self.publisher.publish(TFMessage(transforms=[transform]))


class _Tf2RosTf:
    """/tf by tf2_ros's broadcaster."""

    def __init__(self, broadcaster: Any) -> None:
        self._broadcaster = broadcaster
        self.publisher = broadcaster.pub_tf

    def send(self, transform: Any) -> None:
        self._broadcaster.sendTransform(transform)
