"""The range of views: its poses against `view_pose`, its limits, and its distribution."""

import pytest
import torch

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.carm.view_pose import view_pose
from fluoro_reg.config import from_mapping
from fluoro_reg.errors import InputError

AIM = torch.tensor([10.0, -20.0, 300.0], dtype=torch.float64)


def single_view_range(**parameters: float) -> CarmRange:
    """Return a range that contains exactly one view."""
    zeros = dict.fromkeys(("primary_deg", "secondary_deg", "roll_deg", "left_mm", "back_mm", "up_mm"), 0.0)
    pairs = {name: (value, value) for name, value in (zeros | {"source_to_object_mm": 700.0} | parameters).items()}
    return CarmRange(views=("AP",), **pairs)


def test_a_range_of_one_view_yields_that_view():
    parameters = {"primary_deg": 30.0, "secondary_deg": -12.0, "roll_deg": 7.0, "source_to_object_mm": 650.0}
    carm = single_view_range(left_mm=5.0, back_mm=-8.0, up_mm=11.0, **parameters)
    expected = view_pose(AIM + torch.tensor([5.0, -8.0, 11.0]), 30.0, -12.0, 7.0, 650.0)
    found = carm.sample(AIM, 3, torch.Generator().manual_seed(0))
    for pose in (found[0], found[2], carm.central_view(AIM)):
        torch.testing.assert_close(pose.matrix(), expected.matrix(), atol=1e-9, rtol=0)


def test_a_pa_view_is_an_orbit_by_180_degrees():
    carm = CarmRange(views=("PA",), primary_deg=(20, 20), secondary_deg=(0, 0), roll_deg=(0, 0), distribution="uniform")
    found = carm.sample(AIM, 50, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.rotation[0], view_pose(AIM, 200.0, 0, 0, 700.0).rotation, atol=1e-9, rtol=0)


def test_a_range_with_views_from_head_or_feet_is_along_the_body():
    assert not single_view_range(secondary_deg=40.0).is_along_body
    assert single_view_range(secondary_deg=-60.0).is_along_body
    assert CarmRange(distribution="normal", secondary_deg=(0.0, 30.0)).is_along_body, "two standard deviations"


def test_both_kinds_of_view_are_sampled():
    found = CarmRange(primary_deg=(0, 0), secondary_deg=(0, 0)).sample(AIM, 200, torch.Generator().manual_seed(0))
    source = found.inverse().translation - AIM
    in_front = (source[:, 1] < 0).double().mean()
    assert 0.35 < float(in_front) < 0.65


def test_uniform_and_normal_distributions():
    generator = torch.Generator().manual_seed(1)
    uniform = CarmRange(
        views=("AP",), primary_deg=(0, 0), secondary_deg=(0, 0), roll_deg=(0, 0), source_to_object_mm=(600, 800)
    )
    depth = uniform.sample(AIM, 4000, generator).apply(AIM[None])[:, 0, 2]
    shift = 20.0  # back_mm moves the aim along the view
    assert 600 - shift <= float(depth.min()) < 605 and 795 < float(depth.max()) <= 800 + shift
    normal = CarmRange(
        distribution="normal",
        views=("AP",),
        primary_deg=(0, 0),
        secondary_deg=(0, 0),
        roll_deg=(0, 0),
        left_mm=(15, 40),
        back_mm=(0, 0),
        up_mm=(0, 0),
        source_to_object_mm=(700, 0),
    )
    x = -normal.sample(AIM, 4000, generator).apply(AIM[None])[:, 0, 0]
    assert abs(float(x.mean()) - 15) < 3 and abs(float(x.std()) - 40) < 3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"views": []}, "has no views"),
        ({"views": ["LAT"]}, "AP, PA"),
        ({"primary_deg": [20, -20]}, "from low to high"),
        ({"distribution": "normal", "primary_deg": [0, -5]}, "must not be negative"),
        ({"primary": [0, 5]}, "did you mean 'primary_deg'"),
    ],
)
def test_an_invalid_range_is_rejected(content, sentence):
    with pytest.raises(InputError, match=sentence):
        from_mapping(CarmRange, content, "carm.yaml")
