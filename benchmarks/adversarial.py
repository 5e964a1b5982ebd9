"""Frames by the thousand that must not be believed, through the tracker and through a registration without an initial pose.

    python benchmarks/adversarial.py OUT.jsonl [--frames 10000] [--images 2000] [--ct CT ...] [--seed 0]

Half of the frames of a sequence are clean; the others, in runs of one to eight, are wrong (somebody else, mirrored, shuffled),
hard (low dose, tools, saturated), frozen, or true after a jump. Every answer is one line of OUT with the kind of its image, the
outcome, the evidence, and the error of the pose. `gates.py OUT.jsonl` prints the tables. An interrupted run is complete up to
its last line; runs with other seeds add to it.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from adversarial_kinds import CLEAN, HARD, KINDS, WRONG, Patient, phantom, stranger
from tracking_sequences import World

from fluoro_reg.carm.range import load_range
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult, Tracker
from fluoro_reg.registration.stages.view_search import DEFAULT_RANGE
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import xray_from_pixels

RATE_HZ = 15.0
SEQUENCE = 200  # frames
LONGEST_RUN = 8  # frames in a row that are not clean
FROZEN, LEVEL, JUMP = "frozen while the patient moves", "shifted by a vertebral level", "jump"
LEVEL_MM = 33.0
JUMP_MM_RAD = (12.0, 12.0, 12.0, 0.08, 0.08, 0.08)
SIZE_PX = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of the output."""

    path: str
    ct: str
    kind: str
    result: RegistrationResult
    truth: RigidTransform
    points: torch.Tensor

    def record(self) -> dict[str, Any]:
        pose, errors = self.result.camera_from_patient, {}
        if pose is not None:
            error = target_registration_errors(pose, self.truth, self.points)
            errors = {"mtre_mm": error.mtre_mm, "in_plane_mm": error.in_plane_mm, "depth_mm": error.depth_mm}
        result = self.result
        return {
            "path": self.path,
            "ct": self.ct,
            "kind": self.kind,
            "wrong": self.kind in WRONG,
            "accepted": result.accepted,
            "outcome": result.outcome.value,
            "reason": result.reason,
            "state": result.state,
            "seconds": result.elapsed_s,
            "scores": result.scores,
            **errors,
        }


def kinds_of_frames(n: int, generator: torch.Generator) -> list[str]:
    """A kind for each frame: clean ones, and runs of one to eight frames of another kind."""
    others, kinds = [*HARD, *WRONG, FROZEN, LEVEL, JUMP], [CLEAN] * 5
    while len(kinds) < n:
        length = int(torch.randint(1, LONGEST_RUN + 1, (1,), generator=generator))
        kinds += [others[int(torch.randint(len(others), (1,), generator=generator))]] * length
        kinds += [CLEAN] * int(torch.randint(1, LONGEST_RUN + 1, (1,), generator=generator))
    return kinds[:n]


def tracked(patient: Patient, world: World, frames: int) -> Iterator[Answer]:
    """Sequences of a moving patient, each from another view."""
    registrar = Registrar(patient.volume, RegistrationOptions())
    for _ in range(-(-frames // SEQUENCE)):
        primary, secondary = patient.uniform(-40, 40), patient.uniform(-15, 15)
        world.first = view_pose(world.pivot, primary, secondary, patient.uniform(-8, 8), patient.uniform(600, 800))
        poses = world.moving(SEQUENCE)
        tracker = Tracker(registrar, poses[0])
        offset, shown = torch.zeros(6, dtype=torch.float64), None
        for n, kind in enumerate(kinds_of_frames(SEQUENCE, world.generator)):
            if kind == JUMP:
                offset = torch.tensor(
                    [patient.uniform(-12, 12) for _ in range(3)] + [patient.uniform(-0.08, 0.08) for _ in range(3)]
                )
            truth = se3.retract(poses[n : n + 1], offset[None].double(), world.pivot)[0]
            if kind == LEVEL:
                shift = torch.tensor([[0.0, 0.0, LEVEL_MM if n % 2 else -LEVEL_MM, 0, 0, 0]], dtype=torch.float64)
                truth = se3.retract(RigidTransform.stack([truth]), shift, world.pivot)[0]
            if kind != FROZEN or shown is None:
                shown = KINDS.get(kind, KINDS[CLEAN])(patient, truth)
            xray = xray_from_pixels(shown, patient.camera, Intensity.TRANSMITTED)
            result = tracker.update(xray, round((1 + n / RATE_HZ) * 1e9))
            yield Answer("tracker", patient.name, kind, result, truth, world.points)


def searched(patient: Patient, world: World, images: int) -> Iterator[Answer]:
    """Single images from the whole default range, without an initial pose."""
    registrar, carm = Registrar(patient.volume, RegistrationOptions()), load_range(DEFAULT_RANGE)
    poses = carm.sample(world.pivot, images, patient.generator)
    for n in range(images):
        kind = list(KINDS)[n % len(KINDS)]
        xray = xray_from_pixels(KINDS[kind](patient, poses[n]), patient.camera, Intensity.TRANSMITTED)
        yield Answer("search", patient.name, kind, registrar.register(xray), poses[n], world.points)


def patients(paths: list[Path], generator: torch.Generator) -> Iterator[tuple[Patient, World]]:
    """The phantom and the CTs that are given; each has another of them, or another phantom, for a stranger."""
    volumes: list[tuple[str, CTVolume]] = [("phantom", phantom()), *((path.stem, read_ct(path)) for path in paths)]
    for k, (name, volume) in enumerate(volumes):
        world = World(SIZE_PX, volume, generator)
        other = stranger() if k == 0 else volumes[k - 1][1]
        yield Patient(name, volume, world.camera, world.points, generator, other), world


def write(answers: Iterator[Answer], file: TextIO) -> None:
    for answer in answers:
        file.write(json.dumps(answer.record()) + "\n")
        file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=10_000, help="frames through the tracker, of all CTs together")
    parser.add_argument("--images", type=int, default=2000, help="images without an initial pose, of all CTs together")
    parser.add_argument("--ct", type=Path, nargs="*", default=[], help="CTs besides the phantom")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)
    try:
        with arguments.out.open("a") as file:
            for patient, world in patients(arguments.ct, generator):
                share = 1 + len(arguments.ct)
                write(tracked(patient, world, arguments.frames // share), file)
                write(searched(patient, world, arguments.images // share), file)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
