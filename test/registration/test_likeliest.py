"""The choice between readings, and when views are searched thoroughly. Solvers are stood in for by what they would say."""

import pytest
import torch

from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration import likeliest as module
from fluoro_reg.registration.candidates import Candidate
from fluoro_reg.registration.likeliest import STANDS_OUT, likeliest
from fluoro_reg.registration.method import load_method
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.solver import RIVAL, Solver
from fluoro_reg.registration.view_run import Clock
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

STAGES = load_method("global-lm").stages
POSE = RigidTransform.stack([RigidTransform.identity()])


BODY = ObjectModel(torch.zeros(3, dtype=torch.float64), "full", 0.0)
BONE = ObjectModel(torch.zeros(3, dtype=torch.float64), "moving-support", 0.0, veto_cut_rays=False)


class SaidSolver(Solver):
    """A solver after a search, with the evidence of its best pose and of the best rival."""

    def __init__(self, best, rival, model, keeps_rivals=True, certain=False, n_renders=0):
        self.best, self.rival, self.certain = best, rival, certain
        self.model, self.keeps_rivals, self.n_renders = model, keeps_rivals, n_renders

    def run_coarse(self, poses, stages):
        return poses

    def evidence(self, poses):
        return self.best

    def evidence_of_rival(self, poses):
        return self.rival

    def similarity(self, poses):
        return 1.0 if self.certain else 0.5


@pytest.fixture
def candidate(world, monkeypatch):
    for name in ("with_shifted_rivals", "with_mirrored_rivals"):
        monkeypatch.setattr(module, name, lambda solver, poses, *stages: poses)
    prepared = preprocess(world.xray(), PreprocessOptions())

    def make(name: str, best: float, rival: float, model: ObjectModel = BONE, **said) -> Candidate:
        return Candidate(prepared, InitialPoses([]), InitialPoses([], [POSE]), SaidSolver(best, rival, model, **said), name)

    return make


def chosen(*tried: Candidate, thoroughly=None) -> str:
    return likeliest(tried, None, STAGES, 0.9, Clock(), thoroughly).candidate.reading


def test_a_pose_that_stands_out_comes_before_more_evidence_with_rivals(candidate):
    assert chosen(candidate("whole CT", 290.0, 260.0, BODY), candidate("bone", 100.0, 55.0)) == "bone"


def test_without_a_pose_that_stands_out_the_most_evidence_decides(candidate):
    assert chosen(candidate("whole CT", 290.0, 260.0, BODY), candidate("bone", 100.0, 90.0)) == "whole CT"


def test_around_an_initial_pose_the_most_evidence_decides(candidate):
    readings = [candidate("a", 290.0, 260.0, keeps_rivals=False), candidate("b", 100.0, 0.0, keeps_rivals=False)]
    assert chosen(*readings) == "a"


def test_little_evidence_does_not_stand_out_beside_more_of_the_same_kind(candidate):
    assert chosen(candidate("a", 80.0, 70.0), candidate("b", 10.0, 0.0)) == "a"


def test_no_rival_that_counts_is_dropped_before_it_is_counted():
    assert RIVAL * STANDS_OUT < 1


class Further:
    """Makes candidates for the readings that it is asked for, and counts those that are taken."""

    def __init__(self, *made: Candidate):
        self.made, self.asked, self.taken = made, None, 0

    def __call__(self, readings):
        self.asked = readings
        for one in self.made:
            self.taken += 1
            yield one


def test_where_no_pose_stands_out_likely_readings_are_searched_thoroughly(candidate):
    further = Further(candidate("bone", 120.0, 60.0), candidate("later", 500.0, 0.0))
    readings = candidate("whole CT", 290.0, 260.0, BODY), candidate("bone", 40.0, 38.0), candidate("hopeless", 8.0, 7.0)
    assert chosen(*readings, thoroughly=further) == "bone"
    assert further.asked == ("whole CT", "bone"), "bone is compared with bone"
    assert further.taken == 1, "the first that stands out is the last"


def test_a_hopeless_reading_does_not_end_the_thorough_search(candidate):
    further = Further(candidate("hopeless", 10.0, 0.0), candidate("later", 120.0, 0.0))
    assert chosen(candidate("bone", 80.0, 70.0), thoroughly=further) == "later"


def test_nothing_is_searched_beyond_a_certain_whole_ct_though_another_reading_has_more_evidence(candidate):
    further = Further(candidate("b", 500.0, 0.0))
    readings = candidate("a", 290.0, 260.0, BODY), candidate("certain", 50.0, 49.0, BODY, certain=True)
    chosen(*readings, thoroughly=further)
    assert further.taken == 0


def test_where_a_pose_stands_out_or_is_certain_there_is_no_thorough_search(candidate):
    for found in (candidate("a", STANDS_OUT * 50 + 1, 50.0), candidate("a", 50.0, 49.0, BODY, certain=True)):
        further = Further(candidate("b", 500.0, 0.0))
        assert chosen(found, thoroughly=further) == "a" and further.taken == 0


@pytest.mark.parametrize("evidence", [60.0, 90.0, 200.0])
def test_what_a_quick_search_has_found_stays_beside_that_of_a_thorough_one(candidate, evidence):
    """A symmetric object has two poses that explain nearly the same; the last stage and the gates decide."""
    readings = [candidate("a", 80.0, 70.0), candidate("b", 50.0, 49.0)]
    likely = likeliest(readings, None, STAGES, 0.9, Clock(), Further(candidate("a", evidence, 58.0)))
    assert likely.candidate.reading == "a" and len(likely.poses.translation) == 2


def test_renders_of_both_searches_are_counted(candidate):
    tried = [candidate("quick", 80.0, 70.0, n_renders=3)]
    likely = likeliest(tried, None, STAGES, 0.9, Clock(), Further(candidate("thorough", 60.0, 58.0, n_renders=4)))
    assert likely.n_renders == 7 and torch.equal(likely.poses.rotation, POSE.rotation)
