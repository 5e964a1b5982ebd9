"""The transforms on /tf and /tf_static of the last seconds, and lookups that refuse what tf2 would invent.

tf2's buffer interpolates between any two transforms, however far apart. Here a lookup at an image's stamp interpolates only
within a small gap, so that a robot whose driver paused has no pose in between. An edge with two publishers that disagree about
its parent is refused, too. The ROS wheels do not include tf2; tests compare the two where it is installed.
"""

import bisect
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from geometry_msgs.msg import TransformStamped

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.ros.conversions import NS_PER_S, stamp_ns, transform_from_message
from fluoro_reg.ros.frames import without_slash

KEPT_S = 10.0  # as tf2
MAXIMUM_DEPTH = 100  # edges from a frame to its root; more is a loop


class NotYetError(InputError):
    """A transform at the requested time has not arrived, but may."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Frames that must not lie above those of a lookup, because their own pose is what is registered, and what to do then."""

    frames: Collection[str] = ()
    advice: str = ""


NOTHING = Forbidden()


@dataclass(slots=True)
class _Edge:
    """The transforms to one child; stamps increase. A static edge has one, which holds at any time."""

    is_static: bool = False
    stamps: list[int] = field(default_factory=list)
    messages: list[TransformStamped] = field(default_factory=list)


