"""The last stage ends hypotheses early that are hopeless, if a coarser stage has brought them there."""

import torch

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.registration import Registrar, RegistrationOptions, load_method
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

FAR = torch.tensor([40.0, 30.0, -25.0, 0.3, -0.25, 0.2], dtype=torch.float64)


def test_a_hopeless_hypothesis_ends_early_after_a_coarser_stage_only(world):
    registrar, stages = Registrar(world.volume, RegistrationOptions()), load_method("lm-gradient-ncc").stages
    reading, pivot = registrar.readings.whole, world.volume.centre_patient
    scales = reading.scales(preprocess(world.xray(), PreprocessOptions()), world.truth)
    poses = RigidTransform.stack([world.truth, retract(world.truth, FAR, pivot)])
    judged, free, alone = (Solver(scales, reading.model, registrar.metric, NCCRefiners(pivot), None, 5.0) for _ in range(3))
    early = judged.run_last(poses, stages)
    late = free.run_last(poses, stages[-1:])
    best = alone.run_last(poses[:1], stages)
    assert judged.n_renders == alone.n_renders + 5  # where it began, and four steps
    assert free.n_renders > judged.n_renders
    for refined in (early, late):
        torch.testing.assert_close(refined.poses[0].matrix(), best.poses[0].matrix(), atol=1e-3, rtol=0)
