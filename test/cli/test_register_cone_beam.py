"""A cone-beam CT of a C-arm, whose values are not HU, registers like the CT of the same patient."""

import json

import numpy as np
import pytest
from helpers.enhanced_ct import enhanced, sequence_of_one
from pydicom.uid import XRay3DAngiographicImageStorage

from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_hu


@pytest.fixture
def cone_beam(tmp_path):
    """Return the phantom of the view as X-Ray 3D Angiographic, with air at 100 and tissue at 620, and noise."""
    hu, patient_from_voxel = phantom_hu(PhantomOptions(spacing_mm=(4.0, 4.0, 4.0)))
    values = np.round(0.5 * hu + 600 + np.random.default_rng(0).normal(0, 15, hu.shape))
    positions = [patient_from_voxel[:3] @ [0, 0, k, 1] for k in range(len(hu))]
    dataset = enhanced(values, [[float(x) for x in place] for place in positions], [0] * len(hu))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    directions = (patient_from_voxel[:3, :2] / 4.0).T.ravel()
    shared.PlaneOrientationSequence = sequence_of_one(ImageOrientationPatient=[float(x) for x in directions])
    shared.PixelMeasuresSequence = sequence_of_one(PixelSpacing=[4.0, 4.0])
    dataset.Modality = "XA"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = XRay3DAngiographicImageStorage
    dataset.save_as(tmp_path / "cone_beam.dcm", enforce_file_format=True)
    return tmp_path / "cone_beam.dcm"


def test_a_cone_beam_ct_registers_like_the_ct(cli, view, cone_beam):
    finished = cli("register", *view.arguments(ct=cone_beam), "--json")
    result = finished.json()
    assert finished.status == 0, result["reason"]
    truth = np.array(json.loads(view.pose.read_text())["camera_from_patient"])
    shift = np.array(result["camera_from_patient"]) - truth
    assert np.abs(shift[:2, 3]).max() < 2.0
    assert "not calibrated Hounsfield units" in finished.err and "mapped to their HU" in finished.err
