"""The diagnostic messages of `~/result` and `/diagnostics` (REP-107: few, meaningful tasks)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.registration.result import RegistrationResult
from fluoro_reg.ros.conversions import header_message
from fluoro_reg.ros.input_monitor import InputMonitor
from fluoro_reg.ros.processor import ProcessedFrame
from fluoro_reg.ros.statistics import Statistics

HARDWARE_ID = "fluoro_reg"
COUNTERS = (
    "images",
    "infos",
    "pairs",
    "unpaired images",
    "dropped",
    "duplicate stamps",
    "late stamps",
    "future stamps",
    "restarts",
)


Percentiles = Mapping[str, Mapping[str, float]]  # by stage and by name, in s


def result_message(
    processed: ProcessedFrame, node_name: str, percentiles_s: Percentiles, frame_of_body: Mapping[str, str] | None = None
) -> DiagnosticArray:
    """Return the result of one frame with its scores and the seconds of each stage, stamped like the image.

    `percentiles_s` are those of the last frames, by stage. `frame_of_body` names the frame of each body that has a pose of its
    own: each has a status after that of the frame, which is also that of the reference.
    """
    frame, result = processed.frame, processed.result
    values: dict[str, Any] = {
        "stamp_ns": frame.stamp_ns,
        "accepted": result.accepted,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "warnings": "; ".join(result.warnings),
        "state": result.state,
        "frame": result.frame,
        "searching": result.searching,
        "late": processed.is_late,
        "pose_source": result.pose_source,
        "method": result.method,
        "device": result.device,
        "similarity": result.similarity,
        "alternatives": len(result.alternatives),
        "n_renders": result.n_renders,
        "latency_s": processed.latency_s,
        "seconds.transport": frame.transport_s,
        "seconds.wait": processed.waited_s,
        "seconds.decode": processed.decode_s,
        "seconds.register": result.elapsed_s,
        **_fused(processed),
        **{f"seconds.register.{stage}": seconds for stage, seconds in result.seconds.items()},
        **{f"score.{name}": score for name, score in result.scores.items()},
        **{f"{name}.{stage}": value for stage, values in percentiles_s.items() for name, value in values.items()},
    }
    level = DiagnosticStatus.OK if result.accepted else DiagnosticStatus.WARN
    status = _status(f"{node_name}: result", level, result.reason, values)
    bodies = [_body_status(f"{node_name}: body {name}", name, child, result) for name, child in (frame_of_body or {}).items()]
    return DiagnosticArray(header=header_message(frame.stamp_ns, frame.frame_id), status=[status, *bodies])


def _body_status(status_name: str, body: str, frame_id: str, frame_result: RegistrationResult) -> DiagnosticStatus:
    """The status of one body; without results of bodies, that of a frame which is rejected as a whole."""
    result = frame_result.bodies.get(body, frame_result)
    values = {
        "body": body,
        "frame_id": frame_id,
        "accepted": result.accepted,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "similarity": result.similarity,
        "alternatives": len(result.alternatives),
        **{f"score.{name}": score for name, score in result.scores.items()},
    }
    level = DiagnosticStatus.OK if result.accepted else DiagnosticStatus.WARN
    return _status(status_name, level, result.reason, values)


def _fused(processed: ProcessedFrame) -> dict[str, Any]:
    """What the fused pose rests on, where poses are fused."""
    if (fused := processed.fused) is None:
        return {}
    return {"fused.views": fused.views, "fused.spread_deg": fused.spread_deg, "fused.began_anew": fused.began_anew}


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the diagnostics tell about the node besides its counters.

    Args:
        problem: why no pose can be published at present, such as a second publisher of the frame; empty if there is none.
        enabled: whether `~/enable` is on.
        image_topic: the topic of the images.
        image_publishers: the number of its publishers.
        image_timeout_s: without an image for longer, the input is reported as missing.
        valid_timeout_s: without an accepted pose for longer, the registration is reported as stale.
        ct: the CT that is registered.
        configuration: the settings to show.
    """

    problem: str
    enabled: bool
    image_topic: str
    image_publishers: int
    image_timeout_s: float
    valid_timeout_s: float
    ct: CTVolume
    configuration: Mapping[str, Any]


