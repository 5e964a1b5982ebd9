"""A small phantom CT as a DICOM series, an X-ray of it with a known pose, and a function that runs the program in the test."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fluoro_reg.cli.main import main
from fluoro_reg.ct.reader import read_ct
from fluoro_reg.formats.cameras import write_camera
from fluoro_reg.formats.poses import write_pose
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.rendering import make_renderer, project
from fluoro_reg.simulation.phantom.dicom_series import write_dicom_series
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu, phantom_labels

CAMERA = CameraIntrinsics(width=128, height=128, fx=420.0, fy=420.0, cx=63.5, cy=63.5, source_to_detector_mm=1000.0)
FRONTAL = [
    [1.0, 0.0, 0.0],
    [0.0, 0.0, -1.0],
    [0.0, 1.0, 0.0],
]  # camera axes in LPS: x to the patient's left, y to the feet, z to the back
DEPTH_MM = 750.0


@dataclass(frozen=True)
class Finished:
    """Exit status and output of a run."""

    status: int
    out: str
    err: str

    def json(self) -> dict:
        """Return standard output, which must be one line with one JSON object."""
        assert self.out.count("\n") == 1
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@dataclass(frozen=True)
class View:
    """Files of a CT and of one X-ray with its camera and true pose."""

    ct: Path
    camera: Path
    pose: Path
    image: Path

    def arguments(self, **changed: object) -> list[str]:
        """Return the arguments of `register` with some options changed; None leaves an option out."""
        options = {"ct": self.ct, "camera": self.camera, "image": self.image, "initial": self.pose, **changed}
        pairs = [(f"--{name}", str(value)) for name, value in options.items() if value is not None]
        return [argument for pair in pairs for argument in pair]


@pytest.fixture
def bodies(tmp_path):
    """bodies.yaml and the segmentation of the phantom that `view` shows."""
    segmentation = phantom_labels(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0)))
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ segmentation.patient_from_voxel.numpy()
    nibabel.save(nibabel.Nifti1Image(segmentation.labels.numpy().transpose(2, 1, 0), affine), tmp_path / "seg.nii.gz")
    (tmp_path / "bodies.yaml").write_text(
        "reference: pelvis\nbodies:\n  pelvis: {labels: [sacrum, hip_left, hip_right]}\n"
        "  femur: {labels: [femur_left], joint: {sd_mm: 3, sd_deg: 4}}\n"
    )
    return tmp_path


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Return a function that runs `fluoro-reg` in this process. The output of C libraries is captured as well."""

    def run(*arguments: object) -> Finished:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Finished(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def view(tmp_path_factory: pytest.TempPathFactory) -> View:
    """A frontal view of a coarse phantom: line integrals as float32, with the true camera and pose."""
    folder = tmp_path_factory.mktemp("view")
    ct = folder / "ct"
    write_dicom_series(ct, *phantom_hu(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0))))
    volume = read_ct(ct)
    rotation = np.array(FRONTAL)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = [0, 0, DEPTH_MM] - rotation @ volume.centre_patient.numpy()
    camera_from_patient = RigidTransform.from_matrix(matrix.tolist())
    write_camera(folder / "camera.json", CAMERA)
    write_pose(folder / "pose.json", camera_from_patient)
    integrals = project(make_renderer(volume, "cpu"), camera_from_patient, CAMERA)
    np.save(folder / "image.npy", integrals.numpy())
    return View(ct, folder / "camera.json", folder / "pose.json", folder / "image.npy")
