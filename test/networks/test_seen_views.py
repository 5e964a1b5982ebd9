"""The views of a training: which poses are among them, and what is said about the others."""

import pytest
import torch

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.networks.seen_views import SeenViews, range_with_spread

PIVOT = torch.tensor([12.0, -30.0, 400.0], dtype=torch.float64)
SEEN = SeenViews("the network", CarmRange(), PIVOT)


def test_every_view_of_the_range_is_among_them():
    for pose in CarmRange().sample(PIVOT, 200, torch.Generator().manual_seed(3)):
        assert SEEN.problem(pose) is None


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ((81.0, 0.0, 0.0, 700.0), "primary 81 deg, not -45 to 45 of AP and PA"),
        ((-170.0, 18.0, 0.0, 700.0), "secondary 18 deg, not -15 to 15"),
        ((0.0, 0.0, -12.0, 700.0), "roll -12 deg, not -10 to 10"),
        ((10.0, 0.0, 0.0, 800.0), "source to object 800 mm, not 650 to 750"),
    ],
)
def test_a_pose_outside_is_named_in_words(view, words):
    sentence = SEEN.warning("the initial pose", view_pose(PIVOT, *view))
    assert sentence == f"the initial pose is outside the views that the network has been trained on: {words}"


def test_a_shift_of_the_aim_is_named_along_the_body():
    aimed_higher = view_pose(PIVOT + torch.tensor([0.0, 0.0, 50.0]), 20.0, 0.0, 5.0, 700.0)
    assert SEEN.problem(aimed_higher) == "up 50 mm, not -20 to 20"


def test_views_from_behind_are_outside_a_range_of_frontal_views():
    frontal = SeenViews("the network", CarmRange(views=("AP",)), PIVOT)
    assert "primary 170 deg" in frontal.problem(view_pose(PIVOT, 170.0, 0.0, 0.0, 700.0))


def test_the_spread_of_pairs_widens_the_range_or_the_view_in_its_middle():
    wide = range_with_spread(CarmRange(), False, 10.0, 20.0, 30.0)
    assert wide.views == ("AP", "PA") and wide.primary_deg == (-65.0, 65.0) and wide.left_mm == (-60.0, 60.0)
    middle = range_with_spread(CarmRange(secondary_deg=(0.0, 30.0)), True, 10.0, 20.0, 30.0)
    assert middle.views == ("AP",) and middle.secondary_deg == (-5.0, 35.0)
    assert middle.source_to_object_mm == (640.0, 760.0)
