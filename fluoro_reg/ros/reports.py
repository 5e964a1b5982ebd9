"""The diagnostic messages of `~/result` and `/diagnostics` (REP-107: few, meaningful tasks)."""

from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from fluoro_reg.ros.conversions import header_message
from fluoro_reg.ros.input_monitor import InputMonitor
from fluoro_reg.ros.processor import ProcessedFrame
from fluoro_reg.ros.statistics import Statistics

HARDWARE_ID = "fluoro_reg"


def result_message(processed: ProcessedFrame, node_name: str) -> DiagnosticArray:
    """Return the result of one frame with its scores and the latency of each stage, stamped like the image."""
    frame, result = processed.frame, processed.result
    values: dict[str, Any] = {
        "stamp_ns": frame.stamp_ns,
        "accepted": result.accepted,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "method": result.method,
        "device": result.device,
        "similarity": result.similarity,
        "alternatives": len(result.alternatives),
        "n_renders": result.n_renders,
        "latency_s": processed.latency_s,
        "seconds.decode": processed.decode_s,
        "seconds.register": result.elapsed_s,
        **{f"seconds.register.{stage}": seconds for stage, seconds in result.seconds.items()},
        **{f"score.{name}": score for name, score in result.scores.items()},
    }
    level = DiagnosticStatus.OK if result.accepted else DiagnosticStatus.WARN
    status = _status(f"{node_name}: result", level, result.reason, values)
    return DiagnosticArray(header=header_message(frame.stamp_ns, frame.frame_id), status=[status])


def diagnostics_message(
    node_name: str, now_ns: int, statistics: Statistics, monitor: InputMonitor, configuration: Mapping[str, Any]
) -> DiagnosticArray:
    """Return the state of the node; `configuration` holds the settings to show."""
    tasks = [
        _input_status(statistics, monitor),
        _registration_status(statistics),
        (
            "latency",
            DiagnosticStatus.OK,
            "from the arrival of the pair to its result",
            _format_seconds(statistics.latency_percentiles_s()),
        ),
        ("configuration", DiagnosticStatus.OK, "as configured", dict(configuration)),
    ]
    status = [_status(f"{node_name}: {name}", level, message, values) for name, level, message, values in tasks]
    return DiagnosticArray(header=header_message(now_ns, ""), status=status)


def _input_status(statistics: Statistics, monitor: InputMonitor) -> tuple[str, bytes, str, dict[str, Any]]:
    counts = statistics.counts
    names = ("images", "infos", "pairs", "unpaired images", "dropped", "duplicate stamps", "late stamps", "restarts")
    values = {name: counts[name] for name in names}
    if counts["incompatible publishers"]:
        message = (
            "a publisher's QoS is incompatible with qos.image, so none of its messages arrive; see `ros2 topic info --verbose`"
        )
        return "input", DiagnosticStatus.ERROR, message, values
    if monitor.warning:
        return "input", DiagnosticStatus.WARN, monitor.warning, values
    return "input", DiagnosticStatus.OK, "receiving images" if counts["pairs"] else "no image yet", values


def _registration_status(statistics: Statistics) -> tuple[str, bytes, str, dict[str, Any]]:
    values: dict[str, Any] = dict(statistics.outcomes)
    age = statistics.seconds_since_accepted()
    values["seconds since accepted"] = "never" if age == float("inf") else f"{age:.1f}"
    level = DiagnosticStatus.OK if statistics.last_accepted or not statistics.outcomes else DiagnosticStatus.WARN
    return "registration", level, statistics.last_reason or "no frame yet", values


def _format_seconds(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.3f}" for name, value in values.items()}


def _status(name: str, level: bytes, message: str, values: Mapping[str, Any]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=_format_value(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, hardware_id=HARDWARE_ID, values=pairs)


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)
