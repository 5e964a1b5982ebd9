"""`registration_node`: a managed node that registers the images of a C-arm and publishes the pose of the patient on tf2.

`configure` reads the parameters and loads the CT; a failure is logged in one sentence. `activate` subscribes and starts the
worker, `deactivate` stops both and keeps the CT, `cleanup` releases the CT. `Pipeline` does the processing in between.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool, Trigger

from fluoro_reg.errors import InputError
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.registration.method import load_method
from fluoro_reg.ros.frames import check_frame_options
from fluoro_reg.ros.options import CHANGEABLE, NodeOptions
from fluoro_reg.ros.parameter_sources import unmatched_parameters
from fluoro_reg.ros.parameters import ParameterSet
from fluoro_reg.ros.pipeline import Pipeline
from fluoro_reg.ros.python_log import python_log_in
from fluoro_reg.ros.session import Session, load_session
from fluoro_reg.ros.watchdog import HangError

try:  # it builds no wait set for every message: a third of the processor time
    from rclpy.experimental import EventsExecutor as Executor
except ImportError:  # an older rclpy
    from rclpy.executors import SingleThreadedExecutor as Executor

SessionLoader = Callable[[NodeOptions, RegistrationOptions, Callable[[str], object]], Session]

NODE_NAME = "registration_node"
NOT_ACTIVE = "the node is not active"
SPIN_PERIOD_S = 0.2  # maximum delay until a signal is handled
HUNG_STATUS = 3


class RegistrationNode(LifecycleNode):
    """The lifecycle node.

    Args:
        load: called by `configure` to load the CT and make the tracker.
        on_hang: called when a registration hangs, to end the process; None in a process that must survive that.
        arguments: passed on to `LifecycleNode`.
    """

    def __init__(self, load: SessionLoader = load_session, on_hang: Callable[[], None] | None = None, **arguments: Any) -> None:
        super().__init__(NODE_NAME, automatically_declare_parameters_from_overrides=True, **arguments)
        self._load = load
        self._on_hang = on_hang
        self._parameter_set = ParameterSet(
            self, NodeOptions, RegistrationOptions, changeable=CHANGEABLE, checks={"method": load_method}
        )
        self._pipeline: Pipeline | None = None
        self._is_active = False
        self.create_service(Trigger, "~/reset", self._on_reset)
        self.create_service(Trigger, "~/register_once", self._on_register_once)
        self.create_service(Trigger, "~/save_debug", self._on_save_debug)
        self.create_service(SetBool, "~/enable", self._on_enable)

    def autostart(self) -> bool:
        """Configure and activate the node if the parameter `autostart` is set; return False if that fails."""
        if problem := self._parameter_set.problem_of("autostart"):
            self.get_logger().error(f"cannot start: {problem}; write true or false, without quotes")
            return False
        if not self.get_parameter("autostart").value:
            name = self.get_fully_qualified_name()
            self.get_logger().info(
                f"unconfigured, because autostart is false: waiting for a lifecycle manager or "
                f"`ros2 lifecycle set {name} configure`; with `-p autostart:=true` the node starts by itself"
            )
            return True
        success = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == success and self.trigger_activate() == success

    def set_parameters(self, parameter_list: list[Parameter]) -> list[SetParametersResult]:
        """Set parameters, one after the other."""
        return [self.set_parameters_atomically([parameter]) for parameter in parameter_list]

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set all of the parameters or none; the services of ROS call this, too."""
        result = self._parameter_set.set(parameter_list, super().set_parameters_atomically)
        if result.successful and self._pipeline is not None:
            self._pipeline.change(self._parameter_set.read(NodeOptions), self._parameter_set.read(RegistrationOptions))
        return result

    def describe_parameter(self, name: str) -> ParameterDescriptor:
        """Return the descriptor of a parameter; most are read-only while the node is configured."""
        return self._parameter_set.described(super().describe_parameter(name))

    def close(self) -> None:
        """Stop the pipeline and release the CT, in any state of the node."""
        self._run_transition("shut down", self._release)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load the CT."""
        return self._run_transition("configure", self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate the publishers, then start the pipeline, because the worker may publish at once."""
        result = super().on_activate(state)
        return result if result != TransitionCallbackReturn.SUCCESS else self._run_transition("activate", self._activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the pipeline, then deactivate the publishers, so that `~/valid` can still become false."""
        result = self._run_transition("deactivate", self._deactivate)
        return result if result != TransitionCallbackReturn.SUCCESS else super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release the CT."""
        return self._run_transition("clean up", self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the pipeline and release the CT; possible from any state."""
        return self._run_transition("shut down", self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to the unconfigured state with nothing left running."""
        return self._run_transition("recover", self._release)

    def _configure(self) -> None:
        options = self._parameter_set.read(NodeOptions)
        registration = self._parameter_set.read(RegistrationOptions)
        check_frame_options(options)
        session = self._load(options, registration, self.get_logger().info)
        for warning in session.volume.warnings:
            self.get_logger().warning(f"CT: {warning}")
        self._pipeline = Pipeline(self, options, registration, session, self._on_hang)
        self._parameter_set.frozen = True

    def _activate(self) -> None:
        assert self._pipeline is not None, "the state machine activates configured nodes only"
        topics = self._pipeline.start()
        self._is_active = True
        self.get_logger().info(f"active: waiting for images on {' and '.join(topics)}")

    def _deactivate(self) -> None:
        if self._pipeline is not None and self._is_active:
            self._is_active = False
            self._pipeline.stop()

    def _release(self) -> None:
        self._deactivate()
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline = None
        self._parameter_set.frozen = False

    def _run_transition(self, name: str, step: Callable[[], None]) -> TransitionCallbackReturn:
        """Run a transition and log what it raises, which rclpy would discard."""
        try:
            step()
        except InputError as error:
            self.get_logger().error(f"cannot {name}: {error}")
            return TransitionCallbackReturn.FAILURE
        except HangError as error:
            self.get_logger().fatal(f"cannot {name}: {error}")
            return TransitionCallbackReturn.ERROR
        except Exception as error:
            # Without the exception's message, which may quote a path or a header.
            trace = "".join(traceback.format_tb(error.__traceback__))
            self.get_logger().fatal(f"cannot {name}: {type(error).__name__}\n{trace}")
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def reset(pipeline: Pipeline) -> str:
            pipeline.reset()
            pipeline.forget_other_publishers()
            return "the last pose was discarded"

        return self._respond(response, reset)

    def _on_register_once(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        def register_once(pipeline: Pipeline) -> str:
            pipeline.register_once()
            return "the next image will be registered from the initial pose; see ~/result"

        return self._respond(response, register_once)

    def _on_save_debug(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._respond(response, lambda pipeline: f"saved as {pipeline.save_debug()} in debug.folder")

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        def enable(pipeline: Pipeline) -> str:
            pipeline.enable(request.data)
            return "enabled" if request.data else "disabled: images are ignored"

        return self._respond(response, enable)

    def _respond(self, response: Any, action: Callable[[Pipeline], str]) -> Any:
        if self._pipeline is None or not self._is_active:
            response.success, response.message = False, NOT_ACTIVE
            return response
        try:
            response.success, response.message = True, action(self._pipeline)
        except InputError as error:
            response.success, response.message = False, str(error)
        return response


class StopSignals:
    """Handlers of SIGINT and SIGTERM that request a clean shutdown; a second signal terminates the process at once.

    The handlers of rclpy would shut the context down while the worker is still using it, with `~/valid` still true. While the
    node starts, nothing is published yet, and a signal ends the program where it is.
    """

    def __init__(self) -> None:
        self.requested = False
        self.starting = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.requested = True
        signal.signal(number, signal.SIG_DFL)
        if self.starting:
            sys.exit(0)


def main(args: list[str] | None = None, load: SessionLoader = load_session) -> int:
    """Run the node until a signal; return 0, 2 if an autostart fails, or end with status 3 if a registration hangs."""
    stop = StopSignals()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    hung = threading.Event()
    node = RegistrationNode(load, hung.set)
    for line in unmatched_parameters(sys.argv if args is None else args, node.get_fully_qualified_name()):
        node.get_logger().warning(line)
    executor = Executor()
    executor.add_node(node)
    try:
        with python_log_in(node.get_logger()):
            try:
                if not node.autostart():
                    return 2
                stop.starting = False
                while rclpy.ok() and not stop.requested and not hung.is_set():
                    executor.spin_once(timeout_sec=SPIN_PERIOD_S)
                return 0
            finally:
                if not hung.is_set():
                    node.close()  # it would wait for a registration that hangs
    finally:
        executor.shutdown()
        node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
        if hung.is_set():
            os._exit(HUNG_STATUS)  # the interpreter cannot finish while a thread hangs in native code


if __name__ == "__main__":
    sys.exit(main())
