"""The stamps and frame_ids of a recording: rates, gaps, stamps that repeat or go back, and clocks that disagree."""

import numpy as np
from jaxtyping import Float

from fluoro_reg.doctor.bag_contents import MAXIMUM_MESSAGES, BagContents, Messages
from fluoro_reg.doctor.examination import Fact, Finding, Level

_GAP = 3.0  # times the median interval
_LATE_S = 1.0  # between stamp and recording: more is another clock, or a stamp that is not the exposure's
_MS = 1e3


def header_facts(messages: Messages) -> list[Fact]:
    """Return rate, intervals and delay of the messages of a topic. No absolute time is shown."""
    intervals = _intervals_s(messages)
    facts = [
        Fact("topic", messages.topic),
        Fact("messages read", len(messages.stamps), "", f"at most {MAXIMUM_MESSAGES}"),
        Fact("damaged messages", messages.damaged),
        Fact("frame_id", sorted(set(messages.frame_ids))),
    ]
    if len(intervals):
        median = float(np.median(intervals))
        facts += [
            Fact("rate", round(1 / median, 3) if median > 0 else None, "Hz", "median interval of the stamps"),
            Fact("longest interval", round(float(intervals.max()) * _MS, 1), "ms", "stamps"),
            Fact("recorded after the stamp", round(_delay_s(messages) * _MS, 1), "ms", "median"),
        ]
    return facts


def header_findings(contents: BagContents) -> list[Finding]:
    """Return what is wrong with the stamps and frame_ids of the images."""
    assert contents.images is not None
    return [*_stamp_findings(contents.images), *_frame_findings(contents)]


def _stamp_findings(images: Messages) -> list[Finding]:
    intervals = _intervals_s(images)
    findings = []
    if not any(images.stamps):
        findings.append(
            (Level.WARNING, "every stamp of the images is 0, so tf2 cannot place them in time; stamp them in the driver")
        )
    elif (intervals == 0).any():
        count = int((intervals == 0).sum())
        findings.append(
            (Level.WARNING, f"{count} images repeat the stamp before them; the node skips them, so stamp every image")
        )
    if (intervals < 0).any():
        count = int((intervals < 0).sum())
        findings.append(
            (Level.WARNING, f"{count} stamps go back in time; the node waits or restarts there, so check the clock")
        )
    if len(intervals) > 2 and intervals.max() > _GAP * np.median(intervals) > 0:
        findings.append(
            (Level.NOTE, f"there is a gap of {intervals.max():.2f} s in the stamps; frames were dropped, or the beam was off")
        )
    if any(images.stamps) and abs(_delay_s(images)) > _LATE_S:
        findings.append(
            (
                Level.NOTE,
                f"images were recorded {_delay_s(images):.1f} s after their stamps: the clocks differ, or the stamps are not "
                "those of the exposure; maximum_image_age and tf2 need one clock",
            )
        )
    return [Finding(level, sentence) for level, sentence in findings]


def _frame_findings(contents: BagContents) -> list[Finding]:
    assert contents.images is not None
    frames = set(contents.images.frame_ids)
    findings = []
    if "" in frames:
        sentence = "images have no frame_id, so their pose has no parent frame; set it in the driver, or give it in the node"
        findings.append(Finding(Level.WARNING, sentence, "frames.camera: carm_xray_optical_frame"))
    if any(name.startswith("/") for name in frames):
        sentence = (
            "a frame_id begins with a slash, which tf2 does not allow; remove it in the driver, or name the frame in the node"
        )
        findings.append(Finding(Level.WARNING, sentence, f"frames.camera: {min(frames).lstrip('/')}"))
    if len(frames) > 1:
        findings.append(
            Finding(Level.WARNING, f"images have {len(frames)} different frame_ids; record one camera, or name its topic")
        )
    others = set(contents.infos.frame_ids) if contents.infos is not None else frames
    if others and frames and others != frames:
        sentence = (
            "the frame_id of CameraInfo is not that of the images; the images' is used, so check that both are one camera"
        )
        findings.append(Finding(Level.NOTE, sentence))
    return findings


def _intervals_s(messages: Messages) -> Float[np.ndarray, "n"]:
    return np.diff(np.array(messages.stamps, dtype=np.int64)) * 1e-9


def _delay_s(messages: Messages) -> float:
    return float(np.median(np.array(messages.received, dtype=np.int64) - np.array(messages.stamps, dtype=np.int64))) * 1e-9
