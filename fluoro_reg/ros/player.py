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
from rosbags.rosbag2 import ReaderError
from rosbags.typesys import Stores, get_typestore

from fluoro_reg.errors import InputError

DISCOVERY_POLL_S = 0.02
ACKNOWLEDGE_S = 1.0


class BagPlayer(Node):
    """Publishers for the topics of one bag; topics of types that are not installed are left out and named."""

    def __init__(self, reader: AnyReader, topics: list[str] | None) -> None:
        super().__init__("bag_player")
        absent = sorted(set(topics or []) - set(reader.topics))
        if absent:
            raise InputError(f"the bag has no topic {', '.join(absent)}; it has {', '.join(sorted(reader.topics))}")
        self._reader = reader
        self._connections = [c for c in reader.connections if topics is None or c.topic in topics]
        self._publishers_of: dict[str, Publisher] = {}
        for connection in self._connections:
            message_type = installed_type(connection.msgtype)
            if message_type is None:
                self.get_logger().warning(f"{connection.topic} is left out: {connection.msgtype} is not installed")
            elif connection.topic not in self._publishers_of:
                self._publishers_of[connection.topic] = self.create_publisher(message_type, connection.topic, QoSProfile(depth=10))

    def wait_for_subscribers(self, timeout_s: float) -> None:
        """Returns when every topic has a subscriber.

        Raises:
            InputError: some had none within the time.
        """
        end = time.monotonic() + timeout_s
        while lonely := [t for t, p in self._publishers_of.items() if p.get_subscription_count() == 0]:
            if time.monotonic() > end:
                raise InputError(f"nobody subscribed to {', '.join(lonely)} within {timeout_s:g} s; start the node first, or remap")
            time.sleep(DISCOVERY_POLL_S)

    def play(self, rate: float) -> int:
        """Publishes everything at `rate` times its recorded speed; returns the number of messages."""
        count, begin_s, first_ns = 0, time.monotonic(), None
        for topic, recorded_ns, data in self._messages():
            first_ns = recorded_ns if first_ns is None else first_ns
            delay = begin_s + (recorded_ns - first_ns) * 1e-9 / rate - time.monotonic()
            if delay > 0:
                time.sleep(delay)
            self._publishers_of[topic].publish(data)
            count += 1
        return count

    def finish(self) -> None:
        """Waits until reliable subscribers have what was published."""
        for publisher in self._publishers_of.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))

    def _messages(self) -> Iterator[tuple[str, int, bytes]]:
        connections = [c for c in self._connections if c.topic in self._publishers_of]
        for connection, recorded_ns, data in self._reader.messages(connections=connections):
            yield connection.topic, recorded_ns, bytes(data)


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
            player = BagPlayer(reader, options.topics)
            player.wait_for_subscribers(options.wait)
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
        rclpy.try_shutdown()


if __name__ == "__main__":
    sys.exit(main())
