"""`config/registration.yaml`, the file that lists every parameter of the node, written from the options themselves:

    python -m fluoro_reg.ros.parameters_file > config/registration.yaml

A list kept by hand drifts from the defaults that it repeats; a test compares the file with what is written here.
"""

import sys
from typing import Any

from fluoro_reg.config import OptionInfo, walk_options
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.ros.options import NodeOptions

HEAD = """\
# All parameters of `registration_node` with their defaults. Copy the lines that you change into a file of your own:
#   ros2 launch fluoro_reg registration.launch.py params_file:=mine.yaml
# They are read when the node is configured. A name that is not listed here fails that transition, with a sentence, as does a
# value that is not allowed (in brackets: unit, bounds, choices). `fluoro-reg register --set` takes those of the second part.
# Written by `python -m fluoro_reg.ros.parameters_file`.
/**:
  ros__parameters:
"""
INDENT = "    "
WIDTH = 128


def parameters_file() -> str:
    """The whole file."""
    node, registration = ("\n".join(_lines(cls)) for cls in (NodeOptions, RegistrationOptions))
    return f"{HEAD}{INDENT}# the node\n{node}\n\n{INDENT}# the registration\n{registration}\n"


def _lines(cls: type) -> list[str]:
    lines: list[str] = []
    open_section: list[str] = []
    for info in walk_options(cls):
        *section, leaf = info.name.split(".")
        for depth, name in enumerate(section):
            if open_section[: depth + 1] != section[: depth + 1]:
                lines.append(f"{INDENT}{'  ' * depth}{name}:")
        open_section = section
        indent = INDENT + "  " * len(section)
        line, comment = f"{indent}{leaf}: {_yaml(info.default)}", _comment(info)
        together = f"{line}  # {comment}"
        lines += [together] if len(together) <= WIDTH else [f"{indent}# {comment}", line]
    return lines


def _comment(info: OptionInfo) -> str:
    allowed = [info.unit] if info.unit else []
    if info.choices:
        allowed.append(", ".join(info.choices))
    if info.minimum is not None and info.maximum is not None:
        allowed.append(f"{_number(info.minimum)} to {_number(info.maximum)}")
    return f"{info.doc} [{'; '.join(allowed)}]" if allowed else info.doc


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if value in ("", "on", "off", "yes", "no") else value
    if isinstance(value, tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return str(value)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


if __name__ == "__main__":
    sys.stdout.write(parameters_file())
