"""Which hypotheses go on: apart from others, without hope, and as the result of another similarity."""

from dataclasses import replace

import torch

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.optimisers.problem import Minima
from fluoro_reg.registration import Registrar, RegistrationOptions, load_method
from fluoro_reg.registration.stages import solver
from fluoro_reg.registration.stages.ncc_refiner import NCCRefiners
from fluoro_reg.registration.stages.solver import Solver
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

FAR = torch.tensor([60.0, 60.0, -25.0, 0.5, -0.4, 0.3], dtype=torch.float64)


def solver_of(world, registrar: Registrar) -> Solver:
    reading = registrar.readings.whole
    scales = reading.scales(preprocess(world.xray(), PreprocessOptions()), world.truth)
    return Solver(scales, reading.model, registrar.metric, NCCRefiners(world.volume.centre_patient), None, 5.0)


def test_hypotheses_run_apart_do_not_end_for_what_others_have_found(world):
    """Together, the stage keeps the better one only, as its rival explains the X-ray much less."""
    stages, registrar = load_method("cma-es").stages, Registrar(world.volume, RegistrationOptions(method="cma-es"))
    short = tuple(replace(stage, optimiser=replace(stage.optimiser, generations=2), keep=2) for stage in stages)
    far = RigidTransform.stack([retract(world.truth, FAR, world.volume.centre_patient)])
    true = RigidTransform.stack([world.truth])
    together = solver_of(world, registrar).run_coarse(RigidTransform.cat([far, true]), short)
    apart = solver_of(world, registrar).run_apart([far, true], short)
    assert len(together.translation) == 1 and len(apart.translation) == 2
    errors = registrar.metric.distances(apart, world.truth)
    assert errors[0] < 10 < errors[1]


def test_a_hopeless_hypothesis_ends_early_after_a_coarser_stage_only(world):
    registrar, stages = Registrar(world.volume, RegistrationOptions()), load_method("lm-gradient-ncc").stages
    poses = RigidTransform.stack([world.truth, retract(world.truth, FAR, world.volume.centre_patient)])
    judged, free = solver_of(world, registrar), solver_of(world, registrar)
    early, late = judged.run_last(poses, stages), free.run_last(poses, stages[-1:])
    assert judged.n_renders < free.n_renders
    for refined in (early, late):
        assert float(registrar.metric.distances(refined.poses[:1], world.truth)) < 0.5


def test_the_evidence_decides_between_minima_of_another_similarity(world, monkeypatch):
    """Even if the value of the wrong one is lower."""

    def nothing_found(optimiser, values, poses, seed):
        count = len(poses.translation)
        still, ascending = torch.zeros(count, 6, dtype=torch.float64), torch.arange(count, dtype=torch.float64)
        return Minima(
            still, ascending, torch.ones(count, dtype=torch.bool), ("tolerance",) * count, torch.ones(count, dtype=int)
        )

    monkeypatch.setattr(solver, "minimise_values", nothing_found)
    registrar, stages = Registrar(world.volume, RegistrationOptions(method="cma-es")), load_method("cma-es").stages
    poses = RigidTransform.stack([retract(world.truth, FAR, world.volume.centre_patient), world.truth])
    refined = solver_of(world, registrar).run_last(poses, stages)
    assert len(refined.poses.translation) == 1
    assert float(registrar.metric.distances(refined.poses, world.truth)) < 0.5
