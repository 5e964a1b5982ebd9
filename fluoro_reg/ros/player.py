"""`bag_player`: publish a rosbag2 (sqlite3 or mcap) using only rclpy, for machines without `ros2 bag`.

The stored bytes are published unchanged on the stored topic names (remap with `--ros-args -r`). Playback begins when every
topic has a subscriber. Otherwise the first frames would be lost, and how many would depend on discovery.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.utilities import remove_ros_args
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.errors import InputError
from fluoro_reg.ros.result_listener import ResultListener

DISCOVERY_POLL_S = 0.02
SETTLE_S = 0.5  # a publisher discovers its subscribers slightly before they discover it
ACKNOWLEDGE_S = 1.0
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


class BagPlayer(Node):
    """Publishes the topics of a bag; topics whose message type is not installed are skipped with a warning.

    Args:
        reader: an open bag.
        topics: the topics to publish; None publishes all.
        results_topic: if given, an image is published only after the result of the previous one has arrived there.

    Raises:
        InputError: the bag does not have one of the topics.
    """

    def __init__(self, reader: AnyReader, topics: list[str] | None, results_topic: str | None = None) -> None:
        super().__init__("bag_player")
        missing = sorted(set(topics or []) - set(reader.topics))
        if missing:
            raise InputError(f"the bag has no topic {', '.join(missing)}; it has {', '.join(sorted(reader.topics))}")
        self._reader = reader
        self._results = ResultListener(self, results_topic) if results_topic else None
        self._connections = [c for c in reader.connections if topics is None or c.topic in topics]
        self._publisher_of: dict[str, Publisher] = {}
        for connection in self._connections:
            message_type = find_message_type(connection.msgtype)
            if message_type is None:
                self.get_logger().warning(f"{connection.topic} is skipped: {connection.msgtype} is not installed")
            elif connection.topic not in self._publisher_of:
                self._publisher_of[connection.topic] = self.create_publisher(
                    message_type, connection.topic, QoSProfile(depth=10)
                )

    def wait_for_subscribers(self, timeout_s: float, other_topics: list[str]) -> None:
        """Wait until every topic of the bag has a subscriber, and each of `other_topics` a publisher and a subscriber.

        Raises:
            InputError: that is not the case within the timeout.
        """
        other_topics = [*other_topics, self._results.topic] if self._results else other_topics
        end = time.monotonic() + timeout_s
        while unconnected := self._unconnected(other_topics):
            if time.monotonic() > end:
                raise InputError(
                    f"nothing is connected to {', '.join(unconnected)} after {timeout_s:g} s; start the other nodes, or remap"
                )
            time.sleep(DISCOVERY_POLL_S)
        time.sleep(SETTLE_S)

    def _unconnected(self, other_topics: list[str]) -> list[str]:
        topics = [publisher.topic_name for publisher in self._publisher_of.values() if publisher.get_subscription_count() == 0]
        return topics + [
            topic for topic in other_topics if not (self.count_publishers(topic) and self.count_subscribers(topic))
        ]

    def play(self, rate: float) -> int:
        """Publish everything at `rate` times the recorded speed; return the number of messages."""
        count, begin_s, first_ns = 0, time.monotonic(), None
        for connection, recorded_ns, data in self._messages():
            first_ns = recorded_ns if first_ns is None else first_ns
            delay = begin_s + (recorded_ns - first_ns) * 1e-9 / rate - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            self._publish(connection, data)
            count += 1
        return count

    def _publish(self, connection: Connection, data: bytes) -> None:
        publisher = self._publisher_of[connection.topic]
        if self._results is None or connection.msgtype not in IMAGE_TYPES:
            publisher.publish(data)
            return
        self._results.wait()
        self._results.expect_result()
        publisher.publish(data)

    def finish(self) -> None:
        """Wait until reliable subscribers have received everything, and for the last result."""
        for publisher in self._publisher_of.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
        if self._results is not None:
            self._results.wait()

    def _messages(self) -> Iterator[tuple[Connection, int, bytes]]:
        connections = [c for c in self._connections if c.topic in self._publisher_of]
        for connection, recorded_ns, data in self._reader.messages(connections=connections):
            yield connection, recorded_ns, bytes(data)


def find_message_type(name: str) -> type | None:
    """Return the class of a name such as 'sensor_msgs/msg/Image', or None if its package is not installed."""
    package, _, message = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), message, None)
    except ImportError:
        return None


@contextmanager
def open_bag(path: Path) -> Iterator[AnyReader]:
    """Open a bag for reading.

    Raises:
        InputError: the path is not a readable bag.
    """
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_KILTED))
        reader.open()
    except (AnyReaderError, ReaderError, OSError) as error:
        raise InputError(f"{path.name} is not a readable rosbag2; give the folder that contains metadata.yaml") from error
    try:
        yield reader
    finally:
        reader.close()


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line, from which the ROS arguments have been removed."""
    parser = argparse.ArgumentParser(prog="bag_player", description="Publish a rosbag2.")
    parser.add_argument("bag", type=Path, help="the bag's folder")
    parser.add_argument("--rate", type=float, default=1.0, help="playback speed relative to the recording (default: 1)")
    parser.add_argument("--topics", nargs="+", help="publish only these topics (default: all)")
    parser.add_argument("--wait", type=float, default=30.0, help="timeout in s for subscribers (default: 30)")
    parser.add_argument(
        "--await",
        dest="await_topics",
        nargs="+",
        default=[],
        help="also wait until these topics have a publisher and a subscriber, for example /tf",
    )
    parser.add_argument(
        "--answers",
        metavar="TOPIC",
        help="publish an image only after the result of the previous one on this topic, and print the results",
    )
    parser.add_argument("--loop", action="store_true", help="repeat the bag until stopped")
    result = parser.parse_args(arguments)
    if not 0 < result.rate < float("inf"):
        parser.error("--rate must be positive")
    return result


def main(args: list[str] | None = None) -> int:
    """Play the bag; return 0, or 2 with one sentence on standard error if that is not possible."""
    options = parse_arguments(remove_ros_args(args if args is not None else sys.argv)[1:])
    rclpy.init(args=args)
    try:
        with open_bag(options.bag) as reader:
            player = BagPlayer(reader, options.topics, options.answers)
            player.wait_for_subscribers(options.wait, options.await_topics)
            played = player.play(options.rate)
            while options.loop:
                played += player.play(options.rate)
            player.finish()
            player.get_logger().info(f"{played} messages published")
            return 0
    except InputError as error:
        print(f"bag_player: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    finally:
        if rclpy.ok():  # a signal may already have shut it down
            rclpy.shutdown()


if __name__ == "__main__":
    sys.exit(main())
