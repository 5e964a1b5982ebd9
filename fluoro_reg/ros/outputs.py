"""The publishers of the node except that on /tf. They are lifecycle publishers, which publish only while the node is active.

`~/valid` is repeated all the time and offers a deadline and liveliness. A consumer that requests them is told within a second
when the node has died or hangs, and no longer has to believe the last value.
"""

import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSLivelinessPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Bool
from visualization_msgs.msg import MarkerArray

from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.ros import conversions
from fluoro_reg.ros.debug_images import DebugImageRenderer
from fluoro_reg.ros.markers import body_markers, scene_markers
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.processor import ProcessedFrame
from fluoro_reg.ros.reports import Percentiles, diagnostic_name, result_message

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
VALID_PROFILE = QoSProfile(
    depth=1,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    deadline=Duration(seconds=0.5),
    liveliness=QoSLivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=1.0),
)
FLUSH_S = 1.0


class Outputs:
    """The publishers of a configured node."""

    def __init__(self, node: LifecycleNode, options: NodeOptions, renderer: DebugImageRenderer) -> None:
        self._node = node
        self.options = options
        self._renderer = renderer
        create = node.create_lifecycle_publisher
        self._pose = create(PoseWithCovarianceStamped, "~/pose", 10)
        self._fused = create(PoseWithCovarianceStamped, "~/fused_pose", 10) if options.tf.fuse else None
        self._result = create(DiagnosticArray, "~/result", 10)
        self._valid = create(Bool, "~/valid", VALID_PROFILE)
        self._overlay = create(Image, "~/overlay", 1)
        self._drr = create(Image, "~/drr", 1)
        self._markers = create(MarkerArray, "~/markers", LATCHED)
        self.diagnostics = create(DiagnosticArray, "/diagnostics", 10)
        self._valid_state: bool | None = None
        self._valid_lock = threading.Lock()
        self._frame_of_body = {body.name: body.frame for body in renderer.bodies}
        self._marked: tuple[CameraIntrinsics, str, tuple[bool, ...]] | None = None
        self._last_image_s = 0.0

    def close(self) -> None:
        """Destroy the publishers."""
        publishers = [self._pose, self._result, self._valid, self._overlay, self._drr, self._markers, self.diagnostics]
        for publisher in [*publishers, *([self._fused] if self._fused else [])]:
            self._node.destroy_publisher(publisher)

    def publish(self, processed: ProcessedFrame, percentiles_s: Percentiles) -> None:
        """Publish the result of a frame, with the percentiles of the last frames by stage; a pose only if it is accepted."""
        frame, result = processed.frame, processed.result
        pose = result.camera_from_patient
        if result.accepted and pose is not None:
            self._pose.publish(conversions.pose_message(pose, result.covariance, frame.stamp_ns, frame.frame_id))
        if (fused := processed.fused) is not None and self._fused is not None:
            message = conversions.pose_message(
                fused.anchor_from_patient, fused.covariance, frame.stamp_ns, self.options.frames.anchor
            )
            self._fused.publish(message)
        self.set_valid(result.accepted)
        self._result.publish(result_message(processed, diagnostic_name(self._node), percentiles_s, self._frame_of_body))

    def publish_unregistered(self, processed: ProcessedFrame) -> None:
        """Publish the rejection of a frame that was not registered; `~/valid` does not change."""
        self._result.publish(result_message(processed, diagnostic_name(self._node), {}, self._frame_of_body))

    def publish_debug_images(self, processed: ProcessedFrame) -> None:
        """Publish markers, overlay and DRR of an accepted frame; images only if subscribed to and at most at `debug.rate`."""
        result, xray, frame = processed.result, processed.xray, processed.frame
        if not result.accepted or xray is None:
            return
        marked = xray.intrinsics, frame.frame_id, tuple(body.accepted for body in result.bodies.values())
        if self._marked != marked:
            self._marked = marked
            frames = (frame.frame_id, self.options.frames.patient)
            markers = scene_markers(self._renderer.volume, xray.intrinsics, *frames)
            markers.markers += body_markers(self._renderer.bodies, result)
            self._markers.publish(markers)
        due = time.monotonic() - self._last_image_s >= 1 / self.options.debug.rate
        subscribed = [publisher.get_subscription_count() > 0 for publisher in (self._overlay, self._drr)]
        if not due or not any(subscribed):
            return
        self._last_image_s = time.monotonic()
        for publisher, render, is_subscribed in zip(
            (self._overlay, self._drr), (self._renderer.overlay, self._renderer.drr), subscribed, strict=True
        ):
            if is_subscribed:
                publisher.publish(conversions.image_message(render(xray, result), frame.stamp_ns, frame.frame_id))

    def set_valid(self, state: bool) -> None:
        """Publish on `~/valid` whether the last pose may be relied on, if that has changed."""
        with self._valid_lock:
            if state != self._valid_state:
                self._valid_state = state
                self._valid.publish(Bool(data=state))

    def repeat_valid(self) -> None:
        """Publish `~/valid` again, as a sign of life."""
        with self._valid_lock:
            if self._valid_state is not None:
                self._valid.publish(Bool(data=self._valid_state))

    def flush(self) -> None:
        """Wait a moment until subscribers have the last results, because the process is about to end."""
        for publisher in (self._result, self._valid, self.diagnostics):
            publisher.wait_for_all_acked(Duration(seconds=FLUSH_S))
