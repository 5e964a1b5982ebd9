"""X-ray files with overwritten headers are read or give one sentence, which repeats nothing that may name a person."""

import numpy as np
import pytest
from helpers.xray_images import camera, write_xa

from fluoro_reg.errors import InputError
from fluoro_reg.xray import frame_times_ns, n_frames, read_xray

TAGS = {
    "NumberOfFrames": 1,
    "FrameTime": 33.0,
    "DistanceSourceToDetector": 1000.0,
    "ImagerPixelSpacing": [0.4, 0.5],
    "PixelPaddingValue": 0,
    "PixelIntensityRelationship": "LIN",
    "ShutterShape": "CIRCULAR",
    "CenterOfCircularShutter": [6, 8],
    "RadiusOfCircularShutter": 5,
    "FieldOfViewRotation": 0,
}


@pytest.mark.parametrize("filling", [b"\xff\xff\xff\xff", b"Zyx\\", b"\0\0\0\0"])
def test_overwritten_headers_are_read_or_give_one_sentence(tmp_path, filling):
    pixels = np.random.default_rng(0).integers(0, 4096, (12, 16), dtype=np.uint16)
    content = write_xa(tmp_path / "x.dcm", pixels, **TAGS).read_bytes()
    outcomes = {"read": 0, "refused": 0}
    for position in range(132, len(content) - pixels.nbytes - 12, 3):
        (tmp_path / "x.dcm").write_bytes(content[:position] + filling + content[position + len(filling) :])
        try:
            assert n_frames(tmp_path / "x.dcm") >= 1
            assert frame_times_ns(tmp_path / "x.dcm")[0] == 0
            read_xray(tmp_path / "x.dcm", camera(16, 12))
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error) and "Zyx" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10


def test_a_modality_that_dicom_does_not_define_is_not_repeated(tmp_path):
    path = write_xa(tmp_path / "x.dcm", np.zeros((12, 16), np.uint16), Modality="QUENTIN")
    with pytest.raises(InputError, match="modality unknown, not an X-ray"):
        read_xray(path, camera(16, 12))
