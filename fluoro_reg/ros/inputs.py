"""The subscriptions to images and CameraInfo: pair the messages, check their stamps, count them and pass them on."""

import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_profile_sensor_data,
    qos_profile_system_default,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from fluoro_reg.errors import InputError
from fluoro_reg.ros import conversions
from fluoro_reg.ros.frames import without_slash
from fluoro_reg.ros.input_monitor import InputMonitor
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.pairing import StampPairing
from fluoro_reg.ros.processor import Frame
from fluoro_reg.ros.serialised import SerialisedImage
from fluoro_reg.ros.stamps import StampChecker, StampStatus
from fluoro_reg.ros.statistics import Statistics

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble's name of the module
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

CAMERA_INFO_DEPTH = 10  # deeper than for images, of which only the newest counts: a lost CameraInfo would lose its image too
COUNTER_OF = {
    StampStatus.DUPLICATE: "duplicate stamps",
    StampStatus.LATE: "late stamps",
    StampStatus.FUTURE: "future stamps",
    StampStatus.RESTARTED: "restarts",
}


class ImageInput:
    """Subscribed until it is closed; `on_frame` is called with every pair and the status of its stamp.

    `camera` comes before the names of the topics: empty, or `second/`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        options: NodeOptions,
        stamps: StampChecker,
        statistics: Statistics,
        on_frame: Callable[[Frame, StampStatus], None],
        camera: str = "",
    ) -> None:
        self._node = node
        self._options = options
        self._stamps = stamps
        self._statistics = statistics
        self._on_frame = on_frame
        self._frame = options.second.frame if camera else options.frames.camera
        self._pairing: StampPairing[SerialisedImage, CameraInfo] = StampPairing()
        compressed = options.image_transport == "compressed"
        self._image_type, image_topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._subscriptions = [
            self._subscribe(self._image_type, camera + image_topic, 1, self._on_image, raw=True),
            self._subscribe(CameraInfo, camera + "camera_info", CAMERA_INFO_DEPTH, self._on_info),
        ]
        self.topics = [subscription.topic_name for subscription in self._subscriptions]
        self.monitor = InputMonitor(options.camera_info_timeout, *self.topics)

    def image_publishers(self) -> int:
        """Return how many publishers the image topic has."""
        return self._node.count_publishers(self.topics[0])

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _subscribe(self, message_type: type, topic: str, depth: int, callback: Callable, raw: bool = False) -> Subscription:
        def subscribe(events: SubscriptionEventCallbacks | None) -> Subscription:
            profile = image_profile(self._options.qos.image, depth)
            overrides = QoSOverridingOptions.with_default_policies()
            return self._node.create_subscription(
                message_type, topic, callback, profile, event_callbacks=events, qos_overriding_options=overrides, raw=raw
            )

        name = self._node.resolve_topic_name(topic)
        try:
            return subscribe(SubscriptionEventCallbacks(incompatible_qos=lambda _: self._on_incompatible(name)))
        except UnsupportedEventTypeError:  # a middleware without this event
            return subscribe(None)

    def _on_image(self, data: bytes) -> None:
        self._statistics.count("images")
        self.monitor.count_image()
        try:
            image = SerialisedImage.of(data, self._image_type)
        except InputError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)
            return
        self._on_pair(self._pairing.add_image(image.stamp_ns, image))

    def _on_info(self, info: CameraInfo) -> None:
        self._statistics.count("infos")
        self.monitor.count_info()
        self._on_pair(self._pairing.add_info(conversions.stamp_ns(info.header.stamp), info))

    def _on_pair(self, pair: tuple[SerialisedImage, CameraInfo] | None) -> None:
        self._statistics.counts["unpaired images"] = self._pairing.unpaired_images
        if pair is None:
            return
        self._statistics.count("pairs")
        self.monitor.count_pair()
        image, info = pair
        stamp = image.stamp_ns
        if stamp > 0:
            stamp = max(stamp + round(self._options.image_time_offset * conversions.NS_PER_S), 0)
        now = self._node.get_clock().now().nanoseconds
        status = self._stamps.check(stamp, now)
        if status in COUNTER_OF:
            self._statistics.count(COUNTER_OF[status])
        frame_id = self._frame or self._frame_id(image)
        self._on_frame(Frame(stamp, frame_id, image, info, time.monotonic(), (now - stamp) / conversions.NS_PER_S), status)

    def _frame_id(self, image: SerialisedImage) -> str:
        given = image.frame_id
        if given.startswith("/"):
            message = f"the frame_id of images, '{given}', begins with a slash, which tf2 does not allow; it is used without"
            self._node.get_logger().warning(message, once=True)
        return without_slash(given)

    def _on_incompatible(self, topic: str) -> None:
        self._statistics.count("incompatible publishers")
        self._node.get_logger().warning(
            f"a publisher on {topic} has a QoS incompatible with qos.image = {self._options.qos.image}; change one of the two",
            throttle_duration_sec=10.0,
        )


def image_profile(name: str, depth: int) -> QoSProfile:
    """Return the QoS profile that the parameter `qos.image` names."""
    if name == "reliable":
        return QoSProfile(
            depth=depth,
            history=QoSHistoryPolicy.KEEP_LAST,
            reliability=QoSReliabilityPolicy.RELIABLE,
            durability=QoSDurabilityPolicy.VOLATILE,
        )
    base = qos_profile_sensor_data if name == "sensor_data" else qos_profile_system_default
    return QoSProfile(depth=depth, history=QoSHistoryPolicy.KEEP_LAST, reliability=base.reliability, durability=base.durability)
