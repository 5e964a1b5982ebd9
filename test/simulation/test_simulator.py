"""Simulated X-rays against independent physics: path lengths, Beer's law, photon statistics and projection."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from fluoro_reg.carm.view_pose import ap_pose, view_pose
from fluoro_reg.carm.views import carm_camera
from fluoro_reg.ct.attenuation import BONE_PER_MM, WATER_PER_MM, attenuation_from_hu
from fluoro_reg.ct.hounsfield import volume_from_hu
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import TorchRenderer, project
from fluoro_reg.simulation.metal import Cylinder
from fluoro_reg.simulation.ray_sampling import crop_to_body, decompose, water_and_bone_thickness_mm
from fluoro_reg.simulation.simulator import SimulationOptions, XraySimulator, blank_xray, detector_image, simulate_xray
from fluoro_reg.simulation.spectrum import attenuation_per_mm, transmitted_fraction, tube_spectrum

IDEAL = SimulationOptions(
    scatter_fraction=0.0, blur_mm=0.0, photons=1e9, electronic_noise=0.0, heel=0.0, vignetting=0.0, offset=0.0
)
FULL_SCALE = 65535


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box_of(hu: float, size: int = 30, voxel: float = 2.0) -> CTVolume:
    """A cube of uniform density in air, centred on the origin."""
    grid = np.full((size + 10,) * 3, -1000, np.float32)
    grid[5:-5, 5:-5, 5:-5] = hu
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = -voxel * (size + 9) / 2
    return volume_from_hu(grid, affine)


def test_the_thickness_of_a_cube_is_its_edge_length() -> None:
    pose = ap_pose(torch.zeros(3).double(), 700.0)
    water, bone = water_and_bone_thickness_mm(crop_to_body(box_of(0.0)), pose, carm_camera(65))
    assert water[32, 32] == pytest.approx(60.0, rel=1e-3) and bone[32, 32] == 0.0
    assert water[0, 0] == 0.0


def test_line_integrals_agree_with_fine_sampling_by_scipy(phantom: CTVolume) -> None:
    """scipy samples the same trilinear field every 0.1 mm along the rays of an oblique view with unusual intrinsics."""
    camera = CameraIntrinsics(9, 7, 35.0, 28.0, 3.0, 4.5, 1000.0)
    pose = view_pose(phantom.centre_patient, 35.0, -20.0, 10.0, 650.0)
    water, bone = water_and_bone_thickness_mm(crop_to_body(phantom), pose, camera)
    v, u = np.indices((7, 9))
    rays = np.stack([(u - 3.0) / 35.0, (v - 4.5) / 28.0, np.ones_like(u)], axis=-1)
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    points = torch.from_numpy(rays[..., None, :] * np.arange(300, 1100, 0.1)[:, None])
    patient = pose.inverse().apply(points.reshape(-1, 3))
    affine = phantom.patient_from_voxel
    voxel = torch.linalg.solve(affine[:3, :3], (patient - affine[:3, 3]).T).numpy()[::-1]
    mu = map_coordinates(phantom.attenuation.numpy(), voxel, order=1, mode="grid-constant", cval=0.0).reshape(*points.shape[:3])
    fraction = np.clip((mu - 1.1 * WATER_PER_MM) / (BONE_PER_MM - 1.1 * WATER_PER_MM), 0, None)
    expected_water = np.where(fraction > 0, 1.1 * np.clip(1 - fraction, 0, None), mu / WATER_PER_MM).sum(-1) * 0.1
    np.testing.assert_allclose(water, expected_water, rtol=2e-3, atol=1.0)
    np.testing.assert_allclose(bone, fraction.sum(-1) * 0.1, rtol=2e-2, atol=0.3)
    assert bone.max() > 5 and water.max() > 150


@pytest.mark.parametrize("hu", [-900.0, -100.0, 0.0, 60.0, 100.0, 300.0, 1000.0, 3000.0])
def test_water_and_bone_together_have_the_attenuation_of_the_ct(hu: float) -> None:
    mu = attenuation_from_hu(np.array([hu], np.float32))[0]
    water, bone = decompose(mu)
    assert water >= 0 and bone >= 0
    assert water * WATER_PER_MM + bone * BONE_PER_MM == pytest.approx(float(mu), rel=1e-5)
    assert (bone > 0) == (hu > 100.5)


def test_the_tables_agree_with_the_constants_of_ct_attenuation() -> None:
    energy_kev = np.array([60.0])
    assert attenuation_per_mm("water", energy_kev)[0] == pytest.approx(WATER_PER_MM)
    assert attenuation_per_mm("bone", energy_kev)[0] == pytest.approx(BONE_PER_MM)


def test_the_beam_hardens_more_in_bone_than_in_water() -> None:
    beam = tube_spectrum(80.0)

    def mean_per_mm(material: str, mm: float) -> float:
        return float(-np.log(transmitted_fraction(beam, {material: np.array([[mm]])})[0, 0]) / mm)

    assert beam.weight.sum() == pytest.approx(1.0)
    assert mean_per_mm("water", 200.0) < 0.95 * mean_per_mm("water", 1.0)
    assert mean_per_mm("bone", 40.0) / mean_per_mm("bone", 1.0) < mean_per_mm("water", 40.0) / mean_per_mm("water", 1.0)
    assert 0.018 < mean_per_mm("water", 200.0) < 0.026, "as NIST gives for water between 40 and 80 keV"
    assert (tube_spectrum(120.0).energy_kev * tube_spectrum(120.0).weight).sum() > (beam.energy_kev * beam.weight).sum()


def test_bone_is_dark_and_air_saturates(phantom: CTVolume) -> None:
    pose, camera = ap_pose(phantom.centre_patient, 900.0), replace(carm_camera(64), fx=120.0, fy=120.0)
    image = simulate_xray(phantom, pose, camera, SimulationOptions(), generator())
    water, bone = water_and_bone_thickness_mm(crop_to_body(phantom), pose, camera)
    assert image.dtype == np.uint16 and image.shape == (64, 64)
    assert image[0, 0] == FULL_SCALE == image[-1, -1]
    body = image < 0.9 * FULL_SCALE
    lengths = np.stack([water[body], bone[body], np.ones(body.sum())], axis=-1)
    per_water, per_bone, _ = np.linalg.lstsq(lengths, -np.log(image[body].astype(float)), rcond=None)[0]
    assert 0.008 < per_water < 0.03, "about NIST's value for water, reduced by beam hardening and scatter"
    assert 1.3 < per_bone / per_water < 4


def test_a_dense_point_appears_on_its_pixel() -> None:
    """An oblique view with non-square pixels and an off-centre principal point: the shadow is centred on the projection."""
    volume = box_of(-50.0)
    attenuation = volume.attenuation.clone()
    attenuation[28, 12, 20] = 5 * BONE_PER_MM
    dense = replace(volume, attenuation=attenuation)
    camera = CameraIntrinsics(120, 90, 800.0, 640.0, 30.0, 70.0, 800.0)
    pose = view_pose(torch.tensor([15.0, 0, 12.0], dtype=torch.float64), 25.0, 15.0, -8.0, 600.0)
    without, with_point = (XraySimulator(v, IDEAL).image(pose, camera, generator()).astype(float) for v in (volume, dense))
    shadow = np.clip(np.log(np.maximum(without, 1)) - np.log(np.maximum(with_point, 1)), 0, None)
    shadow[shadow < 0.05 * shadow.max()] = 0
    v, u = np.average(np.indices(shadow.shape).reshape(2, -1), weights=shadow.ravel(), axis=1)
    point = volume.points_patient(torch.tensor([[20.0, 12.0, 28.0]], dtype=torch.float64))
    expected = camera.project(pose.apply(point))[0]
    assert u == pytest.approx(expected[0].item(), abs=0.25) and v == pytest.approx(expected[1].item(), abs=0.25)


def flat(options: SimulationOptions, transmitted: float = 0.02, size: int = 96, seed: int = 0) -> np.ndarray:
    """The detector's image of a uniform beam, as a fraction of full scale."""
    primary = np.full((size, size), transmitted, np.float32)
    image = detector_image(primary, np.ones((size, size), bool), carm_camera(size), options, generator(seed))
    return image.astype(float) / FULL_SCALE


