"""An X-ray from a distorting image intensifier registers to the pose of the undistorted X-ray, if the distortion is undone."""

import numpy as np
import pytest
import torch
from helpers.distorted_images import distort

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.geometry import CameraIntrinsics
from fluoro_reg.registration import Registrar, RegistrationOptions
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.xray.distortion import Distortion
from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.reader import xray_from_pixels

PINCUSHION = Distortion("plumb_bob", (3.0, 0.0, 0.004, -0.006, 0.0))  # 4 pixels at the edge of an image of 128
MARGIN = 24


@pytest.fixture(scope="module")
def results(world):
    """Return the results from the ideal image, from the distorted one with and without undoing it."""
    camera = world.camera
    wide = CameraIntrinsics(
        camera.width + 2 * MARGIN, camera.height + 2 * MARGIN, camera.fx, camera.fy, camera.cx + MARGIN, camera.cy + MARGIN
    )
    photons = torch.exp(-project(make_renderer(world.volume, "cpu"), world.truth, wide)).double().numpy()
    ideal = photons[MARGIN:-MARGIN, MARGIN:-MARGIN]
    distorted = distort(photons, camera, MARGIN, PINCUSHION.coefficients)
    start = perturb_to_mtre(
        world.truth, world.landmarks_patient, 10.0, world.volume.centre_patient, torch.Generator().manual_seed(0)
    )
    registrar = Registrar(world.volume, RegistrationOptions())

    def register(pixels, distortion=None):
        image = xray_from_pixels(1e4 * pixels.astype(np.float32), camera, Intensity.TRANSMITTED, distortion=distortion)
        return registrar.register(image, start)

    return register(ideal), register(distorted, PINCUSHION), register(distorted)


def test_undoing_the_distortion_gives_the_pose_of_the_undistorted_image(world, results):
    ideal, undone, _ = results
    assert ideal.accepted and undone.accepted, undone.reason
    difference = target_registration_errors(undone.camera_from_patient, ideal.camera_from_patient, world.landmarks_patient)
    assert difference.in_plane_mm < 0.3 and difference.mtre_mm < 1.0


def test_without_undoing_it_the_pose_is_another_one(world, results):
    ideal, _, distorted = results
    difference = target_registration_errors(distorted.camera_from_patient, ideal.camera_from_patient, world.landmarks_patient)
    assert difference.mtre_mm > 5.0
