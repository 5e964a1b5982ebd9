"""`bag_player`: publishes a rosbag2 (sqlite3 or mcap) with nothing but rclpy, where `ros2 bag` is not installed.

The stored bytes go out unchanged under their stored topic names (remap with `--ros-args -r`). It begins when every topic has a
subscriber: a player that starts at once loses the first frames, and how many depends on discovery.
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
from fluoro_reg.ros.answers import Answers

DISCOVERY_POLL_S = 0.02
SETTLE_S = 0.5  # the publisher knows its subscribers a moment before they know it
ACKNOWLEDGE_S = 1.0
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


class BagPlayer(Node):
    """Publishers for the topics of one bag; topics of types that are not installed are left out and named.

    With `answers_topic`, an image is published only when the one before has its answer there.
    """

    def __init__(self, reader: AnyReader, topics: list[str] | None, answers_topic: str | None = None) -> None:
        super().__init__("bag_player")
        absent = sorted(set(topics or []) - set(reader.topics))
        if absent:
            raise InputError(f"the bag has no topic {', '.join(absent)}; it has {', '.join(sorted(reader.topics))}")
        self._reader = reader
        self._answers = Answers(self, answers_topic) if answers_topic else None
        self._connections = [c for c in reader.connections if topics is None or c.topic in topics]
        self._publishers_of: dict[str, Publisher] = {}
        for connection in self._connections:
            message_type = installed_type(connection.msgtype)
            if message_type is None:
                self.get_logger().warning(f"{connection.topic} is left out: {connection.msgtype} is not installed")
            elif connection.topic not in self._publishers_of:
                self._publishers_of[connection.topic] = self.create_publisher(
                    message_type, connection.topic, QoSProfile(depth=10)
                )

    def wait_for_listeners(self, timeout_s: float, also: list[str]) -> None:
        """Returns when every topic of the bag has a subscriber, and every topic in `also` a publisher and a subscriber.

        Raises:
            InputError: some had none within the time.
        """
        also = [*also, self._answers.topic] if self._answers else also
        end = time.monotonic() + timeout_s
        while lonely := self._without_listener(also):
            if time.monotonic() > end:
                raise InputError(
                    f"nobody listens to {', '.join(lonely)} after {timeout_s:g} s; start the others first, or remap"
                )
            time.sleep(DISCOVERY_POLL_S)
        time.sleep(SETTLE_S)

    def _without_listener(self, also: list[str]) -> list[str]:
        own = [publisher.topic_name for publisher in self._publishers_of.values() if publisher.get_subscription_count() == 0]
        return own + [topic for topic in also if not (self.count_publishers(topic) and self.count_subscribers(topic))]

    def play(self, rate: float) -> int:
        """Publishes everything at `rate` times its recorded speed; returns the number of messages."""
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
        publisher = self._publishers_of[connection.topic]
        if self._answers is None or connection.msgtype not in IMAGES:
            publisher.publish(data)
            return
        self._answers.wait()
        self._answers.image_published()
        publisher.publish(data)

    def finish(self) -> None:
        """Waits until reliable subscribers have what was published, and for the last answer."""
        for publisher in self._publishers_of.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
        if self._answers is not None:
            self._answers.wait()

    def _messages(self) -> Iterator[tuple[Connection, int, bytes]]:
        connections = [c for c in self._connections if c.topic in self._publishers_of]
        for connection, recorded_ns, data in self._reader.messages(connections=connections):
            yield connection, recorded_ns, bytes(data)


def installed_type(name: str) -> type | None:
    """The class of 'sensor_msgs/msg/Image', or None where its package is not installed."""
    package, _, message = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), message, None)
    except ImportError:
        return None


@contextmanager
def opened(path: Path) -> Iterator[AnyReader]:
    """A reader for the bag.

    Raises:
        InputError: no bag is there.
    """
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_KILTED))
        reader.open()
    except (AnyReaderError, ReaderError, OSError) as error:
        raise InputError(f"{path.name} is no rosbag2 that can be read; give the folder that holds metadata.yaml") from error
    try:
        yield reader
    finally:
        reader.close()


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line without ROS's own part."""
    parser = argparse.ArgumentParser(prog="bag_player", description="Publishes a rosbag2 by rclpy.")
    parser.add_argument("bag", type=Path, help="the bag's folder")
    parser.add_argument("--rate", type=float, default=1.0, help="speed relative to the recording (default: 1)")
    parser.add_argument("--topics", nargs="+", help="only these topics (default: all)")
    parser.add_argument("--wait", type=float, default=30.0, help="s to wait for subscribers (default: 30)")
    parser.add_argument(
        "--await",
        dest="await_topics",
        nargs="+",
        default=[],
        help="wait for these topics too, e.g. /tf: a publisher and a subscriber",
    )
    parser.add_argument(
        "--answers",
        metavar="TOPIC",
        help="publish an image only when the one before has its answer here, and print the answers",
    )
    parser.add_argument("--loop", action="store_true", help="begin anew at the end, until stopped")
    result = parser.parse_args(arguments)
    if not 0 < result.rate < float("inf"):
        parser.error("--rate must be positive")
    return result


def main(args: list[str] | None = None) -> int:
    """Plays the bag; status 0, or 2 with one sentence when that is not possible."""
    options = parse(remove_ros_args(args if args is not None else sys.argv)[1:])
    rclpy.init(args=args)
    try:
        with opened(options.bag) as reader:
            player = BagPlayer(reader, options.topics, options.answers)
            player.wait_for_listeners(options.wait, options.await_topics)
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
        if rclpy.ok():  # a signal may have shut it down already
            rclpy.shutdown()


if __name__ == "__main__":
    sys.exit(main())
