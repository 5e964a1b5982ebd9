"""The processing from subscription to /tf; it exists while the node is configured and runs while the node is active.

The executor's thread runs what is here: `_on_frame` (check the stamp, fill the mailbox), the timers and the services.
`FrameWorker` registers and publishes in a thread of its own. They share its mailbox, the counters, the pending requests of the
processor and, with a second camera, the tree of frames.
"""

from collections.abc import Callable

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.timer import Timer

from fluoro_reg.errors import InputError
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.ros import conversions
from fluoro_reg.ros.debug_bundle import save_bundle
from fluoro_reg.ros.debug_images import DebugImageRenderer
from fluoro_reg.ros.frame_worker import FrameWorker
from fluoro_reg.ros.frames import with_reference_frame, without_slash
from fluoro_reg.ros.intake import Intake
from fluoro_reg.ros.options import NodeOptions
from fluoro_reg.ros.outputs import Outputs
from fluoro_reg.ros.processor import Frame, FrameProcessor, InitialPose, ProcessedFrame
from fluoro_reg.ros.reports import NodeState, diagnostic_name, diagnostics_message
from fluoro_reg.ros.second_camera import cameras_from_first
from fluoro_reg.ros.session import Session
from fluoro_reg.ros.stamps import StampChecker, StampStatus
from fluoro_reg.ros.statistics import Statistics
from fluoro_reg.ros.tf_edge import TfEdge
from fluoro_reg.ros.tf_input import TfInput
from fluoro_reg.ros.watchdog import HangError, Watchdog

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
        self._worker = FrameWorker(node, self._processor, self._outputs, self._edge, self._statistics, self._watchdog)
        tracker.when_search_ends(self._worker.search_has_ended)
        self._intake = Intake(node, options, self._stamps, self._statistics, self._on_frame, self._worker.put, self._reject)
        self._timers: list[Timer] = []
        self._enabled, self._register_next = True, False
        backward = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self._jumps = node.get_clock().create_jump_callback(backward, post_callback=self._on_time_jump)
        self._initial_pose_subscription = node.create_subscription(
            PoseWithCovarianceStamped, "initialpose", self._on_initial_pose, 1
        )

    def start(self) -> list[str]:
        """Subscribe and start the worker; the publishers must already be active. Return the subscribed topics."""
        self._outputs.set_valid(False)
        self._worker.start()
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
        if not self._worker.stop(STOP_TIMEOUT_S):
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
        self._worker.reset()

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
        if self._worker.last is None:
            raise InputError("no frame has been registered yet; publish an image first")
        return save_bundle(self._options.debug, self._worker.last).name

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

    def _reject(self, frame: Frame, reason: str) -> None:
        self._outputs.publish_unregistered(ProcessedFrame(frame, self._processor.rejection(reason)))

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
        self._worker.abandon(sentence)
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
