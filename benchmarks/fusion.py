"""Poses of several C-arm angles fused in an anchor, beside those of single frames, and a patient who moves.

    python benchmarks/fusion.py [--ct CT ...] [--rounds 10] [--anchor-sd-mm 0]

Each round takes five X-rays over 60 degrees of a patient who lies still, with the simulator's variants in turn, from initial
poses 10 to 20 mm away; then the patient moves by 5 mm in a random direction, and two more X-rays follow. Prints median errors
at targets in the body, and how often the movement was noticed within these two.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from adversarial_kinds import phantom
from render_bench.report import markdown
from tracking_sequences import World

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.evaluation.metrics import TargetErrors, target_registration_errors
from fluoro_reg.geometry import RigidTransform, se3
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.registration.fusion import PatientFusion
from fluoro_reg.simulation.simulator import XraySimulator
from fluoro_reg.simulation.variants import options_for_variant
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import xray_from_pixels

ANGLES_DEG, AFTERWARDS_DEG = (-30.0, -15.0, 0.0, 15.0, 30.0), (20.0, -10.0)
VARIANTS = ("standard", "noisy", "mismatch", "instruments", "couch")
MOVED_MM = 5.0


class Round:
    """One patient on the table; the anchor's frame is the patient's before the movement."""

    def __init__(self, world: World, registrar: Registrar, simulator: XraySimulator, sd_mm: float) -> None:
        self.world, self.registrar, self.simulator, self.sd_mm = world, registrar, simulator, sd_mm
        self.fusion = PatientFusion(world.pivot, (max(sd_mm, 1e-6), 0.0))
        self.anchor_from_patient = RigidTransform.identity()

    def move(self) -> None:
        direction = torch.randn(3, dtype=torch.float64, generator=self.world.generator)
        twist = torch.cat([MOVED_MM * direction / direction.norm(), torch.zeros(3, dtype=torch.float64)])
        self.anchor_from_patient = se3.retract(self.anchor_from_patient, twist, self.world.pivot)

    def frame(self, primary_deg: float, variant: str) -> tuple[TargetErrors, TargetErrors, bool] | None:
        """Errors of the frame alone and fused, and whether the fusion began anew; None if the frame was not accepted."""
        world = self.world
        camera_from_anchor = view_pose(world.pivot, primary_deg, 0.0, 0.0, 700.0)
        truth = camera_from_anchor @ self.anchor_from_patient
        simulator = self.simulator.with_options(options_for_variant(variant, world.generator))
        pixels = simulator.image(truth, world.camera, world.generator)
        away_mm = 10 + 10 * torch.rand(1, generator=world.generator).item()
        initial = perturb_to_mtre(truth, world.points, away_mm, world.pivot, world.generator)
        result = self.registrar.register(xray_from_pixels(pixels, world.camera, Intensity.TRANSMITTED), initial)
        if not result.accepted or result.camera_from_patient is None:
            return None
        noise = torch.cat([self.sd_mm * torch.randn(3, dtype=torch.float64, generator=world.generator), torch.zeros(3)])
        anchor_from_camera = camera_from_anchor.inverse() @ se3.exp(noise.double())
        fused = self.fusion.add(anchor_from_camera, result)
        errors = (result.camera_from_patient, camera_from_anchor @ fused.anchor_from_patient)
        alone, together = (target_registration_errors(pose, truth, world.points) for pose in errors)
        return alone, together, fused.began_anew


def rounds(volume: CTVolume, n: int, sd_mm: float) -> Iterator[dict[str, float]]:
    world = World(256, volume)
    registrar, simulator = (
        Registrar(volume, RegistrationOptions()),
        XraySimulator(volume, options_for_variant("standard", torch.Generator())),
    )
    for k in range(n):
        one = Round(world, registrar, simulator, sd_mm)
        still = [one.frame(angle, VARIANTS[(k + i) % len(VARIANTS)]) for i, angle in enumerate(ANGLES_DEG)]
        seen = [frame for frame in still if frame is not None]
        one.move()
        after = [one.frame(angle, VARIANTS[k % len(VARIANTS)]) for angle in AFTERWARDS_DEG]
        noticed = next((i + 1 for i, frame in enumerate(after) if frame is not None and frame[2]), 0)
        if not seen:
            continue
        yield {
            "frames": len(seen),
            "depth_alone_mm": statistics.median(alone.depth_mm for alone, _, _ in seen),
            "depth_fused_mm": seen[-1][1].depth_mm,
            "mtre_alone_mm": statistics.median(alone.mtre_mm for alone, _, _ in seen),
            "mtre_fused_mm": seen[-1][1].mtre_mm,
            "began_anew_while_still": sum(anew for _, _, anew in seen),
            "noticed_after": noticed,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ct", type=Path, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--anchor-sd-mm", type=float, default=0.0, help="error of the camera's place in the anchor")
    arguments = parser.parse_args()
    volumes = {"phantom": phantom(), **{path.stem: read_ct(path) for path in arguments.ct}}
    table = []
    for name, volume in volumes.items():
        records = list(rounds(volume, arguments.rounds, arguments.anchor_sd_mm))
        middle = [statistics.median(r[k] for r in records) for k in list(records[0])[1:5]]
        noticed = [r["noticed_after"] for r in records]
        table.append([name, str(sum(int(r["frames"]) for r in records)), *(f"{value:.2f}" for value in middle),
                      str(sum(int(r["began_anew_while_still"]) for r in records)),
                      f"{sum(0 < k <= 2 for k in noticed)}/{len(noticed)}"])  # fmt: skip
    columns = ["CT", "frames", "depth alone, mm", "depth fused, mm", "mTRE alone, mm", "mTRE fused, mm", "anew while still",
               "5 mm noticed within 2"]  # fmt: skip
    print(markdown(columns, table, texts=1))


if __name__ == "__main__":
    main()
