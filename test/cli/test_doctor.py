"""`fluoro-reg doctor`: exit status, output of several inputs, and the report as one self-contained file."""

import re

import numpy as np
from helpers.xray_images import line_integrals, photons, write_xa

GEOMETRY = {"DistanceSourceToDetector": 1000.0, "ImagerPixelSpacing": [0.4, 0.5]}


def xray(path, **tags):
    return write_xa(path, photons(line_integrals(192)).clip(0, 4095).astype(np.uint16), **tags)


def test_several_inputs_give_one_object_and_status_0(cli, view, tmp_path):
    finished = cli("doctor", view.ct, xray(tmp_path / "x.dcm"), "--json")
    assert finished.status == 0 and finished.err == ""
    answer = finished.json()
    assert [one["status"] for one in answer["inputs"]] == ["ready", "incomplete"]
    assert answer["inputs"][1]["findings"][0]["give"].startswith('{"width": 192')
    assert "fluoro_reg" in answer["versions"]


def test_the_text_has_facts_with_sources_and_what_to_give(cli, view, tmp_path):
    finished = cli("doctor", view.ct, xray(tmp_path / "x.dcm"))
    assert "input 1: CT (DICOM)" in finished.out and "input 2: X-ray (DICOM XA)" in finished.out
    assert "--camera camera.json" in " ".join(finished.out.split())
    assert "ImagePositionPatient" in finished.out


def test_a_bad_input_is_one_sentence_and_the_others_are_reported(cli, tmp_path):
    (tmp_path / "bad.dcm").write_bytes(b"nothing")
    finished = cli("doctor", tmp_path / "bad.dcm", xray(tmp_path / "x.dcm", **GEOMETRY), tmp_path / "absent", "--json")
    assert finished.status == 1
    assert [one["status"] for one in finished.json()["inputs"]] == ["refused", "ready", "refused"]
    assert [line.split(": ")[:2] for line in finished.err.splitlines()] == [
        ["fluoro-reg", "input 1"],
        ["fluoro-reg", "input 3"],
    ]


def test_only_bad_inputs_are_status_2_without_output_but_with_the_report(cli, tmp_path):
    (tmp_path / "bad.dcm").write_bytes(b"nothing")
    finished = cli("doctor", tmp_path / "bad.dcm", "--json", "--out", tmp_path / "report.html")
    assert (finished.status, finished.out, finished.err.count("\n")) == (2, "", 1)
    assert "1 refused" in (tmp_path / "report.html").read_text()


def test_the_report_loads_nothing_from_elsewhere(cli, view, tmp_path):
    assert cli("doctor", view.ct, xray(tmp_path / "x.dcm", **GEOMETRY), "--out", tmp_path / "report.html").status == 0
    page = (tmp_path / "report.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(loaded) > 4 and all(address.startswith("data:image/webp;base64,") for address in loaded)
    assert "url(" not in page and "@import" not in page and "$" not in page


def test_the_report_must_be_an_html_file(cli, tmp_path):
    assert cli("doctor", tmp_path, "--out", tmp_path / "report.pdf").status == 2


def test_a_folder_is_searched_for_inputs(cli, view, tmp_path):
    xray(tmp_path / "x.dcm", **GEOMETRY)
    (tmp_path / "image.png").write_bytes(b"")
    (tmp_path / "note.txt").write_text("nothing")
    kinds = [one["kind"] for one in cli("doctor", tmp_path, "--json").json()["inputs"]]
    assert kinds == ["X-ray (png)", "X-ray (DICOM XA)"]


def test_a_camera_and_an_intensity_can_be_given(cli, view):
    answer = cli("doctor", view.image, "--camera", view.camera, "--intensity", "attenuation", "--json").json()
    assert answer["inputs"][0]["status"] == "ready"
    facts = {fact["name"]: fact for fact in answer["inputs"][0]["facts"]["Camera"]}
    assert facts["focal lengths fx, fy"] == {
        "name": "focal lengths fx, fy",
        "value": [420.0, 420.0],
        "unit": "px",
        "source": "camera.json",
    }
