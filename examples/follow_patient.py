"""Follow the patient with a robot: only poses that the node has assessed, of recent images, and none that tf2 interpolated.

python examples/follow_patient.py --ros-args -p frame:=robot_base

Publishes `~/target`, the patient in the robot's frame, once for each accepted image. While it must not be followed, nothing is
published, and the reason is logged. It needs tf2_ros, but not the package fluoro_reg.
"""

import contextlib
from collections import deque

import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, TransformStamped
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.event_handler import QoSLivelinessChangedInfo, SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSLivelinessPolicy, QoSProfile
from rclpy.time import Time
from std_msgs.msg import Bool
from tf2_ros import Buffer, TransformException, TransformListener

# What the node offers on ~/valid. It repeats the value; a consumer that requests this is told when the repetition ends.
ALIVE = QoSProfile(
    depth=1,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    deadline=Duration(seconds=0.5),
    liveliness=QoSLivelinessPolicy.MANUAL_BY_TOPIC,
    liveliness_lease_duration=Duration(seconds=1.0),
)


class PatientFollower(Node):
    """Publishes the patient in `frame` for each assessed pose that is not older than `maximum_age`."""

    def __init__(self) -> None:
        super().__init__("patient_follower")
        source = self.declare_parameter("source", "registration_node").value
        self._frame = self.declare_parameter("frame", "robot_base").value
        self._patient = self.declare_parameter("patient", "patient").value
        self._maximum_age_s = self.declare_parameter("maximum_age", 0.5).value
        self._is_valid = False
        self._assessed: deque[int] = deque(maxlen=100)
        self._pending: PoseWithCovarianceStamped | None = None
        self._reason = ""
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, self)
        self._target = self.create_publisher(PoseStamped, "~/target", 10)
        events = SubscriptionEventCallbacks(deadline=lambda _: self._on_silence(), liveliness=self._on_liveliness)
        self.create_subscription(Bool, f"{source}/valid", self._on_valid, ALIVE, event_callbacks=events)
        self.create_subscription(PoseWithCovarianceStamped, f"{source}/pose", self._on_pose, 10)
        self.create_timer(0.02, self._follow, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def refusal(self) -> str:
        """Return why the newest pose must not be followed; empty if it may be."""
        if not self._is_valid:
            return "the node says that its pose is not valid, or says nothing"
        if not self._assessed:
            return "there is no pose yet"
        age_s = (self.get_clock().now().nanoseconds - self._assessed[-1]) * 1e-9
        return f"the newest pose is {age_s:.2f} s old" if age_s > self._maximum_age_s else ""

    def patient_at(self, stamp: Time) -> TransformStamped:
        """Return the patient in the robot's frame at the stamp of an image.

        The robot's own transforms may be interpolated at that stamp, but that of the node is there exactly.

        Raises:
            LookupError: no pose was assessed for this stamp, and tf2 would interpolate one.
            TransformException: a transform is missing; it may still arrive.
        """
        if stamp.nanoseconds not in self._assessed:
            raise LookupError("no pose was assessed for this stamp")
        return self._buffer.lookup_transform(self._frame, self._patient, stamp)

    def _on_valid(self, message: Bool) -> None:
        self._is_valid = message.data

    def _on_silence(self) -> None:
        self._is_valid = False

    def _on_liveliness(self, event: QoSLivelinessChangedInfo) -> None:
        if event.alive_count == 0:
            self._is_valid = False

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        self._assessed.append(Time.from_msg(message.header.stamp).nanoseconds)
        self._pending = message

    def _follow(self) -> None:
        reason = self.refusal()
        if reason[:20] != self._reason[:20]:  # without the numbers in it
            self.get_logger().info(f"not followed: {reason}" if reason else "following")
            self._reason = reason
        if reason or self._pending is None:
            return
        try:
            found = self.patient_at(Time.from_msg(self._pending.header.stamp))
        except TransformException:
            return  # tried again until it is too old
        self._pending = None
        self._publish(found)

    def _publish(self, found: TransformStamped) -> None:
        message = PoseStamped(header=found.header)
        message.pose.position.x = found.transform.translation.x
        message.pose.position.y = found.transform.translation.y
        message.pose.position.z = found.transform.translation.z
        message.pose.orientation = found.transform.rotation
        self._target.publish(message)


def main() -> None:
    rclpy.init()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(PatientFollower())


if __name__ == "__main__":
    main()