def diagnostic_name(node: Node) -> str:
    """Return the name of the node in diagnostics: with its namespace, because a biplane C-arm has two nodes."""
    return node.get_fully_qualified_name().lstrip("/")


def diagnostics_message(
    node_name: str, now_ns: int, statistics: Statistics, monitor: InputMonitor, state: NodeState
) -> DiagnosticArray:
    """Return the condition of the node."""
    tasks = [
        ("input", *_input_status(statistics, monitor, state)),
        ("registration", *_registration_status(statistics, state)),
        (
            "latency",
            DiagnosticStatus.OK,
            "from the arrival of the pair to its result",
            _latencies(statistics.percentiles_s()),
        ),
        ("ct", *_ct_status(state.ct)),
        ("configuration", DiagnosticStatus.OK, "as configured", dict(state.configuration)),
    ]
    status = [_status(f"{node_name}: {name}", level, message, values) for name, level, message, values in tasks]
    return DiagnosticArray(header=header_message(now_ns, ""), status=status)


def _input_status(statistics: Statistics, monitor: InputMonitor, state: NodeState) -> tuple[bytes, str, dict[str, Any]]:
    silent_s = monitor.seconds_without_image()
    values: dict[str, Any] = {name: statistics.counts[name] for name in COUNTERS}
    values |= {"publishers": state.image_publishers, "seconds since image": f"{silent_s:.1f}" if values["images"] else "never"}
    if statistics.counts["incompatible publishers"]:
        message = (
            "a publisher's QoS is incompatible with qos.image, so none of its messages arrive; see `ros2 topic info --verbose`"
        )
        return DiagnosticStatus.ERROR, message, values
    if monitor.warning:
        return DiagnosticStatus.WARN, monitor.warning, values
    if silent_s > state.image_timeout_s:
        cause = "nothing publishes there" if state.image_publishers == 0 else "its publisher is silent"
        return DiagnosticStatus.WARN, f"no image on {state.image_topic} for {silent_s:.1f} s: {cause}", values
    return DiagnosticStatus.OK, "receiving images" if values["pairs"] else "no image yet", values


def _registration_status(statistics: Statistics, state: NodeState) -> tuple[bytes, str, dict[str, Any]]:
    frames = {f"frames {kind}": count for kind, count in statistics.frames.items()}
    values: dict[str, Any] = {**statistics.outcomes, **frames, "state": statistics.state}
    age = statistics.seconds_since_accepted()
    values["seconds since accepted"] = "never" if age == float("inf") else f"{age:.1f}"
    if state.problem:
        return DiagnosticStatus.ERROR, state.problem, values
    if not state.enabled:
        return DiagnosticStatus.WARN, "disabled through ~/enable: images are ignored, and no pose is published", values
    if statistics.last_accepted and age > state.valid_timeout_s:
        return DiagnosticStatus.WARN, f"no pose for {age:.1f} s; the last image was accepted", values
    level = DiagnosticStatus.OK if statistics.last_accepted or not statistics.outcomes else DiagnosticStatus.WARN
    return level, statistics.last_reason or "no frame yet", values


def _ct_status(ct: CTVolume) -> tuple[bytes, str, dict[str, Any]]:
    """Return the warnings about the CT. They stay as long as the node uses it, because poses depend on its values."""
    values: dict[str, Any] = {f"warning {number}": warning for number, warning in enumerate(ct.warnings, start=1)}
    if not ct.is_hu:
        return DiagnosticStatus.WARN, "the values of the CT may not be Hounsfield units; see its warnings", values
    return DiagnosticStatus.OK, "as read", values


def _latencies(percentiles_s: Percentiles) -> dict[str, str]:
    """Return the percentiles of the whole latency, then those of each stage."""
    stages = {"": percentiles_s.get("latency", {})} | {f"{s} ": v for s, v in percentiles_s.items() if s != "latency"}
    return {f"{stage}{name}": f"{value:.4f}" for stage, values in stages.items() for name, value in values.items()}


def _status(name: str, level: bytes, message: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=_format_value(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, hardware_id=HARDWARE_ID, values=pairs)


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
