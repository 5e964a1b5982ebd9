"""Find parameters that were given to another node, which ROS ignores without a word.

A parameters file names its node. If the name is that of another one, such as that of the default before a remapping, no
parameter of the file arrives, and the node would start with its defaults.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from fluoro_reg.config import YAML_ERRORS

KEY = "ros__parameters"


def unmatched_parameters(arguments: Sequence[str], node_name: str) -> list[str]:
    """Return a line for each parameters file and each `-p` among the arguments that has nothing for this node.

    Args:
        arguments: the command line.
        node_name: the fully qualified name of the node.
    """
    lines = []
    for option, value in pairwise(arguments):
        names = _names_in_file(value) if option == "--params-file" else _names_in_assignment(option, value)
        if names and not any(_matches(name, node_name) for name in names):
            source = Path(value).name if option == "--params-file" else f"{option} {value}"
            given = ", ".join(sorted(f"'{name}'" for name in names))
            lines.append(f"{source} is for {given}, not for this node, '{node_name}', and is ignored; name the node or '/**'")
    return lines


def _names_in_file(path: str) -> set[str]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, *YAML_ERRORS):
        return set()  # rclpy has refused it already, with a reason
    return set(_node_names(content, ""))


def _node_names(content: Any, prefix: str) -> Iterator[str]:
    for key, value in content.items() if isinstance(content, dict) else ():
        if key == KEY:
            yield prefix or "/"
        else:
            yield from _node_names(value, f"{prefix}/{str(key).strip('/')}")


def _names_in_assignment(option: str, value: str) -> set[str]:
    match = re.fullmatch(r"([^:=]+):[^:=]+:=.*", value, re.DOTALL) if option in ("-p", "--param") else None
    return {f"/{match[1].strip('/')}"} if match else set()


def _matches(pattern: str, node_name: str) -> bool:
    """Return whether a name of a parameters file, with * for one part and ** for any number of parts, is that of the node."""
    expression = ""
    for part in pattern.strip("/").split("/"):
        expression += "(/[^/]+)*" if part == "**" else f"/{'[^/]+' if part == '*' else re.escape(part)}"
    return re.fullmatch(expression, node_name) is not None
