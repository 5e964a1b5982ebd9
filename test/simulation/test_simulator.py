"""The simulated X-ray against physics that can be said without it: lengths, Beer's law, photon statistics, projection."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fluoro_reg.carm.pose_sampling import ap_pose, view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.ct.attenuation import BONE_PER_MM, WATER_PER_MM, attenuation_from_hu
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import TorchRenderer, project
from fluoro_reg.simulation.metal import Cylinder
from fluoro_reg.simulation.ray_sampling import sampled_volume, water_and_bone, water_and_bone_mm
from fluoro_reg.simulation.simulator import SimulationOptions, XraySimulator, blank_xray, detected, simulate_xray
from fluoro_reg.simulation.spectrum import attenuation_per_mm, transmitted_fraction, tube_spectrum

IDEAL = SimulationOptions(
    scatter_fraction=0.0, blur_mm=0.0, photons=1e9, electronic_noise=0.0, heel=0.0, vignetting=0.0, offset=0.0
)
FULL_SCALE = 65535


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box_of(hu: float, size: int = 30, voxel: float = 2.0) -> CTVolume:
    """A cube of one density in air, about the origin, on a skewed grid orientation."""
    grid = np.full((size + 10,) * 3, -1000, np.float32)
    grid[5:-5, 5:-5, 5:-5] = hu
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = -voxel * (size + 9) / 2
    return volume_from_hu(grid, affine)


def test_a_cube_is_as_thick_as_it_is() -> None:
    water, bone = water_and_bone_mm(sampled_volume(box_of(0.0)), ap_pose(torch.zeros(3).double(), 700.0), carm_camera(65))
    assert water[32, 32] == pytest.approx(60.0, rel=1e-3) and bone[32, 32] == 0.0
    assert water[0, 0] == 0.0


def test_integrals_agree_with_a_fine_sum_of_another_library(phantom: CTVolume) -> None:
    """scipy samples the same trilinear field every 0.1 mm along the rays of an oblique view with odd intrinsics."""
    camera = CameraIntrinsics(9, 7, 35.0, 28.0, 3.0, 4.5, 1000.0)
    pose = view_pose(phantom.centre_patient, 35.0, -20.0, 10.0, 650.0)
    water, bone = water_and_bone_mm(sampled_volume(phantom), pose, camera)
    v, u = np.indices((7, 9))
    rays = np.stack([(u - 3.0) / 35.0, (v - 4.5) / 28.0, np.ones_like(u)], axis=-1)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    points = torch.from_numpy(rays[..., None, :] * np.arange(300, 1100, 0.1)[:, None])
    patient = pose.inverse().apply(points.reshape(-1, 3))
    affine = phantom.patient_from_voxel
    voxel = torch.linalg.solve(affine[:3, :3], (patient - affine[:3, 3]).T).numpy()[::-1]
    mu = map_coordinates(phantom.attenuation.numpy(), voxel, order=1, mode="grid-constant", cval=0.0).reshape(*points.shape[:3])
    share = np.clip((mu - 1.1 * WATER_PER_MM) / (BONE_PER_MM - 1.1 * WATER_PER_MM), 0, None)
    expected_water = np.where(share > 0, 1.1 * np.clip(1 - share, 0, None), mu / WATER_PER_MM).sum(-1) * 0.1
    np.testing.assert_allclose(water, expected_water, rtol=2e-3, atol=1.0)
    np.testing.assert_allclose(bone, share.sum(-1) * 0.1, rtol=2e-2, atol=0.3)
    assert bone.max() > 5 and water.max() > 150


@pytest.mark.parametrize("hu", [-900.0, -100.0, 0.0, 60.0, 100.0, 300.0, 1000.0, 3000.0])
def test_water_and_bone_together_attenuate_as_the_ct_says(hu: float) -> None:
    mu = attenuation_from_hu(np.array([hu], np.float32))[0]
    water, bone = water_and_bone(mu)
    assert water >= 0 and bone >= 0
    assert water * WATER_PER_MM + bone * BONE_PER_MM == pytest.approx(float(mu), rel=1e-5)
    assert (bone > 0) == (hu > 100.5)


def test_the_tables_agree_with_the_other_place_that_quotes_them() -> None:
    sixty = np.array([60.0])
    assert attenuation_per_mm("water", sixty)[0] == pytest.approx(WATER_PER_MM)
    assert attenuation_per_mm("bone", sixty)[0] == pytest.approx(BONE_PER_MM)


def test_the_beam_hardens_and_bone_hardens_it_more() -> None:
    beam = tube_spectrum(80.0)

    def mean_per_mm(material: str, mm: float) -> float:
        return float(-np.log(transmitted_fraction(beam, {material: np.array([[mm]])})[0, 0]) / mm)

    assert beam.weight.sum() == pytest.approx(1.0)
    assert mean_per_mm("water", 200.0) < 0.95 * mean_per_mm("water", 1.0)
    assert mean_per_mm("bone", 40.0) / mean_per_mm("bone", 1.0) < mean_per_mm("water", 40.0) / mean_per_mm("water", 1.0)
    assert 0.018 < mean_per_mm("water", 200.0) < 0.026, "as NIST's water between 40 and 80 keV"
    assert (tube_spectrum(120.0).energy_kev * tube_spectrum(120.0).weight).sum() > (beam.energy_kev * beam.weight).sum()


def test_bone_is_dark_and_air_saturates(phantom: CTVolume) -> None:
    pose, camera = ap_pose(phantom.centre_patient, 900.0), replace(carm_camera(64), fx=120.0, fy=120.0)
    image = simulate_xray(phantom, pose, camera, SimulationOptions(), generator())
    water, bone = water_and_bone_mm(sampled_volume(phantom), pose, camera)
    assert image.dtype == np.uint16 and image.shape == (64, 64)
    assert image[0, 0] == FULL_SCALE == image[-1, -1]
    body = image < 0.9 * FULL_SCALE
    lengths = np.stack([water[body], bone[body], np.ones(body.sum())], axis=-1)
    per_water, per_bone, _ = np.linalg.lstsq(lengths, -np.log(image[body].astype(float)), rcond=None)[0]
    assert 0.008 < per_water < 0.03, "about NIST's water, less what hardening and scatter take"
    assert 1.3 < per_bone / per_water < 4


def test_a_dense_point_appears_on_its_pixel() -> None:
    """Non-square pixels, a principal point far off centre, an oblique view: the centre of the shadow is the projected point."""
    volume = box_of(-50.0)
    hu_like = volume.attenuation.clone()
    hu_like[28, 12, 20] = 5 * BONE_PER_MM
    dense = replace(volume, attenuation=hu_like)
    camera = CameraIntrinsics(120, 90, 800.0, 640.0, 30.0, 70.0, 800.0)
    pose = view_pose(torch.tensor([15.0, 0, 12.0], dtype=torch.float64), 25.0, 15.0, -8.0, 600.0)
    clean, marked = (XraySimulator(v, IDEAL).image(pose, camera, generator()).astype(float) for v in (volume, dense))
    shadow = np.clip(np.log(np.maximum(clean, 1)) - np.log(np.maximum(marked, 1)), 0, None)
    shadow[shadow < 0.05 * shadow.max()] = 0
    v, u = np.average(np.indices(shadow.shape).reshape(2, -1), weights=shadow.ravel(), axis=1)
    place = volume.points_patient(torch.tensor([[20.0, 12.0, 28.0]], dtype=torch.float64))
    expected = camera.project(pose.apply(place))[0]
    assert u == pytest.approx(expected[0].item(), abs=0.25) and v == pytest.approx(expected[1].item(), abs=0.25)


def flat(options: SimulationOptions, share: float = 0.02, size: int = 96, seed: int = 0) -> np.ndarray:
    """What the detector makes of an even shadow."""
    primary = np.full((size, size), share, np.float32)
    return (
        detected(primary, np.ones((size, size), bool), carm_camera(size), options, generator(seed)).astype(float) / FULL_SCALE
    )


def test_automatic_exposure_brings_the_patient_to_the_middle() -> None:
    for share in (0.3, 0.003):
        assert flat(IDEAL, share).mean() == pytest.approx(IDEAL.exposure, abs=1e-3)


@pytest.mark.parametrize("photons", [100.0, 2500.0])
def test_noise_is_that_of_the_photons(photons: float) -> None:
    image = flat(replace(IDEAL, photons=photons, exposure=0.2))
    assert image.std() / image.mean() == pytest.approx(photons**-0.5, rel=0.05)


def test_read_noise_offset_and_gamma_do_what_they_say() -> None:
    assert flat(replace(IDEAL, electronic_noise=0.01)).std() == pytest.approx(0.01, rel=0.05)
    assert flat(replace(IDEAL, offset=0.1)).mean() == pytest.approx(0.1 + 0.9 * IDEAL.exposure, abs=1e-3)
    assert flat(replace(IDEAL, gamma=0.5)).mean() == pytest.approx(IDEAL.exposure**0.5, abs=1e-3)


def test_shading_falls_to_the_bottom_and_to_the_corners() -> None:
    heel, vignetting = flat(replace(IDEAL, heel=0.4)), flat(replace(IDEAL, vignetting=0.4))
    assert heel[-1].mean() / heel[0].mean() == pytest.approx(0.6, rel=0.01)
    assert vignetting[0, 0] / vignetting[48, 48] == pytest.approx(0.6, rel=0.01)
    assert vignetting[0, 0] == pytest.approx(vignetting[-1, -1], rel=0.01)


@pytest.mark.parametrize(("shape", "corner_is_dark"), [("rectangle", False), ("circle", True)])
def test_a_collimator_leaves_its_opening(shape: str, corner_is_dark: bool) -> None:
    image = flat(replace(IDEAL, collimator=shape, collimator_opening=0.8))
    assert image[2].max() < 0.05 and image[:, 2].max() < 0.05, "the rim is shut"
    assert image[48, 48] == pytest.approx(IDEAL.exposure, abs=0.01)
    assert (image[12, 12] < 0.05) == corner_is_dark


def test_scatter_takes_contrast_and_blur_takes_edges() -> None:
    primary = np.full((96, 96), 0.03, np.float32)
    primary[:, 48:] = 0.01

    def image(options: SimulationOptions) -> np.ndarray:
        return detected(primary, np.ones((96, 96), bool), carm_camera(96), options, generator()).astype(float)

    def contrast(picture: np.ndarray) -> float:
        return float(picture[48, :20].mean() / picture[48, -20:].mean())

    assert contrast(image(IDEAL)) == pytest.approx(3.0, rel=0.01)
    assert contrast(image(replace(IDEAL, scatter_fraction=0.5))) < 2.7
    edge = [np.abs(np.diff(image(replace(IDEAL, blur_mm=blur))[48])).max() for blur in (0.0, 4.0, 12.0)]
    assert edge[0] > 1.5 * edge[1] > 2.2 * edge[2]


def test_metal_is_darker_than_any_bone(phantom: CTVolume) -> None:
    pose, camera = ap_pose(phantom.centre_patient, 700.0), carm_camera(64)
    reach = torch.tensor([0.0, 0.0, 40.0], dtype=torch.float64)
    rod = Cylinder(phantom.centre_patient - reach, phantom.centre_patient + reach, 5.0, "steel")
    simulator = XraySimulator(phantom, IDEAL)
    plain, tooled = (simulator.image(pose, camera, generator(), tools) for tools in ((), (rod,)))
    column = slice(31, 33)
    assert tooled[26:38, column].max() < 0.1 * plain[26:38, column].min()
    elsewhere = tooled[40:60, :16] / plain[40:60, :16]
    assert elsewhere.min() > 0.95 and np.ptp(elsewhere) < 1e-3, "away from the rod only the exposure differs"


def test_the_same_seed_gives_the_same_image(phantom: CTVolume) -> None:
    pose, camera = ap_pose(phantom.centre_patient, 700.0), carm_camera(32)
    first, again, other = (simulate_xray(phantom, pose, camera, SimulationOptions(), generator(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_blank_frames_show_nobody() -> None:
    dark, bright = (blank_xray(carm_camera(64), SimulationOptions(), generator(), on) / FULL_SCALE for on in (False, True))
    assert dark.max() < 0.05 and dark.std() > 0
    assert bright.min() > 0.25 and np.abs(np.diff(bright, axis=0)).max() < 0.1


def test_nothing_but_air_is_refused() -> None:
    air = replace(box_of(0.0), attenuation=torch.zeros(8, 8, 8))
    with pytest.raises(InputError, match="nothing but air"):
        XraySimulator(air, IDEAL)


def test_a_volume_that_is_rotated_with_its_camera_looks_the_same(phantom: CTVolume) -> None:
    pose, camera = view_pose(phantom.centre_patient, 20.0, 5.0, 0.0, 700.0), carm_camera(32)
    turned_from_patient = view_pose(torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64), 50.0, 40.0, 30.0, 90.0)
    moved = replace(phantom, patient_from_voxel=turned_from_patient.matrix() @ phantom.patient_from_voxel)
    here, there = (
        water_and_bone_mm(sampled_volume(volume), view, camera)[1]
        for volume, view in ((phantom, pose), (moved, pose @ turned_from_patient.inverse()))
    )
    np.testing.assert_allclose(here, there, atol=1e-3)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (40.0, 12.0, 8.0), (88.0, -15.0, 0.0)])
def test_the_registrations_renderer_finds_the_same_anatomy(phantom: CTVolume, angles: tuple[float, float, float]) -> None:
    """Two unlike quadratures, one geometry: water and bone weighed by their attenuation are the renderer's line integral."""
    pose, camera = view_pose(phantom.centre_patient, *angles, source_to_object_mm=650.0), carm_camera(48)
    water, bone = water_and_bone_mm(sampled_volume(phantom), pose, camera)
    rendered = project(TorchRenderer(phantom), RigidTransform.stack([pose]), camera)[0].numpy()
    difference = np.abs(water * WATER_PER_MM + bone * BONE_PER_MM - rendered)
    assert rendered.max() > 4 and difference.mean() < 0.01 and difference.max() < 0.3, "apart only where rays graze a cortex"
