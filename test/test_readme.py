"""The README and the pages of `docs/` against the project: links, commands and topics exist, pictures are small."""

import re
from importlib.metadata import requires

import pytest
from helpers.documentation import DOCS, ROOT, generated_pages, page, written_pages

from fluoro_reg.cli import train
from fluoro_reg.cli.main import app

PAGES = list(written_pages())
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_of_the_project(name):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8"))
    generated = {DOCS / path for path in generated_pages()}
    paths = {target: ((ROOT / name).parent / target).resolve() for target in targets}
    assert [target for target, path in paths.items() if not path.exists() and path not in generated] == []


def test_subcommands_and_their_options_exist():
    commands = {command.name: command.callback.__annotations__ for command in app.registered_commands}
    commands["train"] = train.app.registered_commands[0].callback.__annotations__
    used = re.findall(r"^fluoro-reg ([\w-]+)(.*)$", README, re.MULTILINE)
    assert {name for name, _ in used} == {"ct-info", "doctor", "register", "replay", "simulate", "render", "train", "evaluate"}
    for name, rest in used:
        options = re.findall(r"--([\w-]+)", rest)
        assert [option for option in options if option.replace("-", "_") not in commands[name]] == []


def test_topics_are_those_of_the_node():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fluoro_reg" / "ros").glob("*.py"))
    text = page("reference/ros.md")
    table = text[text.index("## Topics") : text.index("## Frames")]
    topics = re.findall(r"^\| ((?:`~?/?[a-z_/]+`(?:, )?)+) \|", table, re.MULTILINE)
    names = [name for cell in topics for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) >= 15
    assert [name for name in names if f'"{name.removeprefix("second/")}"' not in sources] == []
    assert [name for name in re.findall(r"`(~/[a-z_]+|/[a-z_]+)`", README) if name not in names] == []


def test_every_dependency_is_explained():
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in requires("fluoro_reg")}
    assert {"torch", "rosbags", "SimpleITK", "mypy"} <= names
    assert [name for name in sorted(names) if name not in page("development/dependencies.md")] == []


def test_pictures_are_small():
    assert [path.name for path in (DOCS / "images").iterdir() if path.stat().st_size > 300_000] == []
