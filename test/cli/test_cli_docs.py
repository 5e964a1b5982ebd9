"""docs/cli.md against the program: every subcommand has its section, and every option is explained there."""

import re
from pathlib import Path

import pytest

from fluoro_reg.cli.main import app
from fluoro_reg.cli.simulate import KindOptions

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS = [command.name for command in app.registered_commands] + [
    f"{group.typer_instance.info.name} {command.name}"
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_explains_every_option(cli, command):
    section = re.search(rf"^## {command}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/cli.md has no section on {command}"
    options = set(re.findall(r"^│ [* ] +(--[a-z-]+)|^│ (--[a-z-]+)", cli(*command.split(), "--help").out, re.MULTILINE))
    names = {name for pair in options for name in pair if name} - {"--help"}
    common = PAGE[: PAGE.index("## ct-info")]
    assert names, "the help lists no options"
    assert not {name for name in names if name not in section[1] and name not in common}


def test_the_page_explains_no_option_that_is_not_there(cli):
    known = "".join(cli(*command.split(), "--help").out for command in COMMANDS) + cli("--help").out
    assert {name for name in re.findall(r"--[a-z-]{3,}", PAGE) if name not in known} == set()


def test_defaults_in_the_help_of_simulate_are_those_of_the_settings():
    from fluoro_reg.simulation.bags import BagOptions
    from fluoro_reg.simulation.cases import CaseOptions

    helps = {name: str(annotation.__metadata__[0].help) for name, annotation in KindOptions.__annotations__.items()}
    assert helps["cases"].endswith(f"Default: {CaseOptions().count}.")
    assert helps["frames"].endswith(f"Default: {BagOptions().frames}.")
    assert helps["size"].endswith(f"Default: {CaseOptions().size_px}.")
    assert CaseOptions().size_px == BagOptions().size_px
    ((low, high),) = CaseOptions().start_mm
    assert helps["start_mm"].endswith(f"Default: {low:g} {high:g}.")
