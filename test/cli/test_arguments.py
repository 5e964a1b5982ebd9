"""Layers of settings, and groups of arguments as typer sees them."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from fluoro_reg.cli.common_arguments import CommonArguments, Device
from fluoro_reg.cli.input_arguments import IntensityChoice
from fluoro_reg.cli.registration_arguments import Roi
from fluoro_reg.cli.typer_command import add_command
from fluoro_reg.config import option, section, walk_options
from fluoro_reg.errors import InputError
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.xray.image import Intensity


@dataclass(frozen=True, slots=True)
class Inner:
    depth: int = option(1, "")


@dataclass(frozen=True, slots=True)
class Even:
    parts: int = option(1, "")
    whole: int = option(1, "")

    def __post_init__(self) -> None:
        if self.whole % self.parts:
            raise InputError("whole must be a multiple of parts")


@dataclass(frozen=True, slots=True)
class Outer:
    width: int = option(1, "")
    height: int = option(1, "")
    name: str = option("default", "")
    inner: Inner = section(Inner)


def test_named_options_override_set_which_overrides_the_file_which_overrides_defaults(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("width: 2\nheight: 2\ninner: {depth: 2}\n")
    common = CommonArguments(config=settings, assignments=["height=3", "inner.depth=3"])
    assert common.settings(Outer, {"width": None, "height": 4, "name": None}) == Outer(2, 4, "default", Inner(3))
    of_device = {"name": "device", "width": 9, "height": 9}
    assert common.settings(Outer, {"height": 4}, of_device) == Outer(2, 4, "device", Inner(3))


def test_an_error_names_the_layer_of_settings(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("widht: 2\n")
    with pytest.raises(InputError, match=r"--config: unknown key 'widht'; did you mean 'width'"):
        CommonArguments(config=settings).settings(Outer, {})
    with pytest.raises(InputError, match=r"--set: 'width' must be of type int"):
        CommonArguments(assignments=["width=wide"]).settings(Outer, {})


def test_settings_that_belong_together_may_come_from_different_layers(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("whole: 6\n")
    common = CommonArguments(config=settings, assignments=["parts=3"])
    assert common.settings(Even, {}) == Even(parts=3, whole=6)
    assert CommonArguments(assignments=["parts=8"]).settings(Even, {}, {"whole": 32}) == Even(parts=8, whole=32)
    with pytest.raises(InputError, match="multiple of parts"):
        CommonArguments(assignments=["parts=3"]).settings(Even, {})


def test_strings_that_yaml_reads_as_booleans_or_numbers_stay_strings():
    assert CommonArguments(assignments=["saturation=off"]).settings(RegistrationOptions, {}).saturation == "off"
    assert CommonArguments(assignments=["saturation=2.5"]).settings(RegistrationOptions, {}).saturation == "2.5"


def test_every_field_of_a_group_becomes_an_option():
    @dataclass(frozen=True)
    class Size:
        width: Annotated[int, typer.Option(help="px")]
        height: Annotated[int, typer.Option(help="px")] = 7

    seen = []

    def command(size: Size, name: Annotated[str, typer.Option(help="any")] = "x") -> int:
        seen.append((size, name))
        return 5

    app = typer.Typer()
    add_command(app, "measure", command, "")
    assert app(["--width", "3", "--name", "y"], standalone_mode=False) == 5
    assert seen == [(Size(3, 7), "y")]


@pytest.mark.parametrize(("choices", "name"), [(Device, "device"), (Roi, "roi")])
def test_copied_choices_agree_with_the_settings(choices, name):
    known = {info.name: info.choices for info in walk_options(RegistrationOptions)}
    assert {choice.value for choice in choices} == set(known[name])


def test_copied_intensities_agree_with_the_xray_package():
    assert {choice.value for choice in IntensityChoice} == {intensity.value for intensity in Intensity}
