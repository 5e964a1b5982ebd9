"""A reading is used again while the image resembles the one in which it was found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fluoro_reg.carm.aim import aim_point, bone_points
from fluoro_reg.carm.view_pose import ap_pose
from fluoro_reg.carm.views import BONE_SAMPLES, carm_camera
from fluoro_reg.geometry import se3
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_volume
from fluoro_reg.simulation.simulator import simulate_xray
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.coarse import coarse_image
from fluoro_reg.xray.preprocessing.continued import read_again
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess, preprocess_reading
from fluoro_reg.xray.reader import xray_from_pixels

OPTIONS = PreprocessOptions()


def _read(image, name, known):
    return read_again(image, coarse_image(image.pixels, image.mask), name, OPTIONS, known)


def _preprocess_as(image, known):
    return preprocess_reading(image, coarse_image(image.pixels, image.mask), known.reading, OPTIONS)


@pytest.fixture(scope="module")
def simulated():
    volume, camera = phantom_volume(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))), carm_camera(192)
    aim = aim_point(volume, bone_points(volume, BONE_SAMPLES, torch.Generator().manual_seed(0)))

    def image(shift_mm=0.0, turn_rad=0.0, **machine):
        twist = torch.tensor([shift_mm, 0.0, 0.0, 0.0, 0.0, turn_rad], dtype=torch.float64)
        pose, generator = se3.retract(ap_pose(aim, 700.0), twist, aim), torch.Generator().manual_seed(int(10 * shift_mm))
        pixels = simulate_xray(volume, pose, camera, SimulationOptions(**machine), generator)
        return xray_from_pixels(pixels, camera, Intensity.AUTO)

    return image


COLLIMATED = {"collimator": "rectangle", "collimator_opening": 0.85}


@pytest.fixture
def known(simulated):
    first = simulated(**COLLIMATED)
    name = preprocess(first, OPTIONS).reading
    assert "field" in name
    return _read(first, name, None)


def test_the_next_frame_is_read_alike_and_gives_what_a_full_reading_gives(simulated, known):
    image = simulated(3.0, **COLLIMATED)
    assert _read(image, known.reading.name, known) is known
    again, full = _preprocess_as(image, known), preprocess(image, OPTIONS)
    assert again.intensity is full.intensity
    assert again.reading == full.reading
    assert float((again.image.mask != full.image.mask).float().mean()) < 0.01
    both = again.image.mask & full.image.mask
    difference = (again.image.pixels - full.image.pixels)[both]
    assert float(difference.std()) < 1e-3 * float(full.image.pixels[both].std())


@pytest.mark.parametrize(
    "change",
    [
        {**COLLIMATED, "collimator_opening": 0.7},
        {**COLLIMATED, "turn_rad": 0.6},
        {**COLLIMATED, "exposure": 0.1},
    ],
    ids=["blades", "view", "exposure"],
)
def test_a_change_leads_to_a_new_reading(simulated, known, change):
    anew = _read(simulated(**change), known.reading.name, known)
    assert anew is not known


def test_a_moved_blade_moves_the_mask(simulated, known):
    image = simulated(**{**COLLIMATED, "collimator_opening": 0.7})
    anew = _read(image, known.reading.name, known)
    assert _preprocess_as(image, anew).usable_fraction < 0.8 * _preprocess_as(image, known).usable_fraction


def test_a_negative_is_not_read_like_its_positive(simulated, known):
    image = simulated(**COLLIMATED)
    negative = replace(image, pixels=image.pixels.max() - image.pixels)
    assert _read(negative, known.reading.name, known) is not known


def test_a_field_that_is_no_longer_wanted_is_not_used_again(simulated, known):
    image = simulated(3.0, **COLLIMATED)
    without = PreprocessOptions(find_collimator=False)
    coarse = coarse_image(image.pixels, image.mask)
    assert read_again(image, coarse, known.reading.name, without, known) is not known


def test_an_image_that_cannot_be_read_so_has_no_such_reading(simulated, known):
    image = simulated(**COLLIMATED)
    assert _read(image, "attenuation, field of a leaking collimator", known) is None
    blank = replace(image, pixels=torch.full_like(image.pixels, 7.0))
    assert _read(blank, known.reading.name, known) is None
    stated = replace(image, intensity=Intensity.TRANSMITTED)
    assert _read(stated, known.reading.name, known) is not known
    assert np.isfinite(known.coarse.mean).all()
