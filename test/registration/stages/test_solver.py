"""The last stage ends hypotheses early that are hopeless, if a coarser stage has brought them there."""

import torch

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.registration import Registrar, RegistrationOptions, load_method
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

FAR = torch.tensor([60.0, 60.0, -25.0, 0.5, -0.4, 0.3], dtype=torch.float64)


def test_a_hopeless_hypothesis_ends_early_after_a_coarser_stage_only(world):
    registrar, stages = Registrar(world.volume, RegistrationOptions()), load_method("lm-gradient-ncc").stages
    reading, pivot = registrar.readings.whole, world.volume.centre_patient
    scales = reading.scales(preprocess(world.xray(), PreprocessOptions()), world.truth)
    poses = RigidTransform.stack([world.truth, retract(world.truth, FAR, pivot)])
    judged, free = (Solver(scales, reading.model, registrar.metric, NCCRefiners(pivot), None, 5.0) for _ in range(2))
    early, late = judged.run_last(poses, stages), free.run_last(poses, stages[-1:])
    assert judged.n_renders < free.n_renders
    for refined in (early, late):
        assert float(registrar.metric.distances(refined.poses[:1], world.truth)) < 0.5
