"""ROS parameters derived from the configuration dataclasses, which define names, documentation, bounds and defaults.

Two behaviours of ROS are unsafe for thresholds and are changed here. ROS silently ignores a misspelt name in a parameters
file; here it makes the transition `configure` fail. In ROS, `0` for a float is a type error; here it is read as a float.
Parameters are read in `configure`, so that they are consistent with each other. While the node is configured, the thresholds
among them may change, all parameters of one request together or none; the others are read-only, and say so.
"""

import copy
import difflib
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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

    Args:
        node: the node.
        classes: the configuration classes.
        changeable: names, or prefixes that end in a dot, of the parameters that may change while the set is frozen.
        checks: called with a new value of the parameter; raises an `InputError` if it is unusable.
    """

    def __init__(
        self,
        node: Node,
        *classes: type,
        changeable: Sequence[str] = (),
        checks: Mapping[str, Callable[[Any], object]] | None = None,
    ) -> None:
        self._node = node
        self._changeable = tuple(changeable)
        self._checks = dict(checks or {})
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
            raise self._unknown_name(name)
        if self._problems:
            raise InputError(next(iter(self._problems.values())))
        return self._build(cls, {})

    def problem_of(self, name: str) -> str:
        """Return what is wrong with the given value of a parameter, for which the default stands; empty if nothing is."""
        return self._problems.get(name, "")

    def set(
        self, parameters: Iterable[Parameter], apply: Callable[[list[Parameter]], SetParametersResult]
    ) -> SetParametersResult:
        """Convert the values to the types of the options, as in a parameters file, and apply all of them or none."""
        try:
            return apply([self._converted(parameter) for parameter in parameters])
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))

    def described(self, descriptor: ParameterDescriptor) -> ParameterDescriptor:
        """Return the descriptor with the flag `read_only` as it stands at present."""
        result = copy.deepcopy(descriptor)
        result.read_only = self.frozen and descriptor.name in self._options and not self._is_changeable(descriptor.name)
        return result

    def _converted(self, parameter: Parameter) -> Parameter:
        name = parameter.name
        if name not in self._options:
            if name.startswith(ROS_PARAMETERS):
                return parameter
            raise self._unknown_name(name)
        config: Any = from_mapping(self._class_of[name], {name: _to_builtin(parameter.value)}, SOURCE)
        value = functools.reduce(getattr, name.split("."), config)
        return Parameter(name, value=list(value) if isinstance(value, tuple) else value)

    def _unknown_name(self, name: str) -> InputError:
        close = difflib.get_close_matches(name, self._options, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "`ros2 param list` lists the parameters"
        return InputError(f"{SOURCE}: '{name}' is not a parameter of this node; {hint}")

    def _is_changeable(self, name: str) -> bool:
        return any(name == given or (given.endswith(".") and name.startswith(given)) for given in self._changeable)

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
        if self.frozen and (fixed := [name for name in changes if not self._is_changeable(name)]):
            reason = f"'{fixed[0]}' is read only in configure; clean up the node, set the parameter, configure again"
            return SetParametersResult(successful=False, reason=reason)
        try:
            for name in set(changes) & set(self._checks):
                self._checks[name](changes[name])
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
