"""Clipped air, a leaking collimator, a couch and both polarities: each effect is there, and the defaults have none of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fluoro_reg.carm.view_pose import ap_pose, view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.formats.bags import read_bag_truth, read_frames
from fluoro_reg.formats.cases import read_case
from fluoro_reg.simulation.bags import BagOptions, simulate_bag
from fluoro_reg.simulation.beam_profile import beam_profile
from fluoro_reg.simulation.body import body_box
from fluoro_reg.simulation.cases import CaseOptions, simulate_cases
from fluoro_reg.simulation.couch import couch_boxes, couch_water_mm
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.ray_sampling import crop_to_body, water_and_bone_thickness_mm
from fluoro_reg.simulation.simulator import XraySimulator, blank_xray, detector_image
from fluoro_reg.simulation.variants import VARIANTS, options_for_variant
from fluoro_reg.xray.encodings import pixels_from_message
from fluoro_reg.xray.image import Intensity

FULL_SCALE = 65535
FLAT = SimulationOptions(heel=0.0, vignetting=0.0)
COUCH = SimulationOptions(couch_width_mm=300, couch_end_mm=500)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def thickness(volume: CTVolume, case_folder: Path) -> np.ndarray:
    case = read_case(case_folder)
    return np.asarray(sum(water_and_bone_thickness_mm(crop_to_body(volume), case.truth, case.intrinsics)))


@pytest.mark.parametrize("variant", ["open-beam", "open-below"])
def test_air_beside_the_body_is_clipped(variant: str, phantom_folder: Path, phantom: CTVolume, tmp_path: Path) -> None:
    options = CaseOptions(count=4, size_px=64, variants=(variant,), oblique_fraction=0.0)
    for folder in simulate_cases(phantom_folder, tmp_path / "cases", options):
        image, mm = np.asarray(Image.open(folder / "image.png")), thickness(phantom, folder)
        assert 0.06 < (mm == 0).mean() < 0.6, "a part of the image shows air"
        assert (image[mm == 0] == FULL_SCALE).mean() > 0.99
        assert (image[mm > 180] < FULL_SCALE).mean() > 0.9, "the exposure is that of the body"
        side = (mm == 0)[-8:].mean() if variant == "open-below" else max((mm == 0)[:, :8].mean(), (mm == 0)[:, -8:].mean())
        assert side > 0.9, "the air reaches the border of the image"


def test_the_detector_clips_air_even_behind_a_thin_body() -> None:
    """A body that transmits half of the beam would leave air below full scale."""
    primary, size = np.full((64, 64), 0.5, np.float32), (64, 64)
    primary[:, :20] = 1.0
    body = np.zeros(size, bool)
    body[:, 20:] = True
    usual, clipped = (
        detector_image(primary, body, carm_camera(64), options, generator())
        for options in (SimulationOptions(scatter_fraction=0.0), SimulationOptions(scatter_fraction=0.0, air_signal=1.5))
    )
    assert usual[:, :15].max() < FULL_SCALE
    assert (clipped[:, :15] == FULL_SCALE).mean() > 0.95
    assert (blank_xray(carm_camera(64), VARIANTS["open-beam"], generator(), beam_on=True) == FULL_SCALE).mean() > 0.99


@pytest.mark.parametrize("shape", ["rectangle", "circle"])
def test_a_leaking_collimator_transmits_its_fraction_outside_a_soft_edge(shape: str) -> None:
    camera = carm_camera(257)
    options = replace(FLAT, collimator=shape, collimator_opening=0.6, collimator_leak=0.012, collimator_edge_mm=6.0)
    profile = beam_profile(camera, options).numpy()
    assert profile[128, 128] == pytest.approx(1.0, abs=1e-4)
    assert profile[128, 5] == pytest.approx(0.012, rel=0.02) == profile[3, 128]
    row = profile[128]
    pixel_mm = 300 / 257
    assert np.sum((row > 0.13) & (row < 0.88)) * pixel_mm == pytest.approx(2 * 6.0, abs=2.5), "two edges"
    assert np.sum(row > 0.5) / 257 == pytest.approx(0.6, abs=0.01)


def test_the_image_outside_a_leaking_collimator_is_dim_and_not_empty(phantom: CTVolume) -> None:
    camera, pose = carm_camera(96), ap_pose(phantom.centre_patient, 700.0)
    options = replace(FLAT, collimator="circle", collimator_opening=0.6, collimator_leak=0.01, collimator_edge_mm=3.0)
    shown, covered = (XraySimulator(phantom, o).image(pose, camera, generator()).astype(float) for o in (FLAT, options))
    signal = [image / FULL_SCALE - FLAT.offset for image in (shown, covered)]
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    outside = (np.hypot(x, y) > 0.75) & (shown < 0.9 * FULL_SCALE)
    inside = np.hypot(x, y) < 0.5
    assert signal[1][outside].mean() / signal[0][outside].mean() == pytest.approx(0.01, abs=0.003)
    assert signal[1][inside].mean() == pytest.approx(signal[0][inside].mean(), rel=0.02)


def test_the_field_is_tilted_shifted_and_flattened() -> None:
    options = replace(FLAT, collimator="rectangle", collimator_opening=0.5, collimator_leak=0.0)
    square = beam_profile(carm_camera(201), options).numpy()
    diamond = beam_profile(carm_camera(201), replace(options, collimator_tilt_deg=45.0)).numpy()
    assert square[52, 52] > 0.9 and diamond[52, 52] == 0.0
    assert square[100, 165] == 0.0 and diamond[100, 165] > 0.9
    tilted = beam_profile(carm_camera(201), replace(options, collimator_tilt_deg=20.0, collimator_aspect=0.5)).numpy()
    far = np.array([100 + 45 * np.cos(np.radians(20)), 100 + 45 * np.sin(np.radians(20))]).round().astype(int)
    assert tilted[far[1], far[0]] > 0.9 and tilted[200 - far[1], far[0]] == 0.0, "a positive tilt is clockwise in the image"
    moved = beam_profile(carm_camera(201), replace(options, collimator_centre=(0.3, -0.2))).numpy()
    v, u = np.nonzero(moved > 0.5)
    assert u.mean() == pytest.approx(130, abs=1) and v.mean() == pytest.approx(80, abs=1)


def test_leaking_collimators_and_couches_differ_from_case_to_case_within_their_ranges() -> None:
    source = generator(3)
    drawn = [options_for_variant("leaking", source) for _ in range(40)]
    assert {options.collimator for options in drawn} == {"rectangle", "circle"}
    assert all(0.005 <= options.collimator_leak <= 0.02 and options.collimator_edge_mm >= 2 for options in drawn)
    assert len({options.collimator_tilt_deg for options in drawn}) == 40
    assert len({options_for_variant("couch", source).couch_shift_mm for _ in range(5)}) == 5


def test_other_variants_draw_nothing_so_that_old_seeds_give_old_cases() -> None:
    source = generator()
    for variant in ("standard", "noisy", "mismatch", "collimated", "instruments", "truncated"):
        options_for_variant(variant, source)
    assert torch.equal(source.get_state(), generator().get_state())


def test_the_body_box_is_that_of_the_tissue() -> None:
    hu = np.full((40, 30, 50), -1000, np.float32)
    hu[5:35, 8:25, 10:45] = 30
    affine = np.diag([-2.0, -3.0, 4.0, 1.0])
    affine[:3, 3] = (100.0, -20.0, 7.0)
    low, high = body_box(volume_from_hu(hu, affine))
    assert low.tolist() == [100 - 2 * 44, -20 - 3 * 24, 7 + 4 * 5]
    assert high.tolist() == [100 - 2 * 10, -20 - 3 * 8, 7 + 4 * 34]


def test_the_couch_lies_below_the_back_and_has_an_edge(phantom: CTVolume) -> None:
    boxes = couch_boxes(body_box(phantom), COUCH)
    back = body_box(phantom)[1][1].item()
    assert min(box.centre[1] - box.half_size[1] for box in boxes) > back, "posterior is +y"
    assert couch_boxes(body_box(phantom), SimulationOptions()) == ()
    camera = replace(carm_camera(201), fx=300.0, fy=300.0)
    water = couch_water_mm(boxes, ap_pose(phantom.centre_patient, 700.0), camera)
    middle, beside = water[100, 100], water[100, 5]
    assert middle == pytest.approx(1.36 * 5 + 0.05 * 20 + 0.06 * 40, rel=0.01), "two skins, foam and a mattress"
    assert beside == 0.0
    assert water[100].max() > 3 * middle, "the rim is solid"


def test_the_path_through_a_turned_box_agrees_with_fine_sampling(phantom: CTVolume) -> None:
    options = replace(COUCH, couch_turn_deg=20.0, couch_shift_mm=15.0, couch_end_mm=30.0)
    boxes = couch_boxes(body_box(phantom), options)
    camera = replace(carm_camera(9), fx=14.0, fy=14.0)
    pose = view_pose(phantom.centre_patient, 25.0, -15.0, 5.0, 700.0)
    v, u = np.indices((9, 9))
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], axis=-1)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    points = (
        pose.inverse().apply(torch.from_numpy(rays[..., None, :] * np.arange(500, 1500, 0.1)[:, None]).reshape(-1, 3)).numpy()
    )
    density = np.zeros(len(points))
    for box in boxes:
        angle = np.radians(box.turn_deg)
        local = points - box.centre
        along_x = np.cos(angle) * local[:, 0] - np.sin(angle) * local[:, 2]
        along_z = np.sin(angle) * local[:, 0] + np.cos(angle) * local[:, 2]
        inside = (abs(along_x) < box.half_size[0]) & (abs(local[:, 1]) < box.half_size[1]) & (abs(along_z) < box.half_size[2])
        density += box.density * inside
    expected = density.reshape(9, 9, -1).sum(-1) * 0.1
    np.testing.assert_allclose(couch_water_mm(boxes, pose, camera), expected, atol=0.8)
    assert expected.max() > 15 and (expected == 0).any()


def test_the_couch_darkens_the_image_but_is_no_part_of_the_body(phantom: CTVolume) -> None:
    """The rim shows as a dark line. The exposure is still set by the body, not by the couch beside it."""
    ideal = replace(FLAT, scatter_fraction=0.0, blur_mm=0.0, photons=1e9, electronic_noise=0.0, exposure=0.05)
    pose, camera = ap_pose(phantom.centre_patient, 700.0), carm_camera(96)
    couch = replace(ideal, couch_width_mm=200.0)
    without, with_couch = (XraySimulator(phantom, o).image(pose, camera, generator()).astype(float) for o in (ideal, couch))
    water = couch_water_mm(couch_boxes(body_box(phantom), couch), pose, camera)
    plain, rim = (water > 9) & (water < 11), water > 25
    ratio = with_couch / without
    assert plain.any() and rim.any()
    assert ratio[rim & (without < 60000)].mean() < 0.8 * ratio[plain & (without < 60000)].mean()


def test_the_negative_logarithm_is_stored_as_attenuation(phantom_folder: Path, tmp_path: Path) -> None:
    ideal = replace(FLAT, scatter_fraction=0.0, blur_mm=0.0, photons=1e9, electronic_noise=0.0, offset=0.0)
    primary = np.full((32, 32), 0.02, np.float32)
    primary[:, :8], primary[:, -8:] = 0.002, 1.0
    body = np.zeros((32, 32), bool)
    body[:, 8:-8] = True
    stored = detector_image(primary, body, carm_camera(32), replace(ideal, polarity="attenuation"), generator())
    level = stored[16].astype(float) / FULL_SCALE
    assert level[16] == pytest.approx(-np.log10(0.4) / 2, abs=1e-3)
    assert level[2] - level[16] == pytest.approx(0.5, abs=1e-3), "a tenth of the signal is half of two decades"
    assert level[-3] == 0.0, "clipped air is black"
    kinds = ("standard", "attenuation")
    options = CaseOptions(count=2, size_px=64, variants=kinds, oblique_fraction=0.0)
    cases = [read_case(folder) for folder in simulate_cases(phantom_folder, tmp_path / "cases", options)]
    assert [case.intensity for case in cases] == [Intensity.TRANSMITTED, Intensity.ATTENUATION]


def test_gamma_applies_to_both_polarities() -> None:
    body, primary = np.ones((32, 32), bool), np.full((32, 32), 0.02, np.float32)
    for polarity in ("transmitted", "attenuation"):
        ideal = replace(FLAT, photons=1e9, electronic_noise=0.0, offset=0.0, polarity=polarity)
        linear, curved = (
            detector_image(primary, body, carm_camera(32), replace(ideal, gamma=gamma), generator())[16, 16] / FULL_SCALE
            for gamma in (1.0, 0.5)
        )
        assert curved == pytest.approx(linear**0.5, abs=1e-3)


def test_a_recording_can_show_clipped_air_below_the_ct(phantom_folder: Path, phantom: CTVolume, tmp_path: Path) -> None:
    options = BagOptions(frames=4, blank=(), size_px=64, variant="open-below", motion_mm=4.0, motion_deg=2.0)
    files = simulate_bag(phantom_folder, tmp_path / "out", options)
    volume = crop_to_body(phantom)
    for (_, image, _), pose in zip(read_frames(files.bag), read_bag_truth(files.truth).values(), strict=True):
        assert pose is not None
        pixels = pixels_from_message(image)
        air = sum(water_and_bone_thickness_mm(volume, pose, carm_camera(64))) == 0
        assert air[-6:].mean() > 0.95 and (pixels[air] == FULL_SCALE).mean() > 0.99
        assert (pixels[~air] < FULL_SCALE).mean() > 0.6


def test_a_recording_keeps_its_couch_and_collimator(phantom_folder: Path, tmp_path: Path) -> None:
    """Without motion and with little noise, all frames are alike, because the machine is drawn once."""
    for variant in ("couch", "leaking"):
        options = BagOptions(frames=3, blank=(), size_px=48, variant=variant, motion_mm=0.0, motion_deg=0.0)
        files = simulate_bag(phantom_folder, tmp_path / variant, options)
        frames = [pixels_from_message(image).astype(float) for _, image, _ in read_frames(files.bag)]
        assert all(np.corrcoef(frames[0].ravel(), frame.ravel())[0, 1] > 0.98 for frame in frames[1:])
