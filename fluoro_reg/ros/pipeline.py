"""The processing from subscription to /tf; it exists while the node is configured and runs while the node is active.

The executor's thread runs `_on_frame` (check the stamp, fill the mailbox), the timers and the services. The worker's thread
runs `_process` (register, publish). They share the mailbox, the counters and the pending requests of the processor.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.timer import Timer

from fluoro_reg.errors import InputError
from fluoro_reg.registration import Outcome, RegistrationOptions
from fluoro_reg.ros import conversions
from fluoro_reg.ros.debug_bundle import save_bundle
from fluoro_reg.ros.debug_images import DebugImageRenderer
from fluoro_reg.ros.frames import with_reference_frame, without_slash
from fluoro_reg.ros.intake import Intake
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.outputs import Outputs
from fluoro_reg.ros.processor import RESET_DURING_REGISTRATION, Frame, FrameProcessor, InitialPose, ProcessedFrame
from fluoro_reg.ros.reports import NodeState, diagnostic_name, diagnostics_message
from fluoro_reg.ros.second_camera import cameras_from_first
from fluoro_reg.ros.session import Session
from fluoro_reg.ros.stamps import StampChecker, StampStatus
from fluoro_reg.ros.statistics import Statistics
from fluoro_reg.ros.tf_edge import TfEdge
from fluoro_reg.ros.tf_input import TfInput
from fluoro_reg.ros.watchdog import HangError, Watchdog
from fluoro_reg.ros.worker import LatestWorker

CHECK_PERIOD_S = 0.1
DIAGNOSTICS_PERIOD_S = 1.0
STOP_TIMEOUT_S = 30.0


class Pipeline:
    """The pipeline of a configured node. `start` and `stop` may alternate; `close` is final.

    Args:
        node: the node.
        options: its options.
        registration: options of the registration.
        session: the CT and the tracker.
        on_hang: called by the executor's thread when a registration hangs, to end the process; None if there is nobody to do
            so, and then it is only reported.
    """

    def __init__(
        self,
        node: LifecycleNode,
        options: NodeOptions,
        registration: RegistrationOptions,
        session: Session,
        on_hang: Callable[[], None] | None = None,
    ) -> None:
        self._node = node
        self._log = node.get_logger()
        self._bodies = session.bodies
        self._options = options = self._with_reference_frame(options)
        self._ct = session.volume
        self._configuration = {
            "method": session.method,
            "device": registration.device,
            "ct fingerprint": session.volume.fingerprint,
            "tf.mode": options.tf.mode if options.tf.enable else "off",
            "image_time_offset": options.image_time_offset,
            **({"bodies": ", ".join(body.name for body in session.bodies)} if session.bodies else {}),
        }
        frame_of_other = {body.name: body.frame for body in session.bodies[1:]}
        self._statistics = Statistics()
        self._stamps = StampChecker(options.restart_after, options.maximum_image_ahead)
        self._tf_input = TfInput(node, options)
        self._processor = FrameProcessor(
            session.tracker,
            session.method,
            options,
            self._log.error,
            list(frame_of_other.values()),
            (lambda frame: cameras_from_first(frame, self._tf_input.tree, options)) if options.second.frame else None,
        )
        self._outputs = Outputs(node, options, DebugImageRenderer(session.volume, registration.device, session.bodies))
        pivot = session.volume.centre_patient
        self._edge = TfEdge(node, options, self._tf_input, pivot, frame_of_other) if options.tf.enable else None
        self._reported_problem = ""
        tracker = session.tracker
        self._watchdog = Watchdog(options.computation_timeout, on_hang is not None, lambda: tracker.searching_since)
        self._on_hang = on_hang
        self._worker: LatestWorker[tuple[int, Frame]] = LatestWorker(self._process, "registration", self._process_late)
        tracker.when_search_ends(self._worker.wake)
        self._pictures: LatestWorker[ProcessedFrame] = LatestWorker(self._publish_pictures, "debug images")
        self._result_lock = threading.Lock()
        self._epoch = 0  # a reset increments it; results of frames from an earlier epoch are rejected
        self._epoch_of_last = 0
        self._intake = Intake(node, options, self._stamps, self._statistics, self._on_frame, self._register, self._reject)
        self._timers: list[Timer] = []
        self._enabled, self._register_next = True, False
        self._current_frame: Frame | None = None
        self._last_frame: ProcessedFrame | None = None
        backward = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self._jumps = node.get_clock().create_jump_callback(backward, post_callback=self._on_time_jump)
        self._initial_pose_subscription = node.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, 1
        )

    def start(self) -> list[str]:
        """Subscribe and start the worker; the publishers must already be active. Return the subscribed topics."""
        self._outputs.set_valid(False)
        self._worker.start()
        self._pictures.start()
        topics = self._intake.start()
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # ROS time stops while a simulation or a bag is paused
        for period, callback in ((CHECK_PERIOD_S, self._check_timeouts), (DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)):
            self._timers.append(self._node.create_timer(period, callback, clock=steady))
        return topics

    def stop(self) -> None:
        """Unsubscribe and wait for the frame being processed.

        Raises:
            HangError: the frame was not finished in time; the process is about to end.
        """
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._timers = []
        self._intake.stop()
        self.reset()
        self.forget_other_publishers()
        self._processor.discard_initial_pose()
        stops = (self._worker.stop, self._processor.close, self._pictures.stop)
        if not all(stop(STOP_TIMEOUT_S) for stop in stops):
            if self._on_hang is not None:
                self._on_hang()
            raise HangError(f"the current frame was not finished within {STOP_TIMEOUT_S:.0f} s; the node ends itself")
        self._outputs.flush()  # the process may end at once

    def close(self) -> None:
        """Destroy the subscription and the publishers."""
        self._jumps.unregister()
        self._node.destroy_subscription(self._initial_pose_subscription)
        self._outputs.close()
        self._tf_input.close()
        if self._edge is not None:
            self._edge.close()

    def change(self, options: NodeOptions, registration: RegistrationOptions) -> None:
        """Use other options from the next frame on; a frame never sees some of the old and some of the new ones."""
        self._options = self._outputs.options = self._with_reference_frame(options)
        self._processor.request_options(registration)

    def _with_reference_frame(self, options: NodeOptions) -> NodeOptions:
        return with_reference_frame(options, self._bodies[0].frame) if self._bodies else options

    def reset(self) -> None:
        """Forget the last pose; a waiting frame is dropped and a frame being processed is rejected."""
        with self._result_lock:
            self._epoch += 1
            self._worker.clear()
            self._processor.request_reset()
            self._outputs.set_valid(False)
            if self._edge is not None:
                self._edge.forget_poses()

    def forget_other_publishers(self) -> None:
        """Publish on /tf again, because another publisher of the same frame is said to be gone."""
        self._tf_input.forget_foreign()

    def register_once(self) -> None:
        """Register the next frame from the initial pose, even if the node is disabled."""
        self._processor.request_reset()
        self._register_next = True

    def enable(self, state: bool) -> None:
        """Enable or disable the registration of images; a disabled node ignores them."""
        self._enabled = state
        if not state:
            self.reset()

    def save_debug(self) -> str:
        """Write the last frame to `debug.folder` and return the name of its folder.

        Raises:
            InputError: no frame has been registered yet, or it cannot be written.
        """
        if self._last_frame is None:
            raise InputError("no frame has been registered yet; publish an image first")
        return save_bundle(self._options.debug, self._last_frame).name

    def _on_frame(self, frame: Frame, status: StampStatus) -> None:
        if not (self._enabled or self._register_next):
            self._statistics.count("ignored while disabled")
        elif status in (StampStatus.NEW, StampStatus.RESTARTED):
            if status is StampStatus.RESTARTED:
                self._log.warning(status.value)
                self._restart()
            self._register_next = False
            self._intake.put(frame)
        else:
            self._reject(frame, status.value)

    def _register(self, frame: Frame) -> None:
        self._worker.put((self._epoch, frame))
        self._statistics.counts["dropped"] = self._worker.dropped

    def _reject(self, frame: Frame, reason: str) -> None:
        self._outputs.publish_unregistered(ProcessedFrame(frame, self._processor.rejection(reason)))

    def _process(self, item: tuple[int, Frame]) -> None:
        self._epoch_of_last, frame = item
        self._current_frame = frame
        self._answer(lambda: self._processor.process(frame))

    def _process_late(self) -> None:
        """A search has ended, and no image has come since: answer the last one again."""
        self._answer(self._processor.process_late)

    def _answer(self, process: Callable[[], ProcessedFrame | None]) -> None:
        maximum_age_s = self._options.maximum_image_age  # as of now, like the options that the processor takes over
        self._watchdog.begin()
        try:
            if (answer := process()) is None:
                return
            processed = self._placed_on_tf(self._reject_if_too_old(answer, maximum_age_s))
            with self._result_lock:
                if self._epoch_of_last != self._epoch and processed.result.accepted:
                    processed = self._rejected(processed, RESET_DURING_REGISTRATION)
                self._publish(processed)
            self._pictures.put(processed)
        except Exception as error:
            self._log_unpublished("a result", error)
        finally:
            self._watchdog.end()

    def _publish_pictures(self, processed: ProcessedFrame) -> None:
        """In a thread of their own: registration does not wait for pictures, of which only the newest is of interest."""
        try:
            self._outputs.publish_debug_images(processed)
        except Exception as error:
            self._log_unpublished("a debug image", error)

    def _log_unpublished(self, what: str, error: Exception) -> None:
        """Log what no caller of a worker's function would catch; the thread must survive to process the next frame."""
        trace = "".join(traceback.format_tb(error.__traceback__))
        self._log.error(f"{what} was not published: {type(error).__name__}\n{trace}", throttle_duration_sec=10.0)

    def _publish(self, processed: ProcessedFrame) -> None:
        begin = time.monotonic()
        seconds = {} if processed.is_late else {"latency": processed.latency_s, **processed.seconds}
        self._statistics.record_result(processed.result, seconds, processed.is_late)
        self._last_frame = processed
        if processed.transforms and self._edge is not None:
            self._edge.send(processed.transforms)
        self._outputs.publish(processed, self._statistics.percentiles_s())
        self._statistics.record_seconds("publish", time.monotonic() - begin)

    def _placed_on_tf(self, processed: ProcessedFrame) -> ProcessedFrame:
        """Return an accepted frame with its transforms, or a rejected one if tf2 has no place for them."""
        result, frame = processed.result, processed.frame
        if self._edge is None or not result.accepted:
            return processed
        try:
            placed = self._edge.place(result, frame.stamp_ns, frame.frame_id)
            return replace(processed, transforms=placed.transforms, fused=placed.fused)
        except InputError as error:
            return self._rejected(processed, str(error))

    def _rejected(self, processed: ProcessedFrame, reason: str, outcome: Outcome = Outcome.REJECTED_POSE) -> ProcessedFrame:
        before = processed.result
        rejection = replace(self._processor.rejection(reason, outcome), state=before.state, frame=before.frame)
        return replace(processed, result=rejection, transforms=(), fused=None)

    def _reject_if_too_old(self, processed: ProcessedFrame, limit: float) -> ProcessedFrame:
        age = (self._node.get_clock().now().nanoseconds - processed.frame.stamp_ns) / conversions.NS_PER_S
        if limit == 0 or age <= limit or not processed.result.accepted:
            return processed
        reason = f"the image is {age:.2f} s old, more than maximum_image_age = {limit:g} s"
        return self._rejected(processed, reason, Outcome.REJECTED_IMAGE)

    def _check_timeouts(self) -> None:
        if self._statistics.seconds_since_accepted() > self._options.valid_timeout:
            self._outputs.set_valid(False)
        self._outputs.repeat_valid()
        for warning in self._intake.new_warnings():
            self._log.warning(warning)
        self._report_problem(self._edge.problem() if self._edge is not None else "")
        if sentence := self._watchdog.overdue():
            self._end(sentence)

    def _report_problem(self, problem: str) -> None:
        if problem and problem != self._reported_problem:
            self._log.error(f"no pose is published: {problem}")
        self._reported_problem = problem

    def _end(self, sentence: str) -> None:
        """Report a registration that hangs, and end the process."""
        if self._reported_problem == sentence:
            return
        self._report_problem(sentence)
        self._epoch += 1  # without the lock, which the hanging thread may hold
        self._outputs.set_valid(False)
        if self._current_frame is not None:
            rejection = self._processor.rejection(sentence, Outcome.NOT_CONVERGED)
            self._outputs.publish_unregistered(ProcessedFrame(self._current_frame, rejection))
        self._publish_diagnostics()
        self._outputs.flush()
        if self._on_hang is not None:
            self._on_hang()

    def _on_time_jump(self, jump: TimeJump) -> None:
        self._log.warning("the time on /clock went back; tracking restarts")
        self._stamps.restart()
        self._restart()

    def _restart(self) -> None:
        self._intake.clear()
        self._tf_input.tree.forget()
        self.reset()

    def _publish_diagnostics(self) -> None:
        if not self._intake.inputs:
            return
        now, first = self._node.get_clock().now().nanoseconds, self._intake.inputs[0]
        state = NodeState(
            problem=self._reported_problem,
            enabled=self._enabled,
            image_topic=first.topics[0],
            image_publishers=first.image_publishers(),
            image_timeout_s=self._options.image_timeout,
            valid_timeout_s=self._options.valid_timeout,
            ct=self._ct,
            configuration=self._configuration,
        )
        message = diagnostics_message(diagnostic_name(self._node), now, self._statistics, first.monitor, state)
        self._outputs.diagnostics.publish(message)

    def _on_initial_pose(self, message: PoseWithCovarianceStamped) -> None:
        try:
            pose = conversions.pose_from_message(message)
        except InputError as error:
            self._log.warning(f"initialpose is ignored: {error}")
            return
        self._processor.request_initial_pose(InitialPose(pose, without_slash(message.header.frame_id)))
