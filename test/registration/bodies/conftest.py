"""A phantom whose femurs and lower vertebrae move, its bodies, and simulated X-rays of it."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.formats.bodies import BodiesConfig, bodies_from_mapping
from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.registration.bodies.registrar import BodiesRegistrar
from fluoro_reg.simulation.moved_bodies import MovableBodies
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_labels, phantom_landmarks, phantom_volume
from fluoro_reg.simulation.simulator import XraySimulator
from fluoro_reg.xray.image import Intensity, XrayImage

OPTIONS = PhantomOptions(spacing_mm=(3.0, 3.0, 3.0))
CAMERA = carm_camera(256)


@dataclass(frozen=True)
class Patient:
    ct: CTVolume
    labels: LabelMap
    config: BodiesConfig
    movable: MovableBodies
    simulator: XraySimulator

    def points(self, name: str) -> torch.Tensor:
        numbers = torch.tensor(self.config.bodies[name].numbers, dtype=torch.int32)
        voxels = torch.isin(self.labels.labels, numbers).nonzero().flip(1).double()
        return self.ct.points_patient(voxels[:: max(1, len(voxels) // 200)])

    def view(self, shift=(0.0, 0.0, 0.0), primary_deg=6.0) -> RigidTransform:
        centre = phantom_landmarks(OPTIONS)["sacral_promontory"] + torch.tensor([0.0, 0.0, -75.0], dtype=torch.float64)
        return view_pose(centre + torch.tensor(shift, dtype=torch.float64), primary_deg, 3.0, 2.0, 700.0)

    def moved(self, view: RigidTransform, twists: dict[str, tuple[float, ...]]) -> dict[str, RigidTransform]:
        """Poses of the bodies after twists in mm and degrees about their joints."""
        poses = {}
        for name, (x, y, z, *angles) in twists.items():
            point = self.config.bodies[name].joint.point_mm or self.points(name).mean(0).tolist()
            twist = torch.tensor([x, y, z, *map(math.radians, angles)], dtype=torch.float64)
            poses[name] = retract(view, twist, torch.tensor(point, dtype=torch.float64))
        return poses

    def xray(self, view: RigidTransform, moved: dict[str, RigidTransform], tools=()) -> XrayImage:
        pixels = self.simulator.image(view, CAMERA, torch.Generator().manual_seed(1), tools, (self.movable, moved))
        usable = torch.ones(CAMERA.height, CAMERA.width, dtype=torch.bool)
        return XrayImage(torch.from_numpy(pixels.astype(np.float32)), CAMERA, Intensity.TRANSMITTED, usable)


@pytest.fixture(scope="session")
def patient() -> Patient:
    ct, labels, marks = phantom_volume(OPTIONS), phantom_labels(OPTIONS), phantom_landmarks(OPTIONS)
    hips = {side: marks[f"femoral_head_centre_{side}"].tolist() for side in ("left", "right")}
    config = bodies_from_mapping(
        {
            "reference": "pelvis",
            "bodies": {
                "pelvis": {"labels": ["sacrum", "hip_left", "hip_right"]},
                "femur_left": {"labels": ["femur_left"], "joint": {"point_mm": hips["left"], "sd_mm": 3, "sd_deg": 8}},
                "femur_right": {"labels": ["femur_right"], "joint": {"point_mm": hips["right"], "sd_mm": 3, "sd_deg": 8}},
                "L5": {"labels": ["vertebrae_L5"], "joint": {"sd_mm": 2, "sd_deg": 3}},
            },
        },
        "bodies.yaml",
    )
    movable = MovableBodies.of(ct, labels, {name: body.numbers for name, body in config.bodies.items() if name != "pelvis"})
    return Patient(ct, labels, config, movable, XraySimulator(ct, SimulationOptions()))


@pytest.fixture(scope="session")
def registrar(patient: Patient) -> BodiesRegistrar:
    return BodiesRegistrar(patient.ct, patient.config, patient.labels)
