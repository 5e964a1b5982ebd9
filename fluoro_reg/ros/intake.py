"""Everything that arrives: the images of one camera, or of two whose frames of one moment are paired."""

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode

from fluoro_reg.ros.inputs import ImageInput
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.processor import Frame
from fluoro_reg.ros.second_camera import FramePairing
from fluoro_reg.ros.stamps import StampChecker, StampStatus
from fluoro_reg.ros.statistics import Statistics

SECOND_CAMERA = "second/"  # before the names of its topics


class Intake:
    """The subscriptions, from `start` until `stop`.

    Args:
        node: The node that subscribes.
        options: Options of the node.
        stamps: Checks the stamps of the first camera.
        statistics: Counts what comes from the first camera.
        on_frame: Called with every frame of the first camera and the status of its stamp; `put` takes those that are wanted.
        on_complete: Called with each frame that is to be registered, with that of the second camera if there is one.
        on_alone: Called with a frame that has no partner, and the reason.
    """

    def __init__(
        self,
        node: LifecycleNode,
        options: NodeOptions,
        stamps: StampChecker,
        statistics: Statistics,
        on_frame: Callable[[Frame, StampStatus], None],
        on_complete: Callable[[Frame], None],
        on_alone: Callable[[Frame, str], None],
    ) -> None:
        self._node, self._options, self._stamps, self._statistics = node, options, stamps, statistics
        self._on_frame, self._on_complete = on_frame, on_complete
        self._has_second = options.second.exists
        self._pairing = FramePairing(options.second.tolerance, on_complete, on_alone)
        self.inputs: list[ImageInput] = []  # the first camera's before the second's; empty while stopped

    def start(self) -> list[str]:
        """Subscribe, and return the topics."""
        self.inputs = [ImageInput(self._node, self._options, self._stamps, self._statistics, self._on_frame)]
        if self._has_second:
            stamps = StampChecker(self._options.restart_after, self._options.maximum_image_ahead)
            self.inputs.append(ImageInput(self._node, self._options, stamps, Statistics(), self._on_second, SECOND_CAMERA))
        return [topic for one in self.inputs for topic in one.topics]

    def stop(self) -> None:
        """Unsubscribe."""
        for one in self.inputs:
            one.close()
        self.inputs = []
        self.clear()

    def clear(self) -> None:
        """Forget frames that wait for a partner."""
        self._pairing.clear()

    def put(self, frame: Frame) -> None:
        """Take a frame of the first camera, which waits for its partner where there are two."""
        if self._has_second:
            self._pairing.add_first(frame)
        else:
            self._on_complete(frame)

    def new_warnings(self) -> list[str]:
        """Return what is missing on the topics, if that is new."""
        return [one.monitor.warning for one in self.inputs if one.monitor.check()]

    def _on_second(self, frame: Frame, status: StampStatus) -> None:
        """Only frames with new stamps can have a partner."""
        if status is StampStatus.RESTARTED:
            self.clear()
        if status in (StampStatus.NEW, StampStatus.RESTARTED):
            self._pairing.add_second(frame)
