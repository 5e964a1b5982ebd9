"""Send accepted poses to 3D Slicer, PLUS or any other client of OpenIGTLink.

python examples/openigtlink_bridge.py --ros-args -p port:=18944

It serves a TRANSFORM named `CameraToPatient` for each accepted image, in mm and in the RAS axes of 3D Slicer, and all the time
a STRING named `PoseStatus`: `valid` or `not valid`, as the node says. It needs pyigtl, but not the package fluoro_reg.
"""

import contextlib

import numpy as np
import pyigtl
import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rclpy.time import Time
from std_msgs.msg import Bool

MM_PER_M = 1000.0
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


class OpenIGTLinkBridge(Node):
    """Serves the poses of a registration node."""

    def __init__(self) -> None:
        super().__init__("openigtlink_bridge")
        source = self.declare_parameter("source", "registration_node").value
        self._server = pyigtl.OpenIGTLinkServer(port=self.declare_parameter("port", 18944).value)
        self.create_subscription(PoseWithCovarianceStamped, f"{source}/pose", self._on_pose, 10)
        self.create_subscription(Bool, f"{source}/valid", self._on_valid, LATCHED)

    def _on_pose(self, message: PoseWithCovarianceStamped) -> None:
        stamp_s = Time.from_msg(message.header.stamp).nanoseconds * 1e-9
        matrix = RAS_FROM_LPS @ np.linalg.inv(camera_from_patient(message))
        self._send(pyigtl.TransformMessage(matrix, timestamp=stamp_s, device_name="CameraToPatient"))

    def _on_valid(self, message: Bool) -> None:
        status = "valid" if message.data else "not valid"
        self._send(pyigtl.StringMessage(status, device_name="PoseStatus"))

    def _send(self, message: pyigtl.messages.MessageBase) -> None:
        if self._server.is_connected():  # or messages would be kept for a client that may never come
            self._server.send_message(message, wait=False)

    def destroy_node(self) -> None:
        self._server.stop()
        super().destroy_node()


def camera_from_patient(message: PoseWithCovarianceStamped) -> np.ndarray:
    """The pose of the patient (LPS, mm) in the camera's optical frame, 4 x 4."""
    p, q = message.pose.pose.position, message.pose.pose.orientation
    x, y, z, w = q.x, q.y, q.z, q.w
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = np.array([p.x, p.y, p.z]) * MM_PER_M
    return pose


def main() -> None:
    rclpy.init()
    bridge = OpenIGTLinkBridge()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(bridge)
    bridge.destroy_node()


if __name__ == "__main__":
    main()
