"""Bodies cut out of a CT: what they hold, what they leave behind, and what is refused."""

import pytest
import torch

from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.bodies import body_masks, split_bodies
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError

SOFT, BONE = attenuation_of_tissue(40.0), attenuation_of_tissue(900.0)


@pytest.fixture
def scene():
    attenuation = torch.full((14, 12, 10), SOFT)
    attenuation[4:9, 4:8, 3:7] = BONE
    attenuation[10:14, 4:8, 3:7] = BONE
    labels = torch.zeros(attenuation.shape, dtype=torch.int32)
    labels[4:9, 4:8, 3:7], labels[10:14, 4:8, 3:7] = 5, 6
    return CTVolume(attenuation, torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))), labels


def sum_on_grid(rest, volumes):
    total = rest.attenuation.clone()
    for volume in volumes.values():
        shift = volume.patient_from_voxel[:3, 3] - rest.patient_from_voxel[:3, 3]
        i, j, k = torch.linalg.solve(rest.patient_from_voxel[:3, :3], shift).round().long().tolist()
        slices, rows, columns = volume.attenuation.shape
        total[k : k + slices, j : j + rows, i : i + columns] += volume.attenuation
    return total


def test_the_parts_add_up_to_the_ct(scene):
    ct, labels = scene
    rest, volumes = split_bodies(ct, labels, {"a": [5], "b": [6]})
    assert torch.allclose(sum_on_grid(rest, volumes), ct.attenuation)


def test_a_body_leaves_soft_tissue_behind(scene):
    ct, labels = scene
    rest, _ = split_bodies(ct, labels, {"a": [5]})
    assert torch.allclose(rest.attenuation[4:9, 4:8, 3:7], torch.tensor(SOFT))
    assert torch.allclose(rest.attenuation[10:14, 4:8, 3:7], torch.tensor(BONE))  # nobody's body: it stays


def test_a_body_at_the_end_of_the_ct_ends_there(scene):
    ct, labels = scene
    volume = split_bodies(ct, labels, {"b": [6]})[1]["b"]
    assert bool((volume.attenuation[-1] > 0).any()) and not bool((volume.attenuation[0] > 0).any())


def test_a_body_takes_the_partly_filled_voxels_around_it(scene):
    ct, labels = scene
    ct.attenuation[9, 5, 5] = 0.5 * (SOFT + BONE)
    rest, _ = split_bodies(ct, labels, {"a": [5]})
    assert float(rest.attenuation[9, 5, 5]) == pytest.approx(SOFT)


def test_a_body_takes_nothing_from_another_label(scene):
    _, labels = scene
    labels[9, 4:8, 3:7] = 6
    assert not bool((body_masks(labels, {"a": [5]})["a"] & (labels == 6)).any())


def test_two_bodies_share_no_voxel(scene):
    masks = body_masks(scene[1], {"a": [5], "b": [6]})
    assert not bool((masks["a"] & masks["b"]).any())


def test_unusable_labels_are_refused(scene):
    ct, labels = scene
    with pytest.raises(InputError, match="belongs to the bodies a and b"):
        split_bodies(ct, labels, {"a": [5], "b": [5, 6]})
    with pytest.raises(InputError, match="the body a has no voxels"):
        split_bodies(ct, labels, {"a": [9]})
    labels[0, 0, 0] = 3
    ct.attenuation[:2, :3, :3] = SOFT
    with pytest.raises(InputError, match="nowhere denser than soft tissue"):
        split_bodies(ct, labels, {"a": [3]})
