"""Code blocks of the documentation that are not run: commands that cannot, and data.

A command that cannot run has a comment before it, `<!-- not run: reason -->`. `NOT_RUN` counts them, and their syntax,
arguments and parameters are checked. Blocks of YAML and JSON are valid.
"""

import ast
import json
import re
import subprocess
from collections.abc import Iterator

import yaml
from helpers.documentation import ROOT, Block, blocks_of, commands_of, written_pages

from fluoro_reg.config import walk_options
from fluoro_reg.registration import RegistrationOptions
from fluoro_reg.ros.options import NodeOptions

NOT_RUN = {
    "README.md": 2,
    "docs/concepts/methods.md": 1,
    "docs/development/contributing.md": 3,
    "docs/getting-started/command-line.md": 3,
    "docs/getting-started/embedded.md": 4,
    "docs/getting-started/ros.md": 6,
    "docs/how-to/c-arm.md": 1,
    "docs/how-to/datasets.md": 1,
    "docs/how-to/evaluate.md": 1,
    "docs/how-to/robot.md": 4,
    "docs/how-to/secure.md": 1,
    "docs/how-to/several-views.md": 2,
    "docs/how-to/starts.md": 1,
}
TOPICS = {"image", "camera_info", "second/image", "second/camera_info"}


def test_blocks_that_do_not_run_are_marked_and_counted() -> None:
    marked = {name: sum(block.reason is not None for block in blocks_of(text)) for name, text in written_pages().items()}
    assert {name: count for name, count in marked.items() if count} == NOT_RUN
    markers = {name: len(re.findall(r"^<!-- not run:", text, re.MULTILINE)) for name, text in written_pages().items()}
    assert {name: count for name, count in markers.items() if count} == NOT_RUN, "a marker is not directly before a block"


def unrun_blocks() -> Iterator[tuple[str, Block]]:
    for name, text in written_pages().items():
        for block in blocks_of(text):
            if block.reason and block.language == "bash":
                yield name, block


def test_blocks_that_do_not_run_are_valid_shell() -> None:
    for name, block in unrun_blocks():
        checked = subprocess.run(["bash", "-n"], input=block.code, text=True, capture_output=True)
        assert checked.returncode == 0, f"{name}: {checked.stderr}"


def test_launch_arguments_and_parameters_on_the_pages_exist() -> None:
    arguments = {name: launch_arguments(name) for name in ("registration.launch.py", "replay.launch.py")}
    arguments["replay.launch.py"] |= arguments["registration.launch.py"]
    parameters = {info.name for cls in (NodeOptions, RegistrationOptions) for info in walk_options(cls)}
    seen = 0
    for name, block in unrun_blocks():
        for words in commands_of(block.code):
            given = {word.split(":=")[0] for word in words if ":=" in word}
            launched = [word for word in words if word.endswith(".launch.py")]
            known = arguments[launched[0]] if launched else parameters | TOPICS
            known = known.union(*(example_parameters(word) for word in words if word.startswith("examples/")))
            assert given <= known, f"{name}: {given - known}"
            seen += len(given)
            paths = [word for word in words if word.startswith(("scripts/", "benchmarks/"))]
            assert [path for path in paths if not (ROOT / path).exists()] == [], name
    assert seen > 10


def example_parameters(name: str) -> set[str]:
    """The parameters that a ROS program in `examples/` declares."""
    return set(re.findall(r'declare_parameter\("(\w+)"', (ROOT / name).read_text(encoding="utf-8")))


def launch_arguments(name: str) -> set[str]:
    """The names in the list ARGUMENTS of a launch file, which only an installed ROS 2 can import."""
    tree = ast.parse((ROOT / "launch" / name).read_text(encoding="utf-8"))
    (value,) = [n.value for n in tree.body if isinstance(n, (ast.Assign, ast.AnnAssign)) and "ARGUMENTS" in ast.unparse(n)[:12]]
    assert isinstance(value, ast.List)
    return {ast.literal_eval(row.elts[0]) for row in value.elts if isinstance(row, ast.Tuple)}


def test_data_blocks_are_valid() -> None:
    for name, text in written_pages().items():
        for block in blocks_of(text):
            if block.language == "yaml":
                assert isinstance(yaml.safe_load(block.code), dict), name
            elif block.language == "json" and not re.search(r"\.\.\.|\br\b|\[x, |\d+ numbers", block.code):
                assert isinstance(json.loads(block.code), dict), name
