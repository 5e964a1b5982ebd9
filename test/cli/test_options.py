"""Settings in layers, and groups of options as typer sees them."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from fluoro_reg.cli.options import Common, Device, IntensityChoice, grouped
from fluoro_reg.cli.recipe import Roi
from fluoro_reg.config import option, section, walk_options
from fluoro_reg.errors import InputError
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.xray.image import Intensity


@dataclass(frozen=True, slots=True)
class Inner:
    depth: int = option(1, "")


@dataclass(frozen=True, slots=True)
class Outer:
    width: int = option(1, "")
    height: int = option(1, "")
    name: str = option("default", "")
    inner: Inner = section(Inner)


def test_typed_options_win_over_set_over_file_over_defaults(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("width: 2\nheight: 2\ninner: {depth: 2}\n")
    common = Common(config=settings, assignments=["height=3", "inner.depth=3"])
    assert common.settings(Outer, {"width": None, "height": 4, "name": None}) == Outer(2, 4, "default", Inner(3))


def test_the_layer_at_fault_is_named(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("widht: 2\n")
    with pytest.raises(InputError, match=r"--config: unknown key 'widht'; did you mean 'width'"):
        Common(config=settings).settings(Outer, {})
    with pytest.raises(InputError, match=r"--set: 'width' must be of type int"):
        Common(assignments=["width=wide"]).settings(Outer, {})


def test_words_that_yaml_takes_for_booleans_and_numbers_stay_words():
    assert Common(assignments=["saturation=off"]).settings(RegistrationOptions, {}).saturation == "off"
    assert Common(assignments=["saturation=2.5"]).settings(RegistrationOptions, {}).saturation == "2.5"


def test_a_group_becomes_one_option_a_field():
    @dataclass(frozen=True)
    class Size:
        width: Annotated[int, typer.Option(help="px")]
        height: Annotated[int, typer.Option(help="px")] = 7

    seen = []

    def command(size: Size, name: Annotated[str, typer.Option(help="any")] = "x") -> int:
        seen.append((size, name))
        return 5

    app = typer.Typer()
    app.command()(grouped(command))
    assert app(["--width", "3", "--name", "y"], standalone_mode=False) == 5
    assert seen == [(Size(3, 7), "y")]


@pytest.mark.parametrize(("choices", "name"), [(Device, "device"), (Roi, "roi")])
def test_the_light_copies_of_choices_agree_with_the_settings(choices, name):
    known = {info.name: info.choices for info in walk_options(RegistrationOptions)}
    assert {choice.value for choice in choices} == set(known[name])


def test_the_light_copy_of_intensities_agrees_with_the_core():
    assert {choice.value for choice in IntensityChoice} == {intensity.value for intensity in Intensity}
