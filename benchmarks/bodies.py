"""Registration of every bone on its own: simulated X-rays in which bones have moved, and real biplane frames of a wrist.

    python benchmarks/bodies.py simulated --ct DATA/ct/abdomen_pelvis_3mm --cases 30 --out records.jsonl
    python benchmarks/bodies.py levels --ct DATA/ct/abdomen_pelvis_3mm --starts 100
    python benchmarks/bodies.py wrist DATA/xray/wrist_biplane --starts 5 --overlays OUT
    python benchmarks/bodies.py time
    python benchmarks/bodies.py tracking --frames 30

`simulated` moves femurs up to 15 degrees and 5 mm, and vertebrae up to 5 degrees and 2 mm against the bone below. Without
`--ct` it takes the phantom. A body counts where at least half of it is in the image; a wrong accepted one counts wherever it
is. Beside it is the rigid registration of the whole CT. `levels` begins a vertebra too high or too low, in turn with the
initial pose of the whole, and with the joint that says where the vertebrae are to be sought. `wrist` takes the pose of the ulna
in the radius in the *other* frame as the mean of the joint; the reference poses are a fit by another program, so errors are
differences. `time` registers one X-ray of the phantom with 1 to 8 bodies and counts processor time, `tracking` follows four
bodies in a recording. Prints Markdown tables.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bodies_common import (
    KINDS,
    RIGHT_MM,
    SIZE_PX,
    WRONG_MM,
    kind_of,
    labelled_ct,
    pose_errors,
    simulated_config,
    turn_deviation,
    xray_of,
)
from bodies_levels import levels, levels_table
from bodies_tracking import tracking, tracking_table
from machine import machine
from PIL import Image
from wrist_biplane import CAMERAS, FRAMES, read_bone, read_views

from fluoro_reg.carm.aim import aim_point, bone_points
from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.carm.views import carm_camera, random_view
from fluoro_reg.formats.bodies import bodies_from_mapping
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration import Registrar, RegistrationResult
from fluoro_reg.registration.bodies.overlay import BodiesOverlay
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.simulation.body_motion import BodyScene
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_volume
from fluoro_reg.simulation.simulator import XraySimulator

START_MM = (5.0, 15.0)
IN_FIELD = 0.5  # of a body's points: it counts
MOVING = ("femur_left", "femur_right", "vertebrae_L5", "vertebrae_L4", "vertebrae_L3", "hip_left", "hip_right")


def simulated(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record for each body of each case."""
    ct, labels, heads = labelled_ct(arguments.ct)
    config, camera = simulated_config(heads), carm_camera(SIZE_PX)
    generator = torch.Generator().manual_seed(arguments.seed)
    scene = BodyScene.of(config, labels, ct, generator)
    registrar, rigid_registrar = BodiesRegistrar(ct, config, labels), Registrar(ct)
    simulator = XraySimulator(ct, SimulationOptions())
    skeleton = aim_point(ct, bone_points(ct, 4000, generator))
    aims = [skeleton, _beside(heads["femur_left"]), scene.points["L4"].mean(0), _beside(heads["femur_right"])]
    for number in range(arguments.cases):
        generator = torch.Generator().manual_seed(1000 * arguments.seed + number)
        view = random_view(aims[number % len(aims)], 0.3, generator)
        moved = scene.draw(view, generator)
        xray = xray_of(simulator.image(view, camera, generator, (), (scene.movable, moved)), camera)
        low, high = START_MM
        start_mm = low + (high - low) * float(torch.rand(1, generator=generator))
        initial = perturb_to_mtre(view, scene.points["pelvis"][:200], start_mm, ct.centre_patient, generator)
        result, rigid = registrar.register(xray, initial), rigid_registrar.register(xray, initial)
        for name, truth in scene.truths(view, moved, camera).items():
            found = result.bodies[name]
            points = truth.points_patient if len(truth.points_patient) else scene.points[name][:40]
            yield {
                "case": number,
                "body": name,
                "kind": kind_of(name),
                "in_field": truth.in_field,
                **pose_errors("", found.camera_from_patient, truth.camera_from_patient, points),
                **pose_errors("rigid_", rigid.camera_from_patient, truth.camera_from_patient, points),
                "turn_deviation": turn_deviation(found, truth.camera_from_patient),
                "rigid_accepted": rigid.accepted,
                "accepted": found.accepted,
                "reason": found.reason,
                "scores": found.scores,
                "seconds": found.elapsed_s,
                "n_renders": found.n_renders,
            }


