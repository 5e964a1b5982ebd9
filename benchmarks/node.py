"""From image to /tf: the node, a player and a listener as ROS 2 processes on this machine, at several rates and image sizes.

    python benchmarks/node.py [--rates 5 15 30 60] [--sizes 256] [--seconds 15] [--json]
    python benchmarks/node.py --memory 20000 [--rates 15] [--sizes 256]

The player (this process) publishes simulated X-rays of a C-arm that moves slowly around the AP view, with the stamp of their
publication. `tf_listener`, a process of its own, tells when it received each transform: latencies are until then.
`answers/s` counts images with a result of the node, `dropped` those without. `node CPU` is the processor time of the node in
that run, in cores, `intake` that of the thread which takes images in, and `idle` that of all without images. Memory is
resident. All processes use a DDS domain of their own.

`--memory` plays so many images at the first rate, and reports how the resident memory grows: the slope of a line through the
samples of the last three quarters, and its standard error.
"""

import argparse
import json
import os
import queue
import struct
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tracking_sequences import GOOD, SEQUENCES, World

from fluoro_reg.demo.ros_processes import ros_processes
from fluoro_reg.demo.scene import DemoOptions, make_phantom
from fluoro_reg.formats.poses import write_pose
from fluoro_reg.geometry import CameraIntrinsics

STEADY_S = 3.0  # until answers have caught up after the last image
IDLE_S = 5.0
MEMORY_SAMPLES = 40
SPEED = 15.0  # frames per second of the simulated motion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[5.0, 15.0, 30.0, 60.0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256])
    parser.add_argument("--seconds", type=float, default=15.0, help="of each run")
    parser.add_argument("--memory", type=int, metavar="IMAGES", help="one run of so many images, for the growth of the memory")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        records = [row for size in arguments.sizes for row in measure(Path(folder) / str(size), size, arguments)]
    print(json.dumps(records) if arguments.json else table(records))


