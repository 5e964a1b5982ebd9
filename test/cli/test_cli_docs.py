"""docs/cli.md against the program: it has a section for every subcommand and describes every option."""

import re
from pathlib import Path

import pytest

from fluoro_reg.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS = [command.name for command in app.registered_commands] + [
    f"{group.typer_instance.info.name} {command.name}"
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_describes_every_option(cli, command):
    section = re.search(rf"^## {command}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/cli.md has no section on {command}"
    options = set(re.findall(r"^│ [* ] +(--[a-z-]+)|^│ (--[a-z-]+)", cli(*command.split(), "--help").out, re.MULTILINE))
    names = {name for pair in options for name in pair if name} - {"--help"}
    common = PAGE[: PAGE.index("## ct-info")]
    assert names, "the help lists no options"
    assert not {name for name in names if name not in section[1] and name not in common}


def test_every_option_on_the_page_exists(cli):
    known = "".join(cli(*command.split(), "--help").out for command in COMMANDS) + cli("--help").out
    assert {name for name in re.findall(r"--[a-z-]{3,}", PAGE) if name not in known} == set()


def test_the_help_of_simulate_states_the_defaults_of_the_settings(cli, monkeypatch):
    from fluoro_reg.simulation.bags import BagOptions
    from fluoro_reg.simulation.cases import CaseOptions

    monkeypatch.setenv("COLUMNS", "300")  # so that every option is on one line
    helps = dict(re.findall(r"^│ [* ] +--([a-z-]+) (.*?) *│$", cli("simulate", "--help").out, re.MULTILINE))
    assert helps["cases"].endswith(f"Default: {CaseOptions().count}.")
    assert helps["frames"].endswith(f"Default: {BagOptions().frames}.")
    assert helps["size"].endswith(f"Default: {CaseOptions().size_px}.")
    assert CaseOptions().size_px == BagOptions().size_px
    ((low, high),) = CaseOptions().start_mm
    assert helps["start-mm"].endswith(f"Default: {low:g} {high:g}.")
