"""The README against the project: its links lead somewhere, its commands exist, its picture is small."""

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

from fluoro_reg.cli import train
from fluoro_reg.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_project(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", text)
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_subcommands_and_their_options_exist():
    commands = {command.name: command.callback.__annotations__ for command in app.registered_commands}
    commands["train"] = train.app.registered_commands[0].callback.__annotations__
    used = re.findall(r"^fluoro-reg ([\w-]+)(.*)$", README, re.MULTILINE)
    assert {name for name, _ in used} == {"ct-info", "register", "replay", "simulate", "render", "train", "evaluate"}
    for name, rest in used:
        options = re.findall(r"--([\w-]+)", rest)
        assert [option for option in options if option.replace("-", "_") not in commands[name]] == []


def test_topics_are_those_of_the_node():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fluoro_reg" / "ros").glob("*.py"))
    table = README[README.index("| topic or service") : README.index("**Frames and units.**")]
    topics = re.findall(r"`(~?/?[a-z_/]+)`", table)
    assert len(topics) >= 15
    assert [topic for topic in topics if f'"{topic}"' not in sources] == []


def test_every_dependency_is_explained():
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in requires("fluoro_reg")}
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert {"torch", "rosbags", "SimpleITK", "mypy"} <= names
    assert [name for name in sorted(names) if name not in page] == []


def test_pictures_are_small():
    assert [path.name for path in (ROOT / "docs" / "images").iterdir() if path.stat().st_size > 300_000] == []