def measure(folder: Path, size: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Start the processes once and run every rate."""
    folder.mkdir()
    make_phantom(folder, DemoOptions())
    world = World(size)
    frames = SEQUENCES["long"](world, 5 * round(SPEED)).frames
    good = [frame for frame in frames if frame.kind == GOOD]
    write_pose(folder / "initial.json", good[0].truth)
    (folder / "node.yaml").write_text(
        "registration_node:\n  ros__parameters:\n    autostart: true\n    ct.path: ct\n    initial.path: initial.json\n"
        "    intensity: transmitted\n    qos.image: reliable\n"
    )
    with ros_processes(folder) as processes:
        os.environ.update(processes.environment)  # this process publishes, too
        program, events = processes.start("node", "node", "--ros-args", "--params-file", "node.yaml"), processes.events
        program.wait_for_log("active", 120.0)
        processes.start("listener", "tf_listener", "--child", "patient").wait_for_log("connected", 60.0)
        player = Player(size, [frame.xray.pixels.numpy().astype(np.uint16) for frame in good], world.camera)
        node = program.process_id
        idle = cpu_seconds(node), time.monotonic()
        time.sleep(IDLE_S)
        idle_cores = (cpu_seconds(node) - idle[0]) / (time.monotonic() - idle[1])
        player.play(10.0, 3.0)  # initialise and compile
        if arguments.memory:
            rows = [play_for_memory(player, node, size, arguments.rates[0], arguments.memory)]
        else:
            rows = [play_rate(player, node, size, rate, arguments.seconds, idle_cores, events) for rate in arguments.rates]
        player.close()
    return rows


def play_rate(
    player: "Player", node: int, size: int, rate: float, seconds: float, idle_cores: float, events: queue.Queue
) -> dict[str, Any]:
    """Play at one rate and summarise what the node, the process `node`, has made of it."""
    drain(events)
    before = cpu_seconds(node), cpu_seconds(node, node)
    sent = player.play(rate, seconds)
    cores, intake_cores = (cpu_seconds(node) - before[0]) / seconds, (cpu_seconds(node, node) - before[1]) / seconds
    received = {event["stamp_ns"]: event["received_s"] for event in drain(events)}
    return summary(size, rate, sent, player.take_results(), received, Load(cores, intake_cores, idle_cores, resident_mb(node)))


def play_for_memory(player: "Player", node: int, size: int, rate: float, images: int) -> dict[str, Any]:
    """Play many images and watch the memory of the node."""
    answered, samples = 0, []
    seconds = max(2.0, images / rate / MEMORY_SAMPLES)
    while player.published < images:
        player.play(rate, seconds, steady_s=0.0)
        answered += len({stamp for stamp, _, _ in player.take_results()})
        samples.append((player.published, resident_mb(node)))
    late = np.array(samples[len(samples) // 4 :])
    (slope, _), covariance = np.polyfit(late[:, 0] / 1000, late[:, 1], 1, cov=True)
    return {
        "size": size,
        "rate_hz": rate,
        "images": player.published,
        "answers": answered,
        "memory_mb": [memory for _, memory in samples],
        "slope_mb_per_1000": float(slope),
        "standard_error_mb_per_1000": float(np.sqrt(covariance[0, 0])),
    }


class Player:
    """Publishes images and collects results. The bytes of each message are made once; its stamp is written into them."""

    def __init__(self, size: int, images: list[np.ndarray], camera: CameraIntrinsics) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.qos import QoSProfile
        from rclpy.serialization import serialize_message
        from sensor_msgs.msg import CameraInfo, Image

        from fluoro_reg.ros.conversions import byte_array, stamp_ns

        def on_result(message: DiagnosticArray) -> None:
            values = {pair.key: pair.value for pair in message.status[0].values}
            self.results.append((stamp_ns(message.header.stamp), time.time(), values["accepted"] == "true"))

        self.results: list[tuple[int, float, bool]] = []
        self._next = self.published = 0
        rclpy.init()
        self._rclpy, self._node = rclpy, rclpy.create_node("player")
        self._node.create_subscription(DiagnosticArray, "/registration_node/result", on_result, QoSProfile(depth=100))
        self._image = self._node.create_publisher(Image, "image", QoSProfile(depth=1))
        self._info = self._node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=10))
        info = CameraInfo(width=size, height=size, k=camera.k, distortion_model="plumb_bob", d=[0.0] * 5)
        info.header.frame_id = "carm"
        self._info_bytes = bytearray(serialize_message(info))
        self._bytes = []
        for pixels in images:
            image = Image(height=size, width=size, encoding="mono16", step=2 * size)
            image.header.frame_id, image.data = "carm", byte_array(np.ascontiguousarray(pixels))
            self._bytes.append(bytearray(serialize_message(image)))
        self._thread = threading.Thread(target=rclpy.spin, args=(self._node,), daemon=True)
        self._thread.start()
        while not (self._image.get_subscription_count() and self._info.get_subscription_count()):
            time.sleep(0.05)
        time.sleep(0.5)

    def play(self, rate: float, seconds: float, steady_s: float = STEADY_S) -> dict[int, float]:
        """Publish at a rate; return the time of publication by stamp. The motion goes on at `SPEED`, whatever the rate."""
        sent: dict[int, float] = {}
        begin = time.monotonic()
        for n in range(round(rate * seconds)):
            time.sleep(max(0.0, begin + n / rate - time.monotonic()))
            number = int(self._next + n / rate * SPEED)
            index = number % (2 * len(self._bytes))  # there and back again
            data = self._bytes[min(index, 2 * len(self._bytes) - 1 - index)]
            now = time.time()
            stamp = round(now * 1e9)
            for message, publisher in ((self._info_bytes, self._info), (data, self._image)):
                struct.pack_into("<iI", message, 4, stamp // 10**9, stamp % 10**9)
                publisher.publish(bytes(message))
            sent[stamp] = now
        self._next += round(seconds * SPEED)
        self.published += len(sent)
        time.sleep(steady_s)
        return sent

    def take_results(self) -> list[tuple[int, float, bool]]:
        """Return the results since the last call: stamp, time of arrival, and whether the pose was accepted."""
        results, self.results = self.results, []
        return results

    def close(self) -> None:
        self._rclpy.shutdown()
        self._thread.join(5.0)


@dataclass(frozen=True, slots=True)
class Load:
    """What a run took of the processor, in cores, and of memory."""

    node_cores: float
    intake_cores: float
    idle_cores: float
    memory_mb: float


def summary(
    size: int,
    rate: float,
    sent: dict[int, float],
    results: list[tuple[int, float, bool]],
    received: dict[int, float],
    load: Load,
) -> dict[str, Any]:
    answered = {stamp for stamp, _, _ in results if stamp in sent}  # one that was searched has two results
    latencies = [received[stamp] - sent[stamp] for stamp in sent if stamp in received]
    percentiles = np.percentile(latencies, (50, 95, 99)).tolist() if latencies else [float("nan")] * 3
    return {
        "size": size,
        "rate_hz": rate,
        "sent": len(sent),
        "answers": len(answered),
        "dropped": len(sent) - len(answered),
        "accepted": len({stamp for stamp, _, accepted in results if stamp in sent and accepted}),
        "transforms": len(latencies),
        "answers_per_second": len(answered) / (len(sent) / rate),
        "latency_s": dict(zip(("p50", "p95", "p99"), percentiles, strict=True)),
        **asdict(load),
    }


def table(records: list[dict[str, Any]]) -> str:
    columns = ["pixels", "Hz", "sent", "answers", "dropped", "on /tf", "answers/s", "p50, ms", "p95, ms", "p99, ms",
               "node CPU, cores", "intake, cores", "idle, cores", "memory, MB"]  # fmt: skip
    if "slope_mb_per_1000" in records[0]:
        return "\n".join(map(memory_sentence, records))
    lines = ["| " + " | ".join(columns) + " |", "|" + "--:|" * len(columns)]
    for r in records:
        latencies = [f"{1000 * r['latency_s'][q]:.0f}" for q in ("p50", "p95", "p99")]
        cells = [r["size"], f"{r['rate_hz']:g}", r["sent"], r["answers"], r["dropped"], r["transforms"]]
        cells += [f"{r['answers_per_second']:.1f}", *latencies, f"{r['node_cores']:.2f}", f"{r['intake_cores']:.3f}"]
        cells += [f"{r['idle_cores']:.3f}", f"{r['memory_mb']:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def memory_sentence(r: dict[str, Any]) -> str:
    return (
        f"{r['size']} px, {r['rate_hz']:g} Hz: {r['answers']} answers to {r['images']} images; from {r['memory_mb'][0]:.0f} to "
        f"{r['memory_mb'][-1]:.0f} MB; slope {r['slope_mb_per_1000']:.3f} +- {r['standard_error_mb_per_1000']:.3f} MB per 1000"
    )


def drain(events: queue.Queue) -> list[dict[str, Any]]:
    """Take what the listener has printed so far."""
    taken = []
    while True:
        try:
            name, event = events.get_nowait()
        except queue.Empty:
            return taken
        if name == "listener" and event is not None:
            taken.append(event)


def cpu_seconds(process_id: int, thread_id: int | None = None) -> float:
    """Return the processor time of a process or of one thread; the first thread has the number of the process."""
    folder = Path(f"/proc/{process_id}") if thread_id is None else Path(f"/proc/{process_id}/task/{thread_id}")
    fields = (folder / "stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(process_id: int) -> float:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
