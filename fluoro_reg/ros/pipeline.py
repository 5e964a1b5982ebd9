"""From subscription to /tf: what exists while the node is configured, and runs while it is active.

Executor's thread: `_on_frame` (order the stamps, fill the mailbox), the timers, the requests of services. Worker's thread:
`_work` (register, publish). They share the mailbox, the counters, and the requests that wait in the processor.
"""

import threading
import traceback
from dataclasses import replace

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.timer import Timer

from fluoro_reg.errors import InputError
from fluoro_reg.registration import Outcome, RegistrationOptions
from fluoro_reg.ros import conversions
from fluoro_reg.ros.debug_bundle import save_bundle
from fluoro_reg.ros.inputs import ImageInput
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.outputs import Outputs
from fluoro_reg.ros.pictures import Painter
from fluoro_reg.ros.processor import RESET_MEANWHILE, Frame, FrameProcessor, Processed, Start
from fluoro_reg.ros.reports import diagnostics_message
from fluoro_reg.ros.session import Session
from fluoro_reg.ros.stamps import StampOrder, StampVerdict
from fluoro_reg.ros.statistics import Statistics
from fluoro_reg.ros.worker import LatestWorker
from fluoro_reg.xray.image import Intensity

WATCH_PERIOD_S = 0.1
DIAGNOSTICS_PERIOD_S = 1.0
STOP_TIMEOUT_S = 30.0


class Pipeline:
    """One configured node's work. `start` and `stop` may alternate, `close` ends it."""

    def __init__(self, node: LifecycleNode, options: NodeOptions, registration: RegistrationOptions, session: Session) -> None:
        self._node = node
        self._log = node.get_logger()
        self._options = options
        self._setting = {
            "method": registration.method,
            "device": registration.device,
            "ct fingerprint": session.volume.fingerprint,
            "image_time_offset": options.image_time_offset,
        }
        self._statistics = Statistics()
        self._order = StampOrder(options.restart_after)
        self._processor = FrameProcessor(session.tracker, registration.method, Intensity(options.intensity), self._log.error)
        self._outputs = Outputs(node, options, Painter(session.volume, registration.device))
        self._worker: LatestWorker[tuple[int, Frame]] = LatestWorker(self._work, "registration")
        self._answering = threading.Lock()
        self._epoch = 0  # counted up by whatever makes the frames before it worthless
        self._input: ImageInput | None = None
        self._timers: list[Timer] = []
        self._enabled, self._once = True, False
        self._last: Processed | None = None
        self._start_subscription = node.create_subscription(PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, 1)

    def start(self) -> list[str]:
        """Subscribes and works; the publishers must be enabled already. Returns the topics it listens to."""
        self._outputs.valid(False)
        self._worker.start()
        self._input = ImageInput(self._node, self._options, self._order, self._statistics, self._on_frame)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # ROS time stands still while a simulation or bag is paused
        for period, callback in ((WATCH_PERIOD_S, self._watch), (DIAGNOSTICS_PERIOD_S, self._diagnose)):
            self._timers.append(self._node.create_timer(period, callback, clock=steady))
        return self._input.topics

    def stop(self) -> None:
        """Unsubscribes and waits for the frame in work.

        Raises:
            RuntimeError: it did not end in time.
        """
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._timers = []
        if self._input is not None:
            self._input.close()
            self._input = None
        self.reset()
        self._processor.discard_initial_pose()
        if not self._worker.stop(STOP_TIMEOUT_S):
            raise RuntimeError(f"the frame in work did not end within {STOP_TIMEOUT_S:.0f} s")

    def close(self) -> None:
        """Removes everything from the ROS graph."""
        self._node.destroy_subscription(self._start_subscription)
        self._outputs.close()

    def reset(self) -> None:
        """Forgets the last pose; frames that wait or are in work are not accepted any more."""
        with self._answering:
            self._epoch += 1
            self._worker.clear()
            self._processor.request_reset()
            self._outputs.valid(False)

    def register_once(self) -> None:
        """The next frame is registered afresh, in a disabled node too."""
        self._processor.request_reset()
        self._once = True

    def enable(self, state: bool) -> None:
        """A disabled node listens and answers nothing."""
        self._enabled = state
        if not state:
            self.reset()

    def save_debug(self) -> str:
        """Where the last frame was written.

        Raises:
            InputError: no frame was registered yet, or it cannot be written.
        """
        if self._last is None:
            raise InputError("no frame was registered yet")
        return save_bundle(self._options.debug, self._last).name

    def _on_frame(self, frame: Frame, verdict: StampVerdict) -> None:
        if not (self._enabled or self._once):
            self._statistics.count("ignored while disabled")
        elif verdict in (StampVerdict.NEW, StampVerdict.RESTARTED):
            if verdict is StampVerdict.RESTARTED:
                self._log.warning(verdict.value)
                self.reset()
            self._once = False
            self._worker.put((self._epoch, frame))
            self._statistics.counts["dropped"] = self._worker.dropped
        else:
            self._outputs.result_only(Processed(frame, self._processor.rejection(verdict.value)))

    def _work(self, waiting: tuple[int, Frame]) -> None:
        epoch, frame = waiting
        try:
            processed = self._too_old(self._processor.process(frame))
            with self._answering:
                if epoch != self._epoch and processed.result.accepted:
                    rejection = self._processor.rejection(RESET_MEANWHILE, Outcome.REJECTED_POSE)
                    processed = replace(processed, result=rejection)
                self._statistics.answered(processed.result, processed.latency_s)
                self._last = processed
                self._outputs.answer(processed)
            self._outputs.pictures(processed)
        except Exception as error:
            # Nobody above could catch it, and the thread must live: the next frame may be well.
            where = "".join(traceback.format_tb(error.__traceback__))
            self._log.error(f"an answer was not published: {type(error).__name__}\n{where}", throttle_duration_sec=10.0)

    def _too_old(self, processed: Processed) -> Processed:
        limit = self._options.maximum_image_age
        age = (self._node.get_clock().now().nanoseconds - processed.frame.stamp_ns) / conversions.NS_PER_S
        if limit == 0 or age <= limit or not processed.result.accepted:
            return processed
        reason = f"the image is {age:.2f} s old, more than maximum_image_age = {limit:g} s"
        rejection = self._processor.rejection(reason)
        return Processed(processed.frame, rejection, processed.xray, processed.decode_s)

    def _watch(self) -> None:
        if self._statistics.seconds_since_accepted() > self._options.valid_timeout:
            self._outputs.valid(False)
        if self._input is not None and self._input.monitor.check():
            self._log.warning(self._input.monitor.warning)

    def _diagnose(self) -> None:
        if self._input is None:
            return
        now = self._node.get_clock().now().nanoseconds
        name = self._node.get_name()
        message = diagnostics_message(name, now, self._statistics, self._input.monitor, self._setting)
        self._outputs.diagnostics.publish(message)

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            pose = conversions.pose_from_message(message)
        except InputError as error:
            self._log.warning(f"initialpose is ignored: {error}")
            return
        self._processor.request_initial_pose(Start(pose, message.header.frame_id))
