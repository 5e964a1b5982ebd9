"""`import fluoro_reg`: what it offers, and how little it loads."""

import subprocess
import sys
from dataclasses import replace

import pytest

import fluoro_reg as fr


def test_every_public_name_is_there_and_documented() -> None:
    assert fr.__all__ == sorted(fr.__all__, key=lambda name: (not name[0].isupper(), name))
    for name in fr.__all__:
        assert getattr(fr, name).__doc__, name
        assert name in dir(fr)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fluoro_reg' has no attribute 'register'"):
        _ = fr.register


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("fluoro_reg", ("torch", "numpy", "pydicom", "fluoro_reg.registration")),
        ("fluoro_reg.registration", tuple(f"fluoro_reg.{room}" for room in ("evaluation", "training", "demo", "ros", "cli"))),
    ],
)
def test_an_import_does_not_load_what_it_does_not_need(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_method_is_an_object_a_name_or_a_file(tmp_path, phantom) -> None:
    named = fr.load_method("lm-local")
    file = tmp_path / "mine.yaml"
    file.write_text("description: my own\nstages: [{object_px: 64}]\n")
    methods = [fr.Registrar(phantom, method=given).method for given in (named, "lm-local", file, str(file))]
    assert methods[0] is named and methods[1] == named
    assert [method.name for method in methods[2:]] == ["mine", "mine"]
    assert methods[2].stages[0].object_px == 64


def test_a_file_with_the_name_of_an_installed_method_is_refused(tmp_path) -> None:
    file = tmp_path / "lm-local.yaml"
    file.write_text("stages: [{object_px: 64}]\n")
    with pytest.raises(fr.InputError, match=r"lm-local\.yaml has the name of an installed method"):
        fr.load_method(file)


def test_a_method_made_in_python_is_checked() -> None:
    named = fr.load_method("lm-local")
    with pytest.raises(fr.InputError, match="has no stages"):
        replace(named, stages=())
    descent = fr.load_method("adam-xvr").stages[0]
    with pytest.raises(fr.InputError, match="the method lm-local, stage 0: lm needs a similarity with residuals"):
        replace(named, stages=(replace(named.stages[0], similarity=descent.similarity),))


def test_weights_that_are_missing_are_named_whatever_else_is_given(phantom) -> None:
    with pytest.raises(fr.InputError, match="needs weights of the similarity spherical"):
        fr.Registrar(phantom, method="spherical-lm", similarities={})
    with pytest.raises(fr.InputError, match="the method regressor-lm needs weights"):
        fr.Registrar(phantom, method="regressor-lm", similarities={})


def test_a_seed_out_of_range_is_refused(phantom) -> None:
    with pytest.raises(fr.InputError, match="'seed' must"):
        fr.Registrar(phantom, method="lm-local", seed=-1)


def test_arguments_take_precedence_over_options(phantom) -> None:
    options = fr.RegistrationOptions(method="cma-es", seed=3)
    registrar = fr.Registrar(phantom, options, method="lm-local", seed=4)
    assert (registrar.method.name, registrar.options) == ("lm-local", replace(options, seed=4))


def test_an_image_of_noise_is_rejected_without_an_initial_pose(phantom, tmp_path) -> None:
    import torch

    camera = fr.CameraIntrinsics(64, 64, 217.6, 217.6, 31.5, 31.5, 1020.0)
    pixels = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)).cumsum(0) + 1
    xray = fr.XrayImage(pixels, camera, fr.Intensity.ATTENUATION, torch.ones(64, 64, dtype=torch.bool))
    result = fr.Registrar(phantom, method="lm-local").register(xray)
    assert not result.accepted
    assert result.outcome in (fr.Outcome.REJECTED_POSE, fr.Outcome.REJECTED_IMAGE, fr.Outcome.NOT_CONVERGED)
