"""Bones that move on their own in the demo: their records, their summary, the failed checks, and their part of the report."""

from dataclasses import replace

import pytest
import torch

from fluoro_reg.demo.assessment import Answer, DemoTruth, FrameRecord, ReceivedTransform, summarise
from fluoro_reg.demo.bodies import BodiesTruth, BodyRecord, failed_body_checks, summarise_bodies
from fluoro_reg.demo.plots import stage_seconds
from fluoro_reg.demo.report import body_section
from fluoro_reg.evaluation.metrics import TargetErrors
from fluoro_reg.geometry import RigidTransform

STAMP = 1_700_000_000_000_000_000
FRAMES = {"pelvis": "patient", "L5": "L5_link"}
POINTS = torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]], dtype=torch.float64)


def pose(x_mm):
    return RigidTransform(torch.eye(3, dtype=torch.float64), torch.tensor([x_mm, 0.0, 700.0], dtype=torch.float64))


TRUTH = BodiesTruth(FRAMES, {STAMP: {"pelvis": pose(0.0), "L5": pose(5.0)}}, dict.fromkeys(FRAMES, POINTS))


def record(accepted=True, in_plane_mm=0.2, received=True):
    errors = TargetErrors(0.5, in_plane_mm, 0.4, 0.1, 0.1) if received else None
    return BodyRecord(accepted, "because", pose(0.0) if received else None, errors)


def test_every_body_is_measured_by_the_transform_to_its_own_frame():
    answers = {name: {"accepted": "true", "reason": "similarity 0.9", "frame_id": frame} for name, frame in FRAMES.items()}
    values = {"accepted": "true", "outcome": "converged", "reason": "", "device": "cpu", "latency_s": "0.1"}
    line = {"stamp_ns": STAMP, "published_s": 1.0, "received_s": 1.2, "values": values, "bodies": answers}
    received = {
        "patient": ReceivedTransform(STAMP, pose(0.1), 1.1),
        "L5_link": ReceivedTransform(STAMP, pose(5.3), 1.1, "L5_link"),
    }
    frame = DemoTruth({STAMP: pose(0.0)}, POINTS, TRUTH).record(STAMP, Answer.from_json(line), received)
    assert {name: body.errors.in_plane_mm for name, body in frame.bodies.items()} == pytest.approx({"pelvis": 0.1, "L5": 0.3})
    assert frame.errors.mtre_mm == pytest.approx(0.1)


def test_a_body_without_an_answer_is_rejected():
    records = TRUTH.records(STAMP, {}, {})
    assert not any(body.accepted or body.errors for body in records.values())


def test_the_summary_counts_accepted_frames_of_each_body():
    frames = [{"L5": record(in_plane_mm=0.2)}, {"L5": record(in_plane_mm=0.6)}, {"L5": record(accepted=False, received=False)}]
    body = summarise_bodies(frames)["L5"]
    assert (body["accepted"], body["tf_received"]) == (2, 2)
    assert (body["median_in_plane_mm"], body["max_in_plane_mm"]) == (pytest.approx(0.4), pytest.approx(0.6))
    assert failed_body_checks(frames) == []


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        ([{"L5": record(in_plane_mm=2.5)}], "an accepted pose of L5 has an in-plane error of 2.5 mm"),
        ([{"L5": record(received=False)}], "L5: frames with a transform on /tf and accepted frames differ in 1"),
        (
            [{"L5": record()}, {"L5": record(accepted=False)}],
            "L5: frames with a transform on /tf and accepted frames differ in 1",
        ),
        ([{"L5": record(accepted=False, received=False)}], "L5 was accepted in no frame"),
    ],
)
def test_each_failed_check_is_one_sentence(frames, sentence):
    assert failed_body_checks(frames) == [sentence]


def frame_record(bodies):
    seconds = {"decode": 0.01, "register.refine together": 0.3, "register.find each body": 0.1}
    return FrameRecord(0, STAMP, False, True, "converged", "fine", latency_s=0.5, seconds=seconds, bodies=bodies)


def test_the_report_has_a_row_of_its_own_colour_for_each_body_and_escapes_reasons():
    bodies = {"pelvis": record(), "L5": replace(record(accepted=False, received=False), reason="<b>no</b>")}
    records = [frame_record(bodies)]
    page = body_section(records, summarise(records, 1))
    assert "Bones that move on their own" in page
    assert "rgb(0,158,115)" in page and "rgb(230,159,0)" in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page and "<b>no</b>" not in page
    assert "<svg" in page


def test_one_body_has_no_section():
    records = [frame_record({})]
    assert body_section(records, summarise(records, 1)) == ""


def test_the_stages_of_the_bodies_are_one_part_of_the_latency():
    seconds = stage_seconds(frame_record({"L5": record()}))
    assert seconds["bodies"] == pytest.approx(0.4)
    assert sum(seconds.values()) == pytest.approx(0.5)
    assert "bodies" not in stage_seconds(frame_record({}))
