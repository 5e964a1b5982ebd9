"""Label maps: resampling to a CT by the nearest voxel, and what is refused."""

import nibabel
import numpy as np
import pytest
import torch

from fluoro_reg.ct.bone_labels import BONE_LABELS, label_number
from fluoro_reg.ct.label_map import LabelMap, read_label_map
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError


def affine(spacing, origin):
    matrix = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    matrix[:3, 3] = torch.tensor(origin, dtype=torch.float64)
    return matrix


def ct(shape=(12, 10, 8), spacing=(2.0, 2.0, 2.0), origin=(-7.0, 3.0, 11.0)):
    return CTVolume(torch.full(shape, 0.02), affine(spacing, origin))


def write(path, labels, patient_from_voxel):
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1.0, -1.0, 1.0, 1.0]) @ patient_from_voxel.numpy()), path)
    return path


def test_a_label_map_on_another_grid_takes_the_nearest_label():
    volume = ct()
    fine = LabelMap(torch.zeros(60, 50, 40, dtype=torch.int32), affine((0.5, 0.5, 0.5), (-8.0, 2.0, 10.0)))
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 5, fine.labels.shape).astype(np.int32)
    fine = LabelMap(torch.from_numpy(labels), fine.patient_from_voxel)
    found = fine.on_grid_of(volume)
    for i, j, k in generator.integers(0, (8, 10, 12), (40, 3)):
        point = volume.points_patient(torch.tensor([i, j, k], dtype=torch.float64)).numpy()
        u, v, w = np.rint((point - [-8.0, 2.0, 10.0]) / 0.5).astype(int)
        inside = u < 40 and v < 50 and w < 60
        assert int(found[k, j, i]) == (labels[w, v, u] if inside else 0)


def test_turned_axes_of_a_label_map_are_followed():
    volume = ct()
    labels = torch.zeros(12, 10, 8, dtype=torch.int32)
    labels[3, 4, 5] = 7
    flipped = volume.patient_from_voxel.clone()
    flipped[:3, 0], flipped[:3, 3] = -flipped[:3, 0], flipped[:3, 3] + 7 * flipped[:3, 0]
    found = LabelMap(labels, flipped).on_grid_of(volume)
    assert found[3, 4, 2] == 7 and int((found > 0).sum()) == 1


def test_a_label_map_beside_the_ct_is_refused_in_one_sentence():
    labels = LabelMap(torch.ones(5, 5, 5, dtype=torch.int32), affine((1.0, 1.0, 1.0), (500.0, 0.0, 0.0)))
    with pytest.raises(InputError, match="no label lies within the CT"):
        labels.on_grid_of(ct())


def test_a_file_of_labels_is_read_with_its_geometry(tmp_path):
    labels = np.zeros((8, 10, 12), np.uint8)
    labels[1, 2, 3] = 75
    found = read_label_map(write(tmp_path / "seg.nii.gz", labels, ct().patient_from_voxel))
    assert torch.allclose(found.patient_from_voxel, ct().patient_from_voxel)
    assert int(found.labels[3, 2, 1]) == 75 and int((found.labels > 0).sum()) == 1


@pytest.mark.parametrize("value", [0.5, -3.0, np.nan])
def test_a_volume_that_is_not_labels_is_refused(tmp_path, value):
    values = np.zeros((8, 10, 12), np.float32)
    values[2, 2, 2] = value
    with pytest.raises(InputError, match="does not hold labels"):
        read_label_map(write(tmp_path / "ct.nii", values, ct().patient_from_voxel))


def test_names_of_bones_have_the_numbers_of_totalsegmentator():
    expected = {"sacrum": 25, "vertebrae_L5": 27, "vertebrae_C1": 50, "humerus_left": 69, "femur_right": 76, "hip_right": 78}
    assert {name: BONE_LABELS[name] for name in expected} == expected
    assert BONE_LABELS["rib_left_12"] == 103 and BONE_LABELS["rib_right_1"] == 104 and BONE_LABELS["skull"] == 91
    assert len(set(BONE_LABELS.values())) == len(BONE_LABELS)


@pytest.mark.parametrize("label", ["0", "-1", "femur", "1.5"])
def test_an_unknown_label_is_refused(label):
    with pytest.raises(InputError, match="whole number above 0 or TotalSegmentator"):
        label_number(label)
