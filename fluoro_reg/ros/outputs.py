"""The publishers of the node. They are lifecycle publishers, which publish only while the node is active.

The broadcaster of tf2_ros is not a lifecycle publisher. It is safe here because only the worker calls `Outputs.publish`, and
the worker runs only while the node is active and is joined before the node becomes inactive.
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
from fluoro_reg.ros.debug_images import DebugImageRenderer
from fluoro_reg.ros.markers import scene_markers
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.processor import ProcessedFrame
from fluoro_reg.ros.reports import result_message

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
TF_PROFILE = QoSProfile(depth=100)


class Outputs:
    """The publishers of a configured node."""

    def __init__(self, node: LifecycleNode, options: NodeOptions, renderer: DebugImageRenderer) -> None:
        self._node = node
        self._options = options
        self._renderer = renderer
        create = node.create_lifecycle_publisher
        self._pose = create(PoseWithCovarianceStamped, "~/pose", 10)
        self._result = create(DiagnosticArray, "~/result", 10)
        self._valid = create(Bool, "~/valid", LATCHED)
        self._overlay = create(Image, "~/overlay", 1)
        self._drr = create(Image, "~/drr", 1)
        self._markers = create(MarkerArray, "~/markers", LATCHED)
        self.diagnostics = create(DiagnosticArray, "/diagnostics", 10)
        self._tf = self._create_tf_publisher() if options.tf.enable else None
        self._valid_state: bool | None = None
        self._valid_lock = threading.Lock()
        self._marked_camera: tuple[CameraIntrinsics, str] | None = None
        self._last_image_s = 0.0

    def close(self) -> None:
        """Destroy the publishers."""
        publishers = [self._pose, self._result, self._valid, self._overlay, self._drr, self._markers, self.diagnostics]
        if self._tf is not None:
            publishers.append(self._tf.publisher)
        for publisher in publishers:
            self._node.destroy_publisher(publisher)

    def publish(self, processed: ProcessedFrame) -> None:
        """Publish the result of a frame on all topics; a pose only if it is accepted."""
        frame, result = processed.frame, processed.result
        pose = result.camera_from_patient
        if result.accepted and pose is not None:
            if self._tf is not None:
                patient = self._options.frames.patient
                self._tf.send(conversions.transform_message(pose, frame.stamp_ns, frame.frame_id, patient))
            self._pose.publish(conversions.pose_message(pose, result.covariance, frame.stamp_ns, frame.frame_id))
        self.set_valid(result.accepted)
        self._result.publish(result_message(processed, self._node.get_name()))

    def publish_unregistered(self, processed: ProcessedFrame) -> None:
        """Publish the rejection of a frame that was not registered; `~/valid` does not change."""
        self._result.publish(result_message(processed, self._node.get_name()))

    def publish_debug_images(self, processed: ProcessedFrame) -> None:
        """Publish markers, overlay and DRR of an accepted frame; images only if subscribed to and at most at `debug.rate`."""
        pose, xray, frame = processed.result.camera_from_patient, processed.xray, processed.frame
        if not processed.result.accepted or pose is None or xray is None:
            return
        if self._marked_camera != (xray.intrinsics, frame.frame_id):
            self._marked_camera = (xray.intrinsics, frame.frame_id)
            frames = (frame.frame_id, self._options.frames.patient)
            self._markers.publish(scene_markers(self._renderer.volume, xray.intrinsics, *frames))
        due = time.monotonic() - self._last_image_s >= 1 / self._options.debug.rate
        subscribed = [publisher.get_subscription_count() > 0 for publisher in (self._overlay, self._drr)]
        if not due or not any(subscribed):
            return
        self._last_image_s = time.monotonic()
        for publisher, render, is_subscribed in zip(
            (self._overlay, self._drr), (self._renderer.overlay, self._renderer.drr), subscribed, strict=True
        ):
            if is_subscribed:
                publisher.publish(conversions.image_message(render(xray, pose), frame.stamp_ns, frame.frame_id))

    def set_valid(self, state: bool) -> None:
        """Publish on `~/valid` whether the last pose may be relied on; only changes are published."""
        with self._valid_lock:
            if state != self._valid_state:
                self._valid_state = state
                self._valid.publish(Bool(data=state))

    def _create_tf_publisher(self) -> "_TfPublisher | _TfBroadcaster":
        try:
            broadcaster = importlib.import_module("tf2_ros").TransformBroadcaster(self._node)
        except ImportError:
            return _TfPublisher(self._node.create_lifecycle_publisher(TFMessage, "/tf", TF_PROFILE))
        return _TfBroadcaster(broadcaster)


class _TfPublisher:
    """Publishes on /tf without tf2_ros, which the ROS wheels do not include."""

    def __init__(self, publisher: Any) -> None:
        self.publisher = publisher

    def send(self, transform: Any) -> None:
        self.publisher.publish(TFMessage(transforms=[transform]))


class _TfBroadcaster:
    """Publishes on /tf with the broadcaster of tf2_ros."""

    def __init__(self, broadcaster: Any) -> None:
        self._broadcaster = broadcaster
        self.publisher = broadcaster.pub_tf

    def send(self, transform: Any) -> None:
        self._broadcaster.sendTransform(transform)
