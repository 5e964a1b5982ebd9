"""The approach: a view of a coarse grid comes near to the pose, among many views that are wrong."""

import math

import torch

from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration import Registrar
from fluoro_reg.registration.stages import view_approach
from fluoro_reg.registration.stages.view_approach import Compared, Round, approach
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

PIXELS = (16, 32)


def around(pose: RigidTransform, centre_patient: torch.Tensor, deg: float, count: int, seed: int) -> RigidTransform:
    """Poses turned about a centre by an angle, about random axes."""
    axes = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    turns = so3.exp(axes / axes.norm(dim=-1, keepdim=True) * math.radians(deg))
    centre = pose.apply(centre_patient[None])[0]
    return RigidTransform(turns @ pose.rotation, (turns @ (pose.translation - centre)[:, None]).squeeze(-1) + centre)


def angles_deg(poses: RigidTransform, truth: RigidTransform) -> torch.Tensor:
    return torch.rad2deg(so3.angle(poses.rotation @ truth.rotation.mT))


def approached(world, poses, evidence):
    registrar = Registrar(world.volume)
    scales = registrar.readings.whole.scales(preprocess(world.xray(), PreprocessOptions()), world.truth)
    return approach(scales, PIXELS, registrar.metric, [Compared(poses, evidence)])


def test_the_best_is_near_the_pose_though_its_view_was_not_the_likeliest(world):
    near, far = (around(world.truth, world.volume.centre_patient, deg, n, n) for deg, n in ((14.0, 6), (70.0, 30)))
    evidence = torch.cat([torch.full((6,), 0.5), torch.ones(30)])
    found = approached(world, RigidTransform.cat([near, far]), evidence)
    assert float(angles_deg(found.poses, world.truth)[found.evidence.argmax()]) < 2.0


def test_what_scores_far_less_is_dropped_before_and_between_the_rounds(world, monkeypatch):
    near, far = (around(world.truth, world.volume.centre_patient, deg, n, n) for deg, n in ((8.0, 4), (120.0, 30)))
    everything = RigidTransform.cat([near, far])
    found = approached(world, everything, torch.ones(34))
    assert len(found.evidence) < 10, "those far off explain little"
    monkeypatch.setattr(view_approach, "ROUNDS", (Round(2, 0.0, 1), Round(34, 0.0, 1)))
    found = approached(world, everything, torch.linspace(1.0, 0.1, 34))
    assert len(found.evidence) <= 2, "no more go on than are asked for"
    monkeypatch.setattr(view_approach, "ROUNDS", (Round(34, 0.9, 1), Round(34, 0.0, 1)))
    found = approached(world, everything, torch.cat([torch.ones(4), torch.full((30,), 0.5)]))
    assert len(found.evidence) <= 4
