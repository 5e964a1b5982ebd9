"""The assessment of the demo with artificial answers: errors and latencies with their units, and the failed checks."""

import math
from dataclasses import replace

import pytest
import torch

from fluoro_reg.demo.assessment import Answer, DemoTruth, ReceivedTransform, failed_checks, summarise
from fluoro_reg.demo.scene import blank_frames
from fluoro_reg.geometry import RigidTransform

STAMPS = [1_700_000_000_000_000_000 + n * 66_666_667 for n in range(4)]
POINTS = torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]], dtype=torch.float64)
POSE = RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([1.0, 2.0, 700.0], dtype=torch.float64))
TRUTH = DemoTruth({STAMPS[0]: POSE, STAMPS[1]: POSE, STAMPS[2]: None, STAMPS[3]: POSE}, POINTS)


def answer_line(stamp, accepted, latency="0.08"):
    values = {"accepted": "true" if accepted else "false", "outcome": "converged" if accepted else "rejected_image"}
    values |= {"reason": "because", "device": "cpu", "similarity": "0.9" if accepted else "", "latency_s": latency}
    values |= {"seconds.decode": "0.001", "seconds.register": "0.07", "seconds.register.refine": "0.06"}
    return {"stamp_ns": stamp, "published_s": 100.0, "received_s": 100.2, "values": values}


def received(stamp, x_mm=0.0):
    moved = RigidTransform(POSE.rotation, POSE.translation + torch.tensor([x_mm, 0.0, 0.0], dtype=torch.float64))
    line = {"stamp_ns": stamp, "parent_from_child": moved.matrix().tolist(), "received_s": 100.1, "child": "patient"}
    return ReceivedTransform.from_json(line)


def frame_records(transforms, accepted=(0, 1, 3)):
    """Return the records of the four frames, as the demo makes them."""
    at = {transform.stamp_ns: {transform.child: transform} for transform in transforms}
    answers = {stamp: Answer.from_json(answer_line(stamp, n in accepted)) for n, stamp in enumerate(STAMPS)}
    return [TRUTH.record(stamp, answers[stamp], at.get(stamp, {})) for stamp in STAMPS]


TRANSFORMS = [received(STAMPS[0], 0.3), received(STAMPS[1], -0.5), received(STAMPS[3], 0.9)]


def test_the_summary_has_the_errors_and_latencies_of_accepted_frames():
    content = summarise(frame_records(TRANSFORMS), len(TRANSFORMS))
    expected = {"frames": 4, "accepted": 3, "rejected": 1, "tf_received": 3, "device": "cpu"}
    assert {key: content[key] for key in expected} == expected
    assert content["median_mtre_mm"] == pytest.approx(0.5)
    assert content["max_mtre_mm"] == pytest.approx(0.9)
    assert content["median_latency_s"] == content["p99_latency_s"] == pytest.approx(0.1)
    assert failed_checks(frame_records(TRANSFORMS), TRANSFORMS) == []


def test_a_rotation_is_given_in_degrees_and_its_mtre_is_the_mean_chord_at_the_points():
    angle = math.radians(1.0)
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    pose = RigidTransform(rotation.double(), POSE.translation)
    transforms = {"patient": ReceivedTransform(STAMPS[0], pose, 100.1)}
    record = TRUTH.record(STAMPS[0], Answer.from_json(answer_line(STAMPS[0], True)), transforms)
    assert record.errors.rotation_deg == pytest.approx(1.0, abs=1e-4)
    assert record.errors.mtre_mm == pytest.approx((0 + 200 * math.sin(angle / 2)) / 2, rel=1e-4)


def test_a_rejected_frame_has_the_latency_of_its_rejection_and_no_error():
    rejected = frame_records(TRANSFORMS)[2]
    assert (rejected.blank, rejected.accepted, rejected.errors) == (True, False, None)
    assert rejected.latency_s == pytest.approx(0.2)
    assert rejected.seconds == {"decode": 0.001, "register": 0.07, "register.refine": 0.06, "node": 0.08}


@pytest.mark.parametrize(
    ("transforms", "accepted", "sentence"),
    [
        (TRANSFORMS[:2], (0, 1, 3), "accepted frames without a transform on /tf: 1"),
        (TRANSFORMS, (0, 1), "transforms on /tf without an accepted frame: 1"),
        ([*TRANSFORMS[:2], received(STAMPS[2]), TRANSFORMS[2]], (0, 1, 2, 3), "blank frames accepted: 1"),
        ([TRANSFORMS[1], TRANSFORMS[0], TRANSFORMS[2]], (0, 1, 3), "the stamps on /tf do not increase"),
        (TRANSFORMS[:1], (0,), "only 1 of 3 X-rays of the patient were accepted"),
        ([received(STAMPS[0], 6.0), *TRANSFORMS[1:]], (0, 1, 3), "an accepted pose has an error of 6.0 mm, more than 5 mm"),
        ([received(STAMPS[n], 2.0) for n in (0, 1, 3)], (0, 1, 3), "the median mTRE is 2.00 mm, more than 1 mm"),
    ],
)
def test_a_failed_check_is_reported(transforms, accepted, sentence):
    assert failed_checks(frame_records(transforms, accepted), transforms) == [sentence]


def test_a_frame_without_an_answer_counts_as_rejected_and_is_a_failed_check():
    records = [*frame_records(TRANSFORMS)[:3], TRUTH.record(STAMPS[3], None, {})]
    assert summarise(records, 2)["rejected"] == 2
    assert failed_checks(records, TRANSFORMS[:2]) == ["frames without an answer: 1"]


def test_without_accepted_frames_the_summary_has_no_errors_or_latencies():
    content = summarise([replace(record, accepted=False, errors=None) for record in frame_records([])], 0)
    numbers = ("median_mtre_mm", "max_mtre_mm", "median_latency_s", "p99_latency_s")
    assert [content[name] for name in numbers] == [None] * 4


@pytest.mark.parametrize("frames", [6, 12, 40, 400])
def test_three_frames_are_blank_but_never_the_first(frames):
    blank = blank_frames(frames)
    assert len(set(blank)) == 3
    assert 0 not in blank
    assert max(blank) < frames
