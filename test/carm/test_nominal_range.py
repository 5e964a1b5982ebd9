"""The views around the nominal one of a header: the axis is that of the detector's angles, and a given range is not left."""

import math

import pytest
import torch

from fluoro_reg.carm.nominal_range import MARGIN_DEG, anywhere_around, views_around
from fluoro_reg.carm.range import CarmRange, load_range
from fluoro_reg.xray.nominal_view import NominalView

AIM = torch.tensor([3.0, -20.0, 100.0], dtype=torch.float64)


def detector_direction(primary_deg: float, secondary_deg: float) -> torch.Tensor:
    """From the patient to the detector, LPS, by the definition of DICOM: 0 is in front, + is left and cranial."""
    a, b = math.radians(primary_deg), math.radians(secondary_deg)
    return torch.tensor([math.cos(b) * math.sin(a), -math.cos(b) * math.cos(a), math.sin(b)], dtype=torch.float64)


def source_direction(carm: CarmRange) -> torch.Tensor:
    """From the patient to the focal spot of the middle of a range."""
    view = carm.central_view(AIM)
    source = view.inverse().translation
    return (source - AIM) / (source - AIM).norm()


@pytest.mark.parametrize(
    ("primary", "secondary"), [(0.0, 0.0), (30.0, 0.0), (0.0, 20.0), (-32.0, 2.0), (77.0, -45.0), (170.0, 5.0)]
)
def test_the_focal_spot_is_opposite_to_the_detector_or_on_its_side(primary, secondary):
    behind, in_front = anywhere_around(NominalView(primary, secondary), load_range("ap-pa"))
    direction = detector_direction(primary, secondary)
    assert torch.allclose(source_direction(behind), -direction, atol=1e-9)
    assert torch.allclose(source_direction(in_front), direction, atol=1e-9), "the image may be mirrored for display"
    for carm in (behind, in_front):
        low, high = carm.interval("primary_deg")
        assert high - low == pytest.approx(2 * MARGIN_DEG)
        assert carm.roll_deg == load_range("ap-pa").roll_deg


def test_a_given_range_is_narrowed_and_not_left():
    ap = load_range("ap")
    (part,) = views_around(NominalView(-45.0, 10.0), ap)
    assert (part.views, part.primary_deg, part.secondary_deg) == (("AP",), (-50.0, -30.0), (-5.0, 20.0))
    assert views_around(NominalView(90.0, 0.0), ap) == []
    assert len(views_around(NominalView(-90.0, 0.0), load_range("lateral-left"))) == 1, "the focal spot is on the left"
    assert len(views_around(NominalView(10.0, 0.0), load_range("ap-pa"))) == 2


@pytest.mark.parametrize(
    ("stated", "expected"),
    [(None, (550.0, 900.0)), (700.0, (700 / 1.2, 840.0)), (600.0, (550.0, 720.0)), (2000.0, (550.0, 900.0))],
)
def test_a_stated_distance_narrows_the_distances(stated, expected):
    (part,) = views_around(NominalView(0.0, 0.0, stated), load_range("ap"))
    assert part.source_to_object_mm == pytest.approx(expected)