def _beside(head: list[float]) -> torch.Tensor:
    """The aim of a view of one hip: between its head and the middle of the body, a little higher."""
    return torch.tensor([0.6 * head[0], head[1], head[2] + 25.0], dtype=torch.float64)


def _wrist_record(
    run: str, frame: str, bone: str, start: int, found: RegistrationResult, errors: dict[str, float]
) -> dict[str, Any]:
    pose = found.camera_from_patient
    return {
        "run": run,
        "frame": frame,
        "bone": bone,
        "start": start,
        **errors,
        "accepted": found.accepted,
        "reason": found.reason,
        "seconds": found.elapsed_s,
        "pose": None if pose is None else pose.matrix().tolist(),
    }


def simulated_table(records: list[dict[str, Any]]) -> list[str]:
    """The figures of every kind of body."""
    lines = ["| figure | " + " | ".join(dict.fromkeys(KINDS.values())) + " |", "|---|" + "--:|" * len(KINDS)]
    columns = [[r for r in records if r["kind"] == kind] for kind in KINDS.values()]
    seen = [[r for r in column if r["in_field"] >= IN_FIELD] for column in columns]

    def share(rows: list[dict[str, Any]], key: str) -> str:
        return f"{100 * sum(r[key] < RIGHT_MM for r in rows) / len(rows):.0f} %" if rows else "-"

    def median(rows: list[dict[str, Any]], key: str) -> str:
        return f"{statistics.median(r[key] for r in rows):.2f}" if rows else "-"

    def deviation(rows: list[dict[str, Any]]) -> str:
        squares = [r["turn_deviation"] ** 2 for r in rows if r["turn_deviation"] is not None]
        return f"{math.sqrt(statistics.mean(squares)):.2f}" if squares else "-"

    figures = {
        "bodies, at least half of them in the image": [len(rows) for rows in seen],
        "in plane below 1 mm": [share(rows, "in_plane_mm") for rows in seen],
        "in plane below 1 mm, rigid CT": [share(rows, "rigid_in_plane_mm") for rows in seen],
        "median in-plane error, mm": [median(rows, "in_plane_mm") for rows in seen],
        "median in-plane error of the rigid CT, mm": [median(rows, "rigid_in_plane_mm") for rows in seen],
        "median mTRE, mm": [median(rows, "mtre_mm") for rows in seen],
        "median error of rotation, degrees": [median(rows, "rotation_deg") for rows in seen],
        "error of rotation, in predicted standard deviations (rms)": [deviation(rows) for rows in seen],
        "accepted": [sum(r["accepted"] for r in rows) for rows in seen],
        "accepted of all, wherever they are": [sum(r["accepted"] for r in column) for column in columns],
        "accepted and over 1 mm in plane": [sum(r["accepted"] and r["in_plane_mm"] > RIGHT_MM for r in c) for c in columns],
        "accepted and over 5 mm in plane": [sum(r["accepted"] and r["in_plane_mm"] > WRONG_MM for r in c) for c in columns],
        "rigid CT accepted and over 5 mm in plane": [
            sum(r["rigid_accepted"] and r["rigid_in_plane_mm"] > WRONG_MM for r in c) for c in columns
        ],
    }
    names = list(figures)
    return lines + [f"| {name} | " + " | ".join(map(str, figures[name])) + " |" for name in names]