def test_automatic_exposure_sets_the_median_of_the_patient() -> None:
    for transmitted in (0.3, 0.003):
        assert flat(IDEAL, transmitted).mean() == pytest.approx(IDEAL.exposure, abs=1e-3)


@pytest.mark.parametrize("photons", [100.0, 2500.0])
def test_noise_follows_the_photon_statistics(photons: float) -> None:
    image = flat(replace(IDEAL, photons=photons, exposure=0.2))
    assert image.std() / image.mean() == pytest.approx(photons**-0.5, rel=0.05)


def test_read_noise_offset_and_gamma_have_the_documented_effect() -> None:
    assert flat(replace(IDEAL, electronic_noise=0.01)).std() == pytest.approx(0.01, rel=0.05)
    assert flat(replace(IDEAL, offset=0.1)).mean() == pytest.approx(0.1 + 0.9 * IDEAL.exposure, abs=1e-3)
    assert flat(replace(IDEAL, gamma=0.5)).mean() == pytest.approx(IDEAL.exposure**0.5, abs=1e-3)


def test_the_signal_falls_towards_the_bottom_and_the_corners() -> None:
    heel, vignetting = flat(replace(IDEAL, heel=0.4)), flat(replace(IDEAL, vignetting=0.4))
    assert heel[-1].mean() / heel[0].mean() == pytest.approx(0.6, rel=0.01)
    assert vignetting[0, 0] / vignetting[48, 48] == pytest.approx(0.6, rel=0.01)
    assert vignetting[0, 0] == pytest.approx(vignetting[-1, -1], rel=0.01)


