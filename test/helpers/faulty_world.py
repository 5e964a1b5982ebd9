"""A node in another process into which faults are injected, and the table of what happened."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import CameraInfo, Image

from fluoro_reg.ros import conversions
from helpers.ros_probe import FIRST_STAMP, FRAME_NS, Probe
from helpers.ros_processes import RosProcess

SECOND = 1_000_000_000
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


@dataclass
class World:
    """A node in another process, the probe, and the stamp of the next frame."""

    node: RosProcess
    probe: Probe
    stamp: int = FIRST_STAMP

    def next_stamp(self) -> int:
        self.stamp += FRAME_NS
        return self.stamp

    def publish(self, message: Image | None, info: CameraInfo | None = None) -> None:
        if info is not None:
            self.probe.camera_info_publisher.publish(info)
        if message is not None:
            self.probe.image_publisher.publish(message)

    def accept_one(self) -> None:
        """Send a good frame, which must be accepted and reach /tf."""
        stamp = self.next_stamp()
        status = self.probe.send_and_wait(stamp)
        assert status.level == DiagnosticStatus.OK, status.message
        self.probe.spin_until(lambda: stamp in self.stamps_on_tf())

    def stamps_on_tf(self) -> list[int]:
        return [conversions.stamp_ns(t.header.stamp) for t in self.probe.transforms() if t.child_frame_id == "patient"]

    def wait_for_result(self, count: int) -> str:
        self.probe.spin_until(lambda: len(self.probe.results()) >= count)
        return self.probe.results()[-1]["reason"]

    def change(self, transition: str) -> None:
        """Ask the node for a transition, which must succeed."""
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        assert self.probe.call(ChangeState, "change_state", request).success, transition