class FrameTree:
    """A thread may add transforms while another one waits for them.

    Args:
        maximum_gap_s: the largest time between two transforms to interpolate in.
    """

    def __init__(self, maximum_gap_s: float) -> None:
        self._maximum_gap_ns = round(maximum_gap_s * NS_PER_S)
        self._edges: defaultdict[str, _Edge] = defaultdict(_Edge)
        self._changed = threading.Condition()

    def add(self, message: TransformStamped, is_static: bool) -> None:
        """Add a transform from /tf or /tf_static; one that is older than those kept, or has a stamp again, is dropped."""
        with self._changed:
            edge = self._edges[without_slash(message.child_frame_id)]
            if is_static or edge.is_static:
                edge.is_static, edge.stamps, edge.messages = is_static, [], []
            stamp = stamp_ns(message.header.stamp)
            oldest = edge.stamps[-1] - round(KEPT_S * NS_PER_S) if edge.stamps else 0
            place = bisect.bisect_left(edge.stamps, stamp)
            if stamp >= oldest and edge.stamps[place : place + 1] != [stamp]:
                edge.stamps.insert(place, stamp)
                edge.messages.insert(place, message)
            expired = bisect.bisect_left(edge.stamps, edge.stamps[-1] - round(KEPT_S * NS_PER_S))
            del edge.stamps[:expired], edge.messages[:expired]
            self._changed.notify_all()

    def forget(self) -> None:
        """Drop everything but static transforms, because time went back."""
        with self._changed:
            self._edges = defaultdict(_Edge, {child: edge for child, edge in self._edges.items() if edge.is_static})

    def lookup(self, target: str, source: str, stamp: int, timeout_s: float, forbidden: Forbidden = NOTHING) -> RigidTransform:
        """Return `target_from_source` at a stamp in ns, and wait for transforms that have not arrived.

        Raises:
            InputError: the frames are not connected, one of them lies below a forbidden one, or a transform at that time is
                missing after the timeout.
        """
        return self._wait_for(lambda: self._lookup(target, source, stamp, forbidden), timeout_s)

    def lookup_between(
        self,
        target: tuple[str, int],
        source: tuple[str, int],
        fixed: str,
        timeout_s: float,
        forbidden: Forbidden = NOTHING,
    ) -> RigidTransform:
        """Return `target_from_source` of two frames, each at a stamp of its own, and wait for transforms as `lookup` does.

        Args:
            target: A frame and a stamp in ns.
            source: The same.
            fixed: The frame that stays still between the stamps; if empty, the root of the tree.
            timeout_s: How long to wait.
            forbidden: Must lie above none of the three frames.

        Raises:
            InputError: as in `lookup`.
        """

        def between() -> RigidTransform:
            still = fixed or self._ancestors(source[0])[-1]
            return self._lookup(still, *target, forbidden).inverse() @ self._lookup(still, *source, forbidden)

        return self._wait_for(between, timeout_s)

    def _wait_for(self, lookup: Callable[[], RigidTransform], timeout_s: float) -> RigidTransform:
        """Look up again with every transform that arrives, until there is an answer or the time has passed."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while True:
                try:
                    return lookup()
                except NotYetError:
                    if time.monotonic() >= end:
                        raise
                    self._changed.wait(end - time.monotonic())

    def _ancestors(self, frame: str) -> list[str]:
        """Return the frame, its parent and so on up to the root, by the newest transforms."""
        frames = [frame]
        while (edge := self._edges.get(frames[-1])) is not None and edge.messages and len(frames) <= MAXIMUM_DEPTH:
            frames.append(without_slash(edge.messages[-1].header.frame_id))
        return frames

    def _lookup(self, target: str, source: str, stamp: int, forbidden: Forbidden) -> RigidTransform:
        to_target, to_source = self._ancestors(target), self._ancestors(source)
        if (above := next((frame for frame in forbidden.frames if frame in to_source + to_target), None)) is not None:
            raise InputError(f"'{above}' lies above '{source}' or '{target}' on tf2; {forbidden.advice}")
        if max(len(to_target), len(to_source)) > MAXIMUM_DEPTH:
            raise InputError(f"the frames above '{source}' form a loop on tf2; find the node that publishes a wrong parent")
        common = next((frame for frame in to_source if frame in to_target), None)
        if common is None:
            raise NotYetError(f"tf2 does not connect '{target}' and '{source}'; start the node that publishes what is missing")
        up = self._compose(to_source[: to_source.index(common) + 1], stamp)
        down = self._compose(to_target[: to_target.index(common) + 1], stamp)
        return down.inverse() @ up

    def _compose(self, frames: list[str], stamp: int) -> RigidTransform:
        """Return `last_from_first` of a list in which every frame is followed by its parent."""
        result = RigidTransform.identity()
        for child, parent in pairwise(frames):
            messages, fraction = self._around(child, self._edges[child], stamp)
            parents = {without_slash(message.header.frame_id) for message in messages} | {parent}
            if len(parents) > 1:
                raise InputError(f"'{child}' has several parents on tf2, {' and '.join(sorted(parents))}; stop one publisher")
            result = _interpolate(messages, fraction) @ result
        return result

    def _around(self, child: str, edge: _Edge, stamp: int) -> tuple[list[TransformStamped], float]:
        """Return the transform at the stamp, or those before and after it with the fraction of the time between them."""
        if edge.is_static:
            return edge.messages, 0.0
        place = bisect.bisect_left(edge.stamps, stamp)
        if edge.stamps[place : place + 1] == [stamp]:
            return edge.messages[place : place + 1], 0.0
        name = f"the transform to '{child}' on /tf"
        if place == len(edge.stamps):
            late_s = (stamp - edge.stamps[-1]) / NS_PER_S
            raise NotYetError(f"{name} ends {late_s:.3f} s before the image's stamp; check its publisher and the clocks")
        if place == 0:
            early_s = (edge.stamps[0] - stamp) / NS_PER_S
            raise InputError(f"{name} begins {early_s:.3f} s after the image's stamp; check the stamps of the image")
        gap = edge.stamps[place] - edge.stamps[place - 1]
        if gap > self._maximum_gap_ns:
            raise InputError(
                f"{name} has a gap of {gap / NS_PER_S:.3f} s at the image's stamp; check its publisher, or raise tf.maximum_gap"
            )
        return edge.messages[place - 1 : place + 1], (stamp - edge.stamps[place - 1]) / gap


def _interpolate(messages: list[TransformStamped], fraction: float) -> RigidTransform:
    """Return `parent_from_child` between the first and the last message."""
    first, last = transform_from_message(messages[0]), transform_from_message(messages[-1])
    turn = so3.log(first.rotation.mT @ last.rotation)
    return RigidTransform(first.rotation @ so3.exp(fraction * turn), torch.lerp(first.translation, last.translation, fraction))
