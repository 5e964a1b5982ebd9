"""Enhanced multi-frame CT: the same volume as the equivalent classic series, whatever the order of its frames."""

from pathlib import Path

import numpy as np
import pytest
from helpers.enhanced_ct import FLIPPED, enhanced
from pydicom.uid import RLELossless

from fluoro_reg.ct.reader import read_ct
from fluoro_reg.errors import InputError

POSITIONS = [[-3.0, 4.0, 2.5 * k] for k in range(6)]


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_in_any_order_give_the_volume_of_the_classic_series(writer, tmp_path: Path, body, compressed):
    order = [3, 0, 5, 1, 4, 2]
    writer.write(body, POSITIONS, FLIPPED, (0.7, 1.3))
    dataset = enhanced(body[order], [POSITIONS[k] for k in order], [-1000 - k for k in order])
    if compressed:
        dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    classic, multi_frame = read_ct(writer.folder), read_ct(tmp_path / "enhanced.dcm")
    assert multi_frame.fingerprint == classic.fingerprint
    assert multi_frame.patient_from_voxel.equal(classic.patient_from_voxel)
    assert multi_frame.attenuation.equal(classic.attenuation)


def test_several_phases_are_rejected(tmp_path: Path, body):
    phases = np.concatenate([body, body + 1])
    enhanced(phases, POSITIONS * 2, [0] * 12).save_as(tmp_path / "phases.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="several phases"):
        read_ct(tmp_path / "phases.dcm")


def test_a_frame_count_that_contradicts_the_frames_is_rejected(tmp_path: Path, body):
    dataset = enhanced(body, POSITIONS, [0] * 6)
    dataset.NumberOfFrames = 10**9
    dataset.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="1000000000 frames but describes 6"):
        read_ct(tmp_path / "bomb.dcm")


def test_a_frame_without_geometry_is_rejected(tmp_path: Path, body):
    dataset = enhanced(body, POSITIONS, [0] * 6)
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence
    dataset.save_as(tmp_path / "partial.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="no ImagePositionPatient"):
        read_ct(tmp_path / "partial.dcm")
