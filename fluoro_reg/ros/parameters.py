"""ROS parameters derived from the configuration dataclasses, which define names, documentation, bounds and defaults.

Two behaviours of ROS are unsafe for thresholds and are changed here. ROS silently ignores a misspelt name in a parameters
file; here it makes the transition `configure` fail. In ROS, `0` for a float is a type error that ends the process; here it is
read as a float. Parameters are read once, in `configure`, so that they are consistent with each other; while the node is
configured, changes are rejected with a reason.
"""

import difflib
import functools
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from fluoro_reg.config import OptionInfo, from_mapping, walk_options
from fluoro_reg.errors import InputError

C = TypeVar("C")

SOURCE = "parameters"
ROS_PARAMETERS = ("use_sim_time", "qos_overrides.", "start_type_description_service", "diagnostic_updater.")


class ParameterSet:
    """The options of several configuration classes as the parameters of a node.

    The node must be created with `automatically_declare_parameters_from_overrides=True`; otherwise it does not know about given
    names that no one declares.
    """

    def __init__(self, node: Node, *classes: type) -> None:
        self._node = node
        self._class_of = {info.name: cls for cls in classes for info in walk_options(cls)}
        self._options = {info.name: info for cls in classes for info in walk_options(cls)}
        self._unknown = [name for name in node.get_parameters_by_prefix("") if not self._is_known(name)]
        self._problems: dict[str, str] = {}
        self.frozen = False
        for info in self._options.values():
            self._declare(info)
        node.add_on_set_parameters_callback(self._on_set)

    def read(self, cls: type[C]) -> C:
        """Return the current options of one class.

        Raises:
            InputError: an unknown parameter was given, or a value has the wrong type or is out of bounds.
        """
        for name in self._unknown:
            close = difflib.get_close_matches(name, self._options, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "`ros2 param list` lists the parameters"
            raise InputError(f"{SOURCE}: '{name}' is not a parameter of this node; {hint}")
        if self._problems:
            raise InputError(next(iter(self._problems.values())))
        return self._build(cls, {})

    def _is_known(self, name: str) -> bool:
        return name in self._options or name.startswith(ROS_PARAMETERS)

    def _declare(self, info: OptionInfo) -> None:
        value = info.default
        if self._node.has_parameter(
            info.name
        ):  # given in a file or on the command line, and declared by ROS without a description
            value = self._validate(info, self._node.get_parameter(info.name).value)
            self._node.undeclare_parameter(info.name)
        builtin = list(value) if isinstance(value, tuple) else value
        self._node.declare_parameter(info.name, builtin, parameter_descriptor(info), ignore_override=True)

    def _validate(self, info: OptionInfo, value: Any) -> Any:
        try:
            config: Any = from_mapping(self._class_of[info.name], {info.name: _to_builtin(value)}, SOURCE)
        except InputError as error:
            self._problems[info.name] = str(error)
            return info.default
        return functools.reduce(getattr, info.name.split("."), config)

    def _build(self, cls: type[C], changes: dict[str, Any]) -> C:
        names = [name for name, owner in self._class_of.items() if owner is cls]
        values = {name: changes.get(name, _to_builtin(self._node.get_parameter(name).value)) for name in names}
        return from_mapping(cls, values, SOURCE)

    def _on_set(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        changes = {p.name: _to_builtin(p.value) for p in parameters if p.name in self._options}
        if changes and self.frozen:
            reason = f"'{next(iter(changes))}' is read only in configure; clean up the node, set the parameter, configure again"
            return SetParametersResult(successful=False, reason=reason)
        try:
            for cls in {self._class_of[name] for name in changes}:
                self._build(cls, changes)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for name in changes:
            self._problems.pop(name, None)
        return SetParametersResult(successful=True)


def parameter_descriptor(info: OptionInfo) -> ParameterDescriptor:
    """Return the descriptor of an option, which `ros2 param describe` shows."""
    unit = f" [{info.unit}]" if info.unit else ""
    result = ParameterDescriptor(name=info.name, description=f"{info.doc}{unit}")
    if info.choices:
        result.additional_constraints = f"one of: {', '.join(info.choices)}"
    result.dynamic_typing = info.default is None or info.default == ()  # ROS has no type for None or an empty list
    if info.minimum is None and info.maximum is None:
        return result
    if info.type is float:
        low, high = (float(x) if x is not None else s * sys.float_info.max for x, s in ((info.minimum, -1), (info.maximum, 1)))
        result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif info.type is int:
        low, high = (int(x) if x is not None else s * (2**63 - 1) for x, s in ((info.minimum, -1), (info.maximum, 1)))
        result.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return result


def _to_builtin(value: Any) -> Any:
    """Convert an array of numbers, which ROS gives as array.array or tuple, to a list."""
    return value if value is None or isinstance(value, (str, bool, int, float)) else list(value)
