"""What other nodes publish on /tf and /tf_static: the tree of frames, and who else publishes a child of this node.

The node's own transforms come back on /tf. They are recognised and left out, so that no pose rests on an earlier one.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from geometry_msgs.msg import TransformStamped
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from tf2_msgs.msg import TFMessage

from fluoro_reg.ros.frame_tree import FrameTree
from fluoro_reg.ros.frames import without_slash
from fluoro_reg.ros.options import NodeOptions

TF_PROFILE = QoSProfile(depth=100)
TF_STATIC_PROFILE = QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
REMEMBERED = 1000  # own transforms that may still come back on /tf


@dataclass(frozen=True, slots=True)
class Foreign:
    """A transform of another node to a child that may be the node's."""

    parent: str
    is_static: bool


class TfInput:
    """Subscribed until it is closed, but not at all where the node neither publishes on tf2 nor looks anything up there.

    The executor's thread receives, and the worker's thread looks up and remembers.

    `children` are the frames that this node publishes; "" stands for one that the first image names. `tree` is kept where a
    pose is looked up in it: for `tf.mode: anchored`, and for a second camera whose pose comes from tf2.
    """

    def __init__(self, node: LifecycleNode, options: NodeOptions) -> None:
        self._node = node
        self._keeps_tree = bool(options.second.frame) or (options.tf.enable and options.tf.mode == "anchored")
        self._lock = threading.Lock()
        self._sent: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self.tree = FrameTree(options.tf.maximum_gap)
        self.children: tuple[str, ...] = ()
        self.foreign: dict[str, Foreign] = {}  # by child
        self._subscriptions = []
        if options.tf.enable or self._keeps_tree:
            self._subscriptions = [
                node.create_subscription(TFMessage, "/tf", self._on_tf, TF_PROFILE, raw=True),
                node.create_subscription(TFMessage, "/tf_static", self._on_tf_static, TF_STATIC_PROFILE),
            ]

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def remember(self, transforms: Iterable[TransformStamped]) -> None:
        """Take these transforms, which are about to be published, for the node's own when they come back."""
        with self._lock:
            for transform in transforms:
                self._sent[_key(transform)] = None
            while len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)

    def forget_foreign(self) -> None:
        """Take the other publishers of the children on /tf to be gone; on /tf_static, tf2 keeps what they published."""
        self.foreign = {child: foreign for child, foreign in self.foreign.items() if foreign.is_static}

    def _on_tf(self, data: bytes) -> None:
        # Other nodes publish much on /tf, and reading all of it takes time in Python.
        needs_all = self._keeps_tree or "" in self.children
        if not needs_all and not any(f"{child}\0".encode() in data for child in self.children):
            return
        try:
            transforms = deserialize_message(data, TFMessage).transforms
        except (RuntimeError, UnicodeDecodeError):
            self._node.get_logger().warning("a message on /tf is damaged and is ignored", throttle_duration_sec=10.0)
            return
        for transform in transforms:
            if not self._is_own(transform):
                self._note(transform, is_static=False)

    def _on_tf_static(self, message: TFMessage) -> None:
        for transform in message.transforms:
            self._note(transform, is_static=True)

    def _note(self, transform: TransformStamped, is_static: bool) -> None:
        child, parent = without_slash(transform.child_frame_id), without_slash(transform.header.frame_id)
        if self._keeps_tree:
            self.tree.add(transform, is_static)
        if is_static or "" in self.children or child in self.children:
            self.foreign[child] = Foreign(parent, is_static)

    def _is_own(self, transform: TransformStamped) -> bool:
        """Return whether this is the node's transform, which comes back, or an equal one, which does no harm."""
        with self._lock:
            return _key(transform) in self._sent


def _key(transform: TransformStamped) -> tuple[object, ...]:
    t, q, header = transform.transform.translation, transform.transform.rotation, transform.header
    numbers = (t.x, t.y, t.z, q.x, q.y, q.z, q.w)
    return header.stamp.sec, header.stamp.nanosec, header.frame_id, transform.child_frame_id, *numbers
