"""The documentation of the command line against the program: every subcommand and option is described, every option exists."""

import re

import pytest
from helpers.documentation import page, written_pages

from fluoro_reg.cli.main import app

PAGE = page("reference/command-line.md")
# Options of pip, venv, rosdep, colcon, ROS 2, docker, torchrun and of the bag player.
FOREIGN = {
    *("--system-site-packages", "--from-paths", "--ignore-src", "--symlink-install", "--packages-select"),
    *("--ros-args", "--show-args", "--params-file", "--topics", "--nproc-per-node", "--clock", "--shm-size", "--live"),
    "--enclave",
}
COMMANDS = [command.name for command in app.registered_commands] + [
    f"{group.typer_instance.info.name} {command.name}"
    for group in app.registered_groups
    for command in group.typer_instance.registered_commands
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_describes_every_option(cli, command):
    section = re.search(rf"^## {command}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"the page has no section on {command}"
    options = set(re.findall(r"^│ [* ] +(--[a-z-]+)|^│ (--[a-z-]+)", cli(*command.split(), "--help").out, re.MULTILINE))
    names = {name for pair in options for name in pair if name} - {"--help"}
    common = PAGE[: PAGE.index("## ct-info")]
    assert names, "the help lists no options"
    assert not {name for name in names if name not in section[1] and name not in common}


def test_every_option_on_the_pages_exists(cli):
    known = "".join(cli(*command.split(), "--help").out for command in COMMANDS) + cli("--help").out
    pages = {"reference/command-line.md": PAGE, **written_pages()}
    named = {(name, option) for name, text in pages.items() for option in re.findall(r"(?<![\w-])--[a-z-]{3,}", text)}
    assert len(named) > 50
    assert {(name, option) for name, option in named if option not in known and option not in FOREIGN} == set()