def wrist(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Radius and ulna together, in two views and in each alone, and each bone alone in two views."""
    references = json.loads((arguments.folder / "reference_poses.json").read_text())["world_from_patient"]
    pose = {key: RigidTransform.from_matrix(value) for key, value in references.items()}
    bones = {bone: read_bone(arguments.folder / f"{bone}_dcm_cropped.tif") for bone in ("rad", "uln")}
    alone = {bone: Registrar(volume) for bone, (volume, _) in bones.items()}
    for index, frame in enumerate(FRAMES):
        other = FRAMES[1 - index]
        mean = (pose[f"rad_{other}"].inverse() @ pose[f"uln_{other}"]).matrix().tolist()
        joint = {"parent_from_body": mean, "sd_mm": 4.0, "sd_deg": 12.0}
        config = bodies_from_mapping(
            {"reference": "rad", "bodies": {"rad": {}, "uln": {"ct": "its own", "joint": joint}}}, "wrist"
        )
        registrar = BodiesRegistrar(bones["rad"][0], config, None, {"uln": bones["uln"][0]})
        views = read_views(arguments.folder, frame)
        for k in range(arguments.starts):
            generator = torch.Generator().manual_seed(1000 * index + k)
            start_mm = 3.0 + 9.0 * float(torch.rand(1, generator=generator))
            points = bones["rad"][1]
            initial = perturb_to_mtre(pose[f"rad_{frame}"], points, start_mm, points.mean(0), generator)
            runs = {"both views, together": (registrar.register_views(views, initial), RigidTransform.identity())}
            for camera, view in zip(CAMERAS, views, strict=True):
                from_world = view.camera_from_reference
                runs[f"view {camera}, together"] = (registrar.register(view.image, from_world @ initial), from_world)
            if arguments.overlays and k == 0:
                _write_overlays(arguments.overlays, frame, views, registrar, runs["both views, together"][0])
            for name, (result, from_world) in runs.items():
                for bone, found in result.bodies.items():
                    true = from_world @ pose[f"{bone}_{frame}"]
                    record = pose_errors("", found.camera_from_patient, true, bones[bone][1])
                    yield _wrist_record(name, frame, bone, k, found, record)
            for bone, registrar_alone in alone.items():
                begin = initial if bone == "rad" else initial @ RigidTransform.from_matrix(mean)
                found = registrar_alone.register_views(views, begin)
                record = pose_errors("", found.camera_from_patient, pose[f"{bone}_{frame}"], bones[bone][1])
                yield _wrist_record("both views, alone", frame, bone, k, found, record)


def _write_overlays(folder: Path, frame: str, views: list, registrar: BodiesRegistrar, result: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for camera, view in zip(CAMERAS, views, strict=True):
        Image.fromarray(BodiesOverlay(registrar.bodies).draw(view, result)).save(folder / f"wrist_{frame}_cam{camera}.png")


def wrist_table(records: list[dict[str, Any]], references: Path) -> list[str]:
    """The figures of every run and bone, and the turn of the ulna about the radius between the frames."""
    lines = [
        "| run | bone | n | median mTRE, mm | mTRE below 1 mm | median in plane, mm | in plane below 1 mm | accepted | "
        "accepted over 2 mm |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in dict.fromkeys(r["run"] for r in records):
        for bone in ("rad", "uln"):
            rows = [r for r in records if r["run"] == name and r["bone"] == bone]
            key = "mtre_mm" if name.startswith("both") else "in_plane_mm"
            wrong = sum(r["accepted"] and r[key] > 2.0 for r in rows)
            medians = [statistics.median(r[k] for r in rows) for k in ("mtre_mm", "in_plane_mm")]
            shares = [100 * sum(r[k] < RIGHT_MM for r in rows) / len(rows) for k in ("mtre_mm", "in_plane_mm")]
            accepted = sum(r["accepted"] for r in rows)
            lines.append(
                f"| {name} | {bone} | {len(rows)} | {medians[0]:.2f} | {shares[0]:.0f} % | {medians[1]:.2f} | "
                f"{shares[1]:.0f} % | {accepted} | {wrong} |"
            )
    poses = json.loads(references.read_text())["world_from_patient"]
    true = _turn({key: RigidTransform.from_matrix(value) for key, value in poses.items()})
    lines.append(f"\nTurn of the ulna about the radius between the frames: {true:.2f} degrees by the reference poses.")
    for name in ("both views, together", "both views, alone"):
        turns = []
        for k in sorted({r["start"] for r in records}):
            rows = [r for r in records if r["run"] == name and r["start"] == k and r["pose"] is not None]
            found = {f"{r['bone']}_{r['frame']}": RigidTransform.from_matrix(r["pose"]) for r in rows}
            if len(found) == 2 * len(FRAMES):
                turns.append(_turn(found))
        if turns:
            lines.append(f"{name}: median {statistics.median(turns):.2f}, from {min(turns):.2f} to {max(turns):.2f} degrees.")
    return lines


def _turn(pose: dict[str, RigidTransform]) -> float:
    """The angle between the poses of the ulna in the radius in the two frames, degrees."""
    first, second = (pose[f"rad_{frame}"].inverse() @ pose[f"uln_{frame}"] for frame in FRAMES)
    return math.degrees(float(so3.angle(first.rotation @ second.rotation.mT)))


def time_table(repeats: int) -> list[str]:
    """Processor time and renders of one X-ray of the phantom, by the number of bodies."""
    ct, labels = phantom_volume(PhantomOptions()), phantom_labels(PhantomOptions())
    view = random_view(ct.centre_patient, 0.0, torch.Generator().manual_seed(0))
    camera = carm_camera(SIZE_PX)
    xray = xray_of(XraySimulator(ct, SimulationOptions()).image(view, camera, torch.Generator().manual_seed(0)), camera)
    lines = ["| bodies | processor time, s | images of bodies |", "|--:|--:|--:|"]
    for count in (1, 2, 4, 8):
        rows = {"rest": {}, **{name: {"labels": [name], "joint": {"sd_mm": 2, "sd_deg": 3}} for name in MOVING[: count - 1]}}
        config = bodies_from_mapping({"reference": "rest", "bodies": rows}, "bodies of the benchmark")
        registrar = BodiesRegistrar(ct, config, labels)
        registrar.register(xray, view)  # compiles, and makes coarse volumes
        seconds = []
        for _ in range(repeats):
            begin = time.process_time()
            result = registrar.register(xray, view)
            seconds.append(time.process_time() - begin)
        lines.append(f"| {count} | {statistics.median(seconds):.2f} | {result.bodies['rest'].n_renders} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(dest="job", required=True)
    of_simulated = jobs.add_parser("simulated")
    of_simulated.add_argument("--ct", type=Path, help="the CT `abdomen_pelvis_3mm`; without it, the phantom")
    of_simulated.add_argument("--cases", type=int, default=30)
    of_simulated.add_argument("--seed", type=int, default=1)
    of_levels = jobs.add_parser("levels")
    of_levels.add_argument("--ct", type=Path, help="as for `simulated`")
    of_levels.add_argument("--starts", type=int, default=100)
    of_levels.add_argument("--seed", type=int, default=1)
    of_wrist = jobs.add_parser("wrist")
    of_wrist.add_argument("folder", type=Path, help="the data folder `xray/wrist_biplane`")
    of_wrist.add_argument("--starts", type=int, default=5, help="seeded initial poses of each frame")
    of_wrist.add_argument("--overlays", type=Path, help="folder for overlays of the first start")
    of_tracking = jobs.add_parser("tracking")
    of_tracking.add_argument("--frames", type=int, default=30)
    of_tracking.add_argument("--seed", type=int, default=1)
    of_time = jobs.add_parser("time")
    of_time.add_argument("--repeats", type=int, default=3)
    for job in (of_simulated, of_levels, of_wrist, of_tracking):
        job.add_argument("--out", type=Path, help="append one JSON line for each body to this file")
    arguments = parser.parse_args()
    if arguments.job == "time":
        print("\n".join(time_table(arguments.repeats)) + f"\n\n{json.dumps(machine())}")
        return
    jobs_by_name = {"simulated": simulated, "levels": levels, "wrist": wrist, "tracking": tracking}
    records = []
    for record in jobs_by_name[arguments.job](arguments):
        records.append(record)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
    tables = {"simulated": simulated_table, "levels": levels_table, "tracking": tracking_table}
    if arguments.job == "wrist":
        lines = wrist_table(records, arguments.folder / "reference_poses.json")
    else:
        lines = tables[arguments.job](records)
    seconds = statistics.median(record["seconds"] for record in records)
    print("\n".join(lines) + f"\n\nMedian seconds of a registration: {seconds:.1f}. {json.dumps(machine())}")


if __name__ == "__main__":
    main()
