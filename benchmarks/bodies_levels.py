"""`bodies.py levels`: registrations that begin a vertebra too high or too low.

In turn, the initial pose of the whole is off, or the joint that says where the vertebrae are to be sought. The neighbour of a
vertebra resembles it, so that a body may be found at its neighbour's place. It must not be accepted there.
"""

import argparse
import math
from collections.abc import Iterator
from typing import Any

import torch
from bodies_common import KINDS, RIGHT_MM, SIZE_PX, WRONG_MM, kind_of, labelled_ct, pose_errors, simulated_config, xray_of

from fluoro_reg.carm.aim import aim_point, bone_points
from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.carm.views import carm_camera, random_view
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.simulation.body_motion import BodyScene
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.simulator import XraySimulator

START_MM = 5.0  # of the initial pose, besides the vertebra
GROSS_MM = 10.0
NEIGHBOUR_MM = 15.0  # in plane: nearer to a neighbour than to its own place


def levels(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record for each body of each start that is wrong by a vertebra."""
    ct, labels, heads = labelled_ct(arguments.ct)
    camera, generator = carm_camera(SIZE_PX), torch.Generator().manual_seed(arguments.seed)
    scene = BodyScene.of(simulated_config(heads), labels, ct, generator)
    level = scene.points["L4"].mean(0) - scene.points["L5"].mean(0)
    shifts = {"up": level, "down": -level}
    right = BodiesRegistrar(ct, simulated_config(heads), labels)
    wrong = {
        name: BodiesRegistrar(ct, simulated_config(heads, tuple(shift.tolist())), labels) for name, shift in shifts.items()
    }
    simulator = XraySimulator(ct, SimulationOptions())
    aims = [scene.points["L4"].mean(0), scene.points["L5"].mean(0), aim_point(ct, bone_points(ct, 4000, generator))]
    for number in range(arguments.starts):
        generator = torch.Generator().manual_seed(1000 * arguments.seed + number)
        view = random_view(aims[number % len(aims)], 0.3, generator)
        moved = scene.draw(view, generator)
        xray = xray_of(simulator.image(view, camera, generator, (), (scene.movable, moved)), camera)
        initial = perturb_to_mtre(view, scene.points["pelvis"][:200], START_MM, ct.centre_patient, generator)
        of_joint, way = number % 2 == 1, ("up", "down")[number // 2 % 2]
        if of_joint:
            result = wrong[way].register(xray, initial)
        else:
            shift = RigidTransform(torch.eye(3, dtype=torch.float64), shifts[way])
            result = right.register(xray, initial @ shift)
        for name, truth in scene.truths(view, moved, camera).items():
            found = result.bodies[name]
            points = truth.points_patient if len(truth.points_patient) else scene.points[name][:40]
            yield {
                "start": number,
                "wrong": f"{'joint' if of_joint else 'initial pose'}, a vertebra {way}",
                "body": name,
                "kind": kind_of(name),
                "in_field": truth.in_field,
                **pose_errors("", found.camera_from_patient, truth.camera_from_patient, points),
                "accepted": found.accepted,
                "reason": found.reason,
                "scores": found.scores,
                "seconds": found.elapsed_s,
            }


def levels_table(records: list[dict[str, Any]]) -> list[str]:
    """What was accepted, and how far off, for every kind of start and of body."""
    lines = [
        "| wrong | body | n | accepted | accepted and over 1 mm in plane | over 5 mm | over 10 mm | near a neighbour's place |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for wrong in dict.fromkeys(r["wrong"] for r in records):
        for kind in KINDS.values():
            rows = [r for r in records if r["wrong"] == wrong and r["kind"] == kind]
            accepted = [r["in_plane_mm"] for r in rows if r["accepted"]]
            over = [sum(error > limit for error in accepted) for limit in (RIGHT_MM, WRONG_MM, GROSS_MM)]
            away = sum(NEIGHBOUR_MM < r["in_plane_mm"] < math.inf for r in rows)
            lines.append(f"| {wrong} | {kind} | {len(rows)} | {len(accepted)} | {over[0]} | {over[1]} | {over[2]} | {away} |")
    return lines
