"""`fluoro-reg export-dataset`: options belong to one data set each; what the loaders refuse is refused here."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deepfluoro", "--subject", "subject01"], "--subject is Ljubljana's"),
        (["deepfluoro", "--view", "ap"], "--view is Ljubljana's"),
        (["ljubljana", "--specimen", "17-1882"], "--specimen is DeepFluoro's"),
        (["deepfluoro", "--specimen", "17-1883"], "17-1882, 18-1109"),
        (["ljubljana", "--view", "oblique"], "ap, lat"),
        (["ljubljana", "--set", "femurs=false"], "femurs"),
        (["deepfluoro", "--device", "cuda"], "CPU"),
        (["deepfluor"], "deepfluor"),
        (["deepfluoro"], "absent.h5"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(cli, tmp_path, arguments, said):
    dataset, *options = arguments
    run = cli("export-dataset", dataset, tmp_path / "absent.h5", "--out", tmp_path / "out", *options)
    assert run.status == 2 and run.out == "" and run.err.count("\n") == 1
    assert said in run.err and str(tmp_path) not in run.err
    assert not (tmp_path / "out").exists()
