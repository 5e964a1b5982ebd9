"""`bodies.py tracking`: pelvis, both femurs and L5 of the phantom, followed from frame to frame, and where the time goes.

A C-arm with a detector of 43 cm moves around the AP view at 15 Hz, in images of 256 x 256, while the bones move to and fro.
Processor time is that of the process, on all of its threads; it is divided among the stages as their wall time is.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from bodies_common import RIGHT_MM, SIZE_PX, WRONG_MM, pose_errors, simulated_config, xray_of

from fluoro_reg.carm.dimensions import SOURCE_TO_OBJECT_MM
from fluoro_reg.carm.pose_sampling import perturb_to_mtre, smooth_motion
from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.formats.bodies import BodiesConfig
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.registration.bodies.tracker import BodiesTracker
from fluoro_reg.simulation.body_motion import BodyScene
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_landmarks, phantom_volume
from fluoro_reg.simulation.simulator import XraySimulator

BODIES = ("pelvis", "femur_left", "femur_right", "L5")
DETECTOR_MM, MOTION, START_MM, FRAME_NS = 430.0, (12.0, 0.09), 5.0, 66_666_667
STAGES = ("preprocess", "refine", "assess", "prepare", "find each body", "refine together", "assess bodies")


def tracking(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record for each frame."""
    options = PhantomOptions()
    marks = phantom_landmarks(options)
    heads = {f"femur_{side}": marks[f"femoral_head_centre_{side}"].tolist() for side in ("left", "right")}
    ct, labels, whole = phantom_volume(options), phantom_labels(options), simulated_config(heads)
    config = BodiesConfig(whole.reference, {name: whole.bodies[name] for name in BODIES})
    generator = torch.Generator().manual_seed(arguments.seed)
    scene, camera = BodyScene.of(config, labels, ct, generator), carm_camera(SIZE_PX, DETECTOR_MM)
    first = ap_pose(scene.middle(), SOURCE_TO_OBJECT_MM)
    poses = smooth_motion(first, arguments.frames, scene.middle(), MOTION, generator)
    initial = perturb_to_mtre(first, scene.points["pelvis"][:200], START_MM, ct.centre_patient, generator)
    simulator = XraySimulator(ct, SimulationOptions())
    tracker = BodiesTracker(BodiesRegistrar(ct, config, labels), initial)
    for number, moved in enumerate(scene.draw_motion(poses, generator)):
        xray = xray_of(simulator.image(poses[number], camera, generator, (), (scene.movable, moved)), camera)
        begin = time.process_time()
        result = tracker.update(xray, number * FRAME_NS)
        seconds = time.process_time() - begin
        truths = scene.truths(poses[number], moved, camera)
        yield {
            "frame": number,
            "seconds": seconds,
            "stages": result.seconds,
            "n_renders": result.n_renders,
            "searches": "find each body" in result.seconds and result.seconds["find each body"] > 0.05,
            "bodies": {
                name: {
                    "accepted": found.accepted,
                    "reason": found.reason,
                    **pose_errors("", found.camera_from_patient, truths[name].camera_from_patient, truths[name].points_patient),
                }
                for name, found in result.bodies.items()
            },
        }


def tracking_table(records: list[dict[str, Any]]) -> list[str]:
    """What every body reached, and the processor time of a frame by stage, with and without a search for a body."""
    lines = ["| body | accepted | median in plane, mm | accepted and over 1 mm | over 5 mm | mostly not accepted because |"]
    lines.append("|---|--:|--:|--:|--:|---|")
    for name in BODIES:
        bodies = [record["bodies"][name] for record in records]
        errors = [body["in_plane_mm"] for body in bodies if body["accepted"]]
        over = [sum(error > limit for error in errors) for limit in (RIGHT_MM, WRONG_MM)]
        why = Counter(body["reason"] for body in bodies if not body["accepted"]).most_common(1)
        median = f"{statistics.median(errors):.2f}" if errors else "-"
        accepted = f"{len(errors)} of {len(records)}"
        lines.append(f"| {name} | {accepted} | {median} | {over[0]} | {over[1]} | {why[0][0] if why else ''} |")
    lines += ["", "| frames | n | images of bodies | processor time, s | " + " | ".join(STAGES) + " |"]
    lines.append("|---|--:|--:|--:|" + "--:|" * len(STAGES))
    for title, searches in (("all bodies are followed", False), ("a body is searched", True)):
        rows = [record for record in records[1:] if record["searches"] is searches]
        if rows:
            parts = " | ".join(f"{statistics.median(_part(row, stage) for row in rows):.3f}" for stage in STAGES)
            figures = [statistics.median(row[key] for row in rows) for key in ("n_renders", "seconds")]
            lines.append(f"| {title} | {len(rows)} | {figures[0]:.0f} | {figures[1]:.2f} | {parts} |")
    return lines


def _part(record: dict[str, Any], stage: str) -> float:
    """The processor time of a stage, s."""
    return record["seconds"] * record["stages"].get(stage, 0.0) / sum(record["stages"].values())
