"""`fluoro-reg register` with several X-rays or a folder of them: one line each, in order, whatever befalls one of them."""

import json
import shutil

import numpy as np
import pytest


def lines(finished):
    return [json.loads(line) for line in finished.out.splitlines()]


@pytest.fixture
def xrays(view, tmp_path):
    """A folder with a good X-ray, a damaged one, a blank one, a good one again, and files that are not X-rays."""
    folder = tmp_path / "xrays"
    folder.mkdir()
    shutil.copy(view.image, folder / "a.npy")
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n then nothing")
    np.save(folder / "c.npy", np.full((128, 128), 7.0, dtype=np.float32))
    shutil.copy(view.image, folder / "d.npy")
    shutil.copy(view.camera, folder / "camera.json")
    (folder / ".hidden.npy").write_bytes(b"")
    return folder


def test_a_folder_gives_one_line_for_each_xray_and_a_bad_one_does_not_end_the_others(cli, view, xrays):
    finished = cli("register", *view.arguments(image=xrays), "--json")
    answers = lines(finished)
    assert finished.status == 1, "not all are accepted"
    assert [answer["image"] for answer in answers] == [str(xrays / name) for name in ("a.npy", "b.png", "c.npy", "d.npy")]
    assert [answer["accepted"] for answer in answers] == [True, False, False, True]
    assert [answer["outcome"] for answer in answers[1:3]] == ["rejected_image", "rejected_image"]
    assert "b.png" in answers[1]["reason"] and answers[1]["camera_from_patient"] is None
    assert {frozenset(answer) for answer in answers} == {frozenset(answers[0])}, "every line has the same keys"


def test_a_line_says_what_a_run_of_that_xray_alone_says(cli, view):
    alone = cli("register", *view.arguments(), "--json").json()
    both = cli("register", *view.arguments(), "--image", view.image, "--json")
    assert both.status == 0 and len(lines(both)) == 2
    for answer in lines(both):
        assert answer.pop("image") == str(view.image)
        assert set(answer) == set(alone)
        assert answer["camera_from_patient"] == alone["camera_from_patient"]


def test_text_has_a_line_for_each_xray_and_the_count(cli, view, xrays):
    finished = cli("register", *view.arguments(image=xrays))
    assert finished.status == 1
    assert finished.out.count("accepted") == 3 and finished.out.count("rejected") == 2, "two lines each, and the summary"


def test_xrays_none_of_which_can_be_read_are_unusable_input(cli, view, xrays):
    finished = cli("register", *view.arguments(image=xrays / "b.png"), "--image", xrays / "absent.png", "--json")
    assert (finished.status, finished.out) == (2, "")
    assert "none of the 2 X-rays can be read; the first: b.png" in finished.err


def test_a_folder_without_xrays_is_unusable_input(cli, view, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    finished = cli("register", *view.arguments(image=tmp_path))
    assert (finished.status, finished.out) == (2, "")
    assert "contains no X-ray" in finished.err


@pytest.mark.parametrize("option", ["--overlay", "--second-view"])
def test_what_belongs_to_one_xray_is_refused_with_several(cli, view, xrays, tmp_path, option):
    value = tmp_path / "x.png" if option == "--overlay" else tmp_path / "x.json"
    finished = cli("register", *view.arguments(image=xrays), option, value)
    assert (finished.status, finished.out) == (2, "")
    assert f"{option} " in finished.err and "give --image once" in finished.err
