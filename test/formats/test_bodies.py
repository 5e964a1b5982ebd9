"""bodies.yaml: what is read, and what is refused in one sentence."""

import pytest

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bodies import bodies_from_mapping, read_bodies

PELVIS = {"labels": ["sacrum", "hip_left", 78]}


def config(**bodies):
    return bodies_from_mapping({"reference": "pelvis", "bodies": {"pelvis": PELVIS, **bodies}}, "bodies.yaml")


def test_a_file_is_read_with_paths_beside_it(tmp_path):
    (tmp_path / "bodies.yaml").write_text(
        "reference: pelvis\nbodies:\n  pelvis:\n  femur:\n    labels: [femur_left, 76]\n"
        "    joint: {point_mm: [1, 2, 3], sd_deg: 12}\n"
        "  plate: {ct: plate.nii.gz, frame: plate_link}\n"
    )
    found = read_bodies(tmp_path / "bodies.yaml")
    assert found.bodies["femur"].numbers == (75, 76) and found.bodies["femur"].joint.point_mm == (1.0, 2.0, 3.0)
    assert found.bodies["plate"].ct == str(tmp_path / "plate.nii.gz") and found.bodies["plate"].frame == "plate_link"
    assert found.bodies["femur"].frame == "femur" and found.parent("femur") == "pelvis" and found.moves_labels


def test_parents_come_before_their_children():
    found = config(l4={"labels": [28], "joint": {"parent": "l5"}}, l5={"labels": [27]})
    assert list(found.bodies) == ["pelvis", "l5", "l4"] and found.parent("l4") == "l5"


@pytest.mark.parametrize(
    ("bodies", "sentence"),
    [
        ({"femur": {}}, "needs either 'labels' of the segmentation or a 'ct' of its own"),
        ({"femur": {"labels": [1], "ct": "a.nii"}}, "needs either 'labels'"),
        ({"femur": {"labels": [1], "joints": {}}}, "unknown key 'joints'; did you mean 'joint'"),
        ({"femur": {"labels": ["fmeur"]}}, "TotalSegmentator's name of a bone"),
        ({"femur": {"labels": [1], "joint": {"parent": "hip"}}}, "the parent of femur, 'hip', is not a body"),
        ({"femur": {"labels": [1], "joint": {"parent": "femur"}}}, "cannot be its own parent"),
        (
            {"a": {"labels": [1], "joint": {"parent": "b"}}, "b": {"labels": [2], "joint": {"parent": "a"}}},
            "parents of each other",
        ),
        ({"femur": {"labels": [1], "joint": {"point_mm": [1, 2]}}}, "point_mm needs 3 values"),
        ({"femur": {"labels": [1], "joint": {"sd_mm": 0}}}, "must lie in 0.1 to 100"),
        ({"femur": {"labels": [1], "frame": "pelvis"}}, "have the same frame 'pelvis'"),
        ({"left femur": {"labels": [1]}}, "a name without spaces"),
    ],
)
def test_a_contradiction_is_refused_in_one_sentence(bodies, sentence):
    with pytest.raises(InputError, match=sentence):
        config(**bodies)


def test_the_reference_must_be_a_body_without_a_joint():
    with pytest.raises(InputError, match="'reference' must name one of the bodies"):
        bodies_from_mapping({"reference": "hip", "bodies": {"pelvis": PELVIS}}, "bodies.yaml")
    with pytest.raises(InputError, match="is the reference, which is made of the CT"):
        bodies_from_mapping({"reference": "pelvis", "bodies": {"pelvis": {"ct": "a.nii"}}}, "bodies.yaml")
