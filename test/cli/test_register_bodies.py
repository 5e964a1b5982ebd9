"""`fluoro-reg register --bodies`: one entry for each body, the text, the overlay, and what is refused."""

import nibabel
import numpy as np
import pytest
from PIL import Image


def test_json_holds_every_body_and_speaks_of_the_reference(cli, view, bodies):
    arguments = ("--bodies", bodies / "bodies.yaml", "--labels", bodies / "seg.nii.gz")
    finished = cli("register", *view.arguments(), *arguments, "--json")
    answer, rigid = finished.json(), cli("register", *view.arguments(), "--json").json()
    assert finished.status == (0 if answer["accepted"] else 1)
    assert set(answer) == {*rigid, "bodies"}
    assert list(answer["bodies"]) == ["pelvis", "femur"]
    assert answer["camera_from_patient"] == answer["bodies"]["pelvis"]["camera_from_patient"]
    found, true = (np.array(body["camera_from_patient"]) for body in (answer["bodies"]["femur"], rigid))
    assert np.abs(found - true)[:3, :3].max() < 0.05, "nothing has moved in this X-ray"


def test_text_has_a_row_for_each_body_and_the_overlay_is_written(cli, view, bodies):
    overlay = bodies / "overlay.png"
    arguments = ("--bodies", bodies / "bodies.yaml", "--labels", bodies / "seg.nii.gz", "--overlay", overlay)
    finished = cli("register", *view.arguments(), *arguments)
    assert "pelvis" in finished.out and "femur" in finished.out
    with Image.open(overlay) as image:
        pixels = np.array(image).astype(int)
    assert pixels.shape == (128, 128, 3) and np.ptp(pixels, axis=-1).max() > 50, "lines have colours"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bodies", "bodies.yaml"], "give the segmentation with --labels SEG"),
        (["--labels", "seg.nii.gz"], "--labels belongs to --bodies"),
        (["--bodies", "absent.yaml", "--labels", "seg.nii.gz"], "cannot read absent.yaml"),
        (["--bodies", "bodies.yaml", "--labels", "absent.nii.gz"], "there is no segmentation at 'absent.nii.gz'"),
    ],
)
def test_unusable_bodies_are_refused_in_one_sentence(cli, view, bodies, arguments, sentence):
    located = [bodies / value if "." in value else value for value in arguments]
    finished = cli("register", *view.arguments(), *located, "--json")
    assert (finished.status, finished.out) == (2, "")
    assert sentence in " ".join(finished.err.split()) and "Traceback" not in finished.err


def test_a_segmentation_of_another_ct_is_refused(cli, view, bodies):
    file = nibabel.load(bodies / "seg.nii.gz")
    moved = file.affine.copy()
    moved[:3, 3] += 2000.0
    nibabel.save(nibabel.Nifti1Image(np.asarray(file.dataobj), moved), bodies / "other.nii.gz")
    arguments = ("--bodies", bodies / "bodies.yaml", "--labels", bodies / "other.nii.gz")
    finished = cli("register", *view.arguments(), *arguments, "--json")
    assert finished.status == 2 and "no label lies within the CT" in finished.err
