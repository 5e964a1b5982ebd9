"""A DICOM header that states the wrong polarity, display or table does not change the pose, and the result says who won."""

import numpy as np
import pytest
import torch
from helpers.xray_images import write_xa
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fluoro_reg.carm.pose_sampling import perturb_to_mtre
from fluoro_reg.evaluation.metrics import target_registration_errors
from fluoro_reg.registration import Registrar
from fluoro_reg.xray import read_xray


def falling_table() -> Sequence:
    """A Modality LUT that inverts 16-bit values, although the header calls them what they were before."""
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.LUTData = np.linspace(65535, 0, 4096).round().astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    return Sequence([table])


HEADERS = {
    "right": {"PixelIntensityRelationship": "LIN", "PixelIntensityRelationshipSign": 1},
    "wrong sign": {"PixelIntensityRelationshipSign": -1},
    "wrong relationship": {"PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1},
    "wrong photometric interpretation": {"PhotometricInterpretation": "MONOCHROME1"},
    "wrong display": {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
    "inverting rescale": {"PixelIntensityRelationshipSign": 1, "RescaleSlope": -1, "RescaleIntercept": 4095},
    "inverting table": {"PixelIntensityRelationshipSign": 1, "ModalityLUTSequence": falling_table()},
    "inverting rescale and wrong sign": {"PixelIntensityRelationshipSign": -1, "RescaleSlope": -1, "RescaleIntercept": 4095},
}
CONTRADICTED = ("wrong sign", "wrong relationship", "inverting rescale and wrong sign")


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_the_pose_is_found_whatever_the_header_says_of_the_pixels(world, tmp_path, name, negative):
    photons = (world.xray().pixels / 16).numpy().astype(np.uint16)
    pixels = 4095 - photons if negative else photons
    path = write_xa(tmp_path / "x.dcm", pixels, BitsStored=12, HighBit=11, **HEADERS[name])
    points = world.landmarks_patient
    start = perturb_to_mtre(world.truth, points, 8.0, points.mean(0), torch.Generator().manual_seed(3))
    result = Registrar(world.volume).register(read_xray(path, world.camera), start)
    if name == "wrong relationship" and negative:  # its polarity is right, but the values are not the logarithm that it states
        assert result.intensity == "attenuation"
        return
    assert result.accepted, result.reason
    errors = target_registration_errors(result.camera_from_patient, world.truth, points)
    assert errors.in_plane_mm < 2.0
    if "Sign" in "".join(HEADERS[name]):
        contradicted = (name in CONTRADICTED) != negative
        assert ("(against the header)" in result.reading) == contradicted
