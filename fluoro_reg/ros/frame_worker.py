"""The worker's side of the pipeline: register the newest frame, place its pose on tf2, publish the result.

The registration's thread runs `_process` and `_process_late`, and a thread of its own `_publish_pictures`. The thread of a
search calls `search_has_ended`, the executor's thread everything else that is public. Publishing and `reset` share a lock, so
that no pose from before a reset is published after it.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

from rclpy.lifecycle import LifecycleNode

from fluoro_reg.errors import InputError
from fluoro_reg.registration import Outcome
from fluoro_reg.ros import conversions
from fluoro_reg.ros.outputs import Outputs
from fluoro_reg.ros.processor import RESET_DURING_REGISTRATION, Frame, FrameProcessor, ProcessedFrame
from fluoro_reg.ros.statistics import Statistics
from fluoro_reg.ros.tf_edge import TfEdge
from fluoro_reg.ros.watchdog import Watchdog
from fluoro_reg.ros.worker import LatestWorker


class FrameWorker:
    """Answers the newest frame, one at a time, in a thread of its own. `start` and `stop` may alternate.

    Attributes:
        last: the last frame that was answered, if any.
    """

    def __init__(
        self,
        node: LifecycleNode,
        processor: FrameProcessor,
        outputs: Outputs,
        edge: TfEdge | None,
        statistics: Statistics,
        watchdog: Watchdog,
    ) -> None:
        self.last: ProcessedFrame | None = None
        self._node = node
        self._processor = processor
        self._outputs = outputs
        self._edge = edge
        self._statistics = statistics
        self._watchdog = watchdog
        self._frames: LatestWorker[tuple[int, Frame]] = LatestWorker(self._process, "registration", self._process_late)
        self._pictures: LatestWorker[ProcessedFrame] = LatestWorker(self._publish_pictures, "debug images")
        self._result_lock = threading.Lock()
        self._epoch = 0  # a reset increments it; results of frames from an earlier epoch are rejected
        self._epoch_of_last = 0
        self._current: Frame | None = None

    def start(self) -> None:
        """Start the threads."""
        self._frames.start()
        self._pictures.start()

    def stop(self, timeout_s: float) -> bool:
        """End the threads and a search, one after the other; return False at the first that does not end in time."""
        return all(stop(timeout_s) for stop in (self._frames.stop, self._processor.close, self._pictures.stop))

    def put(self, frame: Frame) -> None:
        """Answer a frame next, instead of one that still waits."""
        self._frames.put((self._epoch, frame))
        self._statistics.counts["dropped"] = self._frames.dropped

    def search_has_ended(self) -> None:
        """Answer the last frame again, unless another has come."""
        self._frames.wake()

    def reset(self) -> None:
        """Forget the last pose; a waiting frame is dropped and a frame being registered is rejected."""
        with self._result_lock:
            self._epoch += 1
            self._frames.clear()
            self._processor.request_reset()
            self._outputs.set_valid(False)
            if self._edge is not None:
                self._edge.forget_poses()

    def abandon(self, sentence: str) -> None:
        """Reject the frame whose registration hangs; a pose that it may still find is not published."""
        self._epoch += 1  # without the lock, which the hanging thread may hold
        self._outputs.set_valid(False)
        if self._current is not None:
            rejection = self._processor.rejection(sentence, Outcome.NOT_CONVERGED)
            self._outputs.publish_unregistered(ProcessedFrame(self._current, rejection))

    def _process(self, item: tuple[int, Frame]) -> None:
        self._epoch_of_last, frame = item
        self._current = frame
        self._answer(lambda: self._processor.process(frame))

    def _process_late(self) -> None:
        self._answer(self._processor.process_late)

    def _answer(self, process: Callable[[], ProcessedFrame | None]) -> None:
        maximum_age_s = self._outputs.options.maximum_image_age  # as of now, like those of the processor
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

    def _reject_if_too_old(self, processed: ProcessedFrame, limit: float) -> ProcessedFrame:
        age = (self._node.get_clock().now().nanoseconds - processed.frame.stamp_ns) / conversions.NS_PER_S
        if limit == 0 or age <= limit or not processed.result.accepted:
            return processed
        reason = f"the image is {age:.2f} s old, more than maximum_image_age = {limit:g} s"
        return self._rejected(processed, reason, Outcome.REJECTED_IMAGE)

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

    def _publish(self, processed: ProcessedFrame) -> None:
        begin = time.monotonic()
        seconds = {} if processed.is_late else {"latency": processed.latency_s, **processed.seconds}
        self._statistics.record_result(processed.result, seconds, processed.is_late)
        self.last = processed
        if processed.transforms and self._edge is not None:
            self._edge.send(processed.transforms)
        self._outputs.publish(processed, self._statistics.percentiles_s())
        self._statistics.record_seconds("publish", time.monotonic() - begin)

    def _publish_pictures(self, processed: ProcessedFrame) -> None:
        """In a thread of their own: registration does not wait for pictures, of which only the newest is of interest."""
        try:
            self._outputs.publish_debug_images(processed)
        except Exception as error:
            self._log_unpublished("a debug image", error)

    def _log_unpublished(self, what: str, error: Exception) -> None:
        """Log what no caller of a worker's function would catch; the thread must survive to process the next frame."""
        trace = "".join(traceback.format_tb(error.__traceback__))
        sentence = f"{what} was not published: {type(error).__name__}\n{trace}"
        self._node.get_logger().error(sentence, throttle_duration_sec=10.0)
