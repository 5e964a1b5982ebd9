"""`fluoro-reg simulate`: the other subcommands can read what it writes."""

import json

import pytest
from PIL import Image

SMALL = ("--size", 64, "--json")


def test_cases_are_complete_folders(cli, view, tmp_path):
    finished = cli("simulate", "--ct", view.ct, "--out", tmp_path / "cases", "--cases", 2, "--start-mm", 5, 6, *SMALL)
    assert finished.status == 0, finished
    assert finished.json()["cases"] == ["case_000", "case_001"]
    for name in finished.json()["cases"]:
        folder = tmp_path / "cases" / name
        case = json.loads((folder / "case.json").read_text())
        assert (folder / case["ct"]).resolve() == view.ct.resolve()
        with Image.open(folder / case["image"]) as image:
            assert image.size == (64, 64)
        for file in ("camera.json", "initial.json", "truth.json", "landmarks.json"):
            assert (folder / file).is_file()


def test_views_lie_in_the_given_range(cli, view, tmp_path):
    """Nearly lateral views, from far away, on a small detector: all outside the default range."""
    angles = "primary_deg: [80, 90]\nsecondary_deg: [-5, 5]\nroll_deg: [-5, 5]\n"
    aims = "left_mm: [0, 0]\nback_mm: [0, 0]\nup_mm: [0, 0]\nsource_to_object_mm: [900, 900]\n"
    (tmp_path / "carm.yaml").write_text(f"views: [AP]\n{angles}{aims}detector_mm: 150\n")
    arguments = ("--ct", view.ct, "--cases", 3, "--range", tmp_path / "carm.yaml", *SMALL)
    assert cli("simulate", "--out", tmp_path / "cases", *arguments).status == 0
    for folder in (tmp_path / "cases").iterdir():
        rotation = json.loads((folder / "truth.json").read_text())["camera_from_patient"]
        assert abs(rotation[2][0]) > 0.95  # the optical axis runs across the patient
        assert json.loads((folder / "camera.json").read_text())["k"][0] == pytest.approx(1020 * 64 / 150)


def test_the_seed_determines_everything(cli, view, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cli("simulate", "--ct", view.ct, "--out", tmp_path / name, "--cases", 1, "--seed", seed, *SMALL)
    a, b, c = ((tmp_path / name / "case_000" / "image.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_replay_can_read_the_bag(cli, view, tmp_path):
    out = tmp_path / "recording"
    arguments = ("--bag", "--frames", 2, "--set", "blank=[]", "--set", "storage=mcap")
    finished = cli("simulate", "--ct", view.ct, "--out", out, *arguments, *SMALL)
    assert finished.status == 0, finished
    assert finished.json()["frames"] == 2
    replayed = cli(
        "replay", out / "bag", "--ct", view.ct, "--initial", out / "initial.json", "--intensity", "transmitted", "--json"
    )
    stamps = [json.loads(line)["stamp_ns"] for line in replayed.out.splitlines()]
    assert stamps == [frame["stamp_ns"] for frame in json.loads((out / "truth.json").read_text())["frames"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bag", "--cases", 3], "--frames"),
        (["--bag", "--start-mm", 3, 4], "start_mm"),
        (["--frames", 3], "--bag"),
        (["--bag", "--range", "carm.yaml"], "--range"),
        (["--range", "absent.yaml"], "absent.yaml"),
        (["--cases", 0], "--cases"),
        (["--start-mm", 9, 3], "9.0 to 3.0"),
        (["--size", 8], "--size"),
        (["--set", "varients=[noisy]"], "variants"),
        (["--device", "cuda"], "CPU"),
        (["--landmarks", "absent.json"], "absent.json"),
    ],
)
def test_wrong_arguments_are_an_error_and_nothing_is_written(cli, view, tmp_path, arguments, message):
    finished = cli("simulate", "--ct", view.ct, "--out", tmp_path / "out", *arguments, "--json")
    assert finished.status == 2
    assert finished.out == ""
    assert message in finished.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_not_touched(cli, view, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    finished = cli("simulate", "--ct", view.ct, "--out", tmp_path, "--cases", 1, *SMALL)
    assert finished.status == 2
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