@pytest.mark.parametrize(("shape", "corner_is_dark"), [("rectangle", False), ("circle", True)])
def test_the_collimator_leaves_its_field_open(shape: str, corner_is_dark: bool) -> None:
    image = flat(replace(IDEAL, collimator=shape, collimator_opening=0.8))
    assert image[2].max() < 0.05 and image[:, 2].max() < 0.05, "the border is covered"
    assert image[48, 48] == pytest.approx(IDEAL.exposure, abs=0.01)
    assert (image[12, 12] < 0.05) == corner_is_dark


def test_scatter_reduces_contrast_and_blur_softens_edges() -> None:
    primary = np.full((96, 96), 0.03, np.float32)
    primary[:, 48:] = 0.01

    def image(options: SimulationOptions) -> np.ndarray:
        return detector_image(primary, np.ones((96, 96), bool), carm_camera(96), options, generator()).astype(float)

    def contrast(pixels: np.ndarray) -> float:
        return float(pixels[48, :20].mean() / pixels[48, -20:].mean())

    assert contrast(image(IDEAL)) == pytest.approx(3.0, rel=0.01)
    assert contrast(image(replace(IDEAL, scatter_fraction=0.5))) < 2.7
    edge = [np.abs(np.diff(image(replace(IDEAL, blur_mm=blur))[48])).max() for blur in (0.0, 4.0, 12.0)]
    assert edge[0] > 1.5 * edge[1] > 2.2 * edge[2]


def test_metal_is_darker_than_any_bone(phantom: CTVolume) -> None:
    pose, camera = ap_pose(phantom.centre_patient, 700.0), carm_camera(64)
    reach = torch.tensor([0.0, 0.0, 40.0], dtype=torch.float64)
    rod = Cylinder(phantom.centre_patient - reach, phantom.centre_patient + reach, 5.0, "steel")
    simulator = XraySimulator(phantom, IDEAL)
    without, with_rod = (simulator.image(pose, camera, generator(), tools) for tools in ((), (rod,)))
    column = slice(31, 33)
    assert with_rod[26:38, column].max() < 0.1 * without[26:38, column].min()
    elsewhere = with_rod[40:60, :16] / without[40:60, :16]
    assert elsewhere.min() > 0.95 and np.ptp(elsewhere) < 1e-3, "away from the rod only the exposure differs"


def test_the_same_seed_gives_the_same_image(phantom: CTVolume) -> None:
    pose, camera = ap_pose(phantom.centre_patient, 700.0), carm_camera(32)
    first, again, other = (simulate_xray(phantom, pose, camera, SimulationOptions(), generator(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_blank_frames_show_no_patient() -> None:
    dark, bright = (blank_xray(carm_camera(64), SimulationOptions(), generator(), on) / FULL_SCALE for on in (False, True))
    assert dark.max() < 0.05 and dark.std() > 0
    assert bright.min() > 0.25 and np.abs(np.diff(bright, axis=0)).max() < 0.1


def test_a_ct_of_air_is_rejected() -> None:
    air = replace(box_of(0.0), attenuation=torch.zeros(8, 8, 8))
    with pytest.raises(InputError, match="only air"):
        XraySimulator(air, IDEAL)


def test_a_volume_that_is_rotated_with_its_camera_looks_the_same(phantom: CTVolume) -> None:
    pose, camera = view_pose(phantom.centre_patient, 20.0, 5.0, 0.0, 700.0), carm_camera(32)
    rotated_from_patient = view_pose(torch.tensor([5.0, 6.0, 7.0], dtype=torch.float64), 50.0, 40.0, 30.0, 90.0)
    moved = replace(phantom, patient_from_voxel=rotated_from_patient.matrix() @ phantom.patient_from_voxel)
    here, there = (
        water_and_bone_thickness_mm(crop_to_body(volume), view, camera)[1]
        for volume, view in ((phantom, pose), (moved, pose @ rotated_from_patient.inverse()))
    )
    np.testing.assert_allclose(here, there, atol=1e-3)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (40.0, 12.0, 8.0), (88.0, -15.0, 0.0)])
def test_the_renderer_gives_the_same_line_integrals(phantom: CTVolume, angles: tuple[float, float, float]) -> None:
    """Water and bone, weighted by their attenuation, are the renderer's line integral, although the quadratures differ."""
    pose, camera = view_pose(phantom.centre_patient, *angles, source_to_object_mm=650.0), carm_camera(48)
    water, bone = water_and_bone_thickness_mm(crop_to_body(phantom), pose, camera)
    rendered = project(TorchRenderer(phantom), RigidTransform.stack([pose]), camera)[0].numpy()
    difference = np.abs(water * WATER_PER_MM + bone * BONE_PER_MM - rendered)
    assert rendered.max() > 4 and difference.mean() < 0.01
    assert difference.max() < 0.3, "differs only where rays graze a cortex"
