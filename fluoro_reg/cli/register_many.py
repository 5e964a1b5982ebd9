"""`fluoro-reg register` with several X-rays: each is registered on its own, with one CT and one program for all.

Each X-ray is one line of output, printed as soon as it is ready. An X-ray that cannot be read is a rejected one, and the others
go on. If none can be read, the input is unusable and nothing is printed.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import CTArguments, XrayArguments, read_image, read_volume
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.errors import InputError

if TYPE_CHECKING:
    from fluoro_reg.geometry import RigidTransform
    from fluoro_reg.registration import Registrar, RegistrationOptions, RegistrationResult
    from fluoro_reg.xray.image import XrayImage


@dataclass(frozen=True, slots=True)
class _Xray:
    """A file, and its X-ray or the sentence that says why there is none."""

    path: Path
    read: "XrayImage | str"


def register_many(
    paths: list[Path],
    xray: XrayArguments,
    ct: CTArguments,
    initial: "RigidTransform | None",
    options: "RegistrationOptions",
    output: Output,
) -> int:
    """Register X-rays one after the other, and print a line for each.

    Args:
        paths: The files, in the order of the output.
        xray: How each of them is read; its `image` is not used.
        ct: The CT of all.
        initial: The initial pose of all, if there is one.
        options: The settings of the registrations.
        output: Where the lines go.

    Returns:
        0 if all are accepted, 1 if any is not.

    Raises:
        InputError: No X-ray can be read, or the CT cannot.
    """
    from fluoro_reg.registration import Registrar

    files = _read_all(paths, xray)
    waiting = _until_readable(files)
    registrar = Registrar(read_volume(ct, output), options)
    accepted, begin = 0, time.perf_counter()
    for file in itertools.chain(waiting, files):
        result = _registered(registrar, file, initial, output)
        accepted += result.accepted
        output.show({"image": str(file.path), **result.to_json()}, _line(file.path, result))
    if not output.as_json:
        content = {"X-rays": len(paths), "accepted": accepted, "time": f"{time.perf_counter() - begin:.2f} s"}
        output.stdout.print(Group(Text(), key_value_table(content)))
    return ExitStatus.ACCEPTED if accepted == len(paths) else ExitStatus.REJECTED


def _read_all(paths: list[Path], xray: XrayArguments) -> Iterator[_Xray]:
    """Read the X-rays one after the other; only the last one is in memory."""
    for path in paths:
        try:
            yield _Xray(path, read_image(dataclasses.replace(xray, image=[path])))
        except InputError as error:
            yield _Xray(path, str(error))


def _until_readable(files: Iterator[_Xray]) -> list[_Xray]:
    """The files up to the first that can be read, so that nothing is done for X-rays none of which can be.

    Raises:
        InputError: None can be read.
    """
    waiting: list[_Xray] = []
    for file in files:
        waiting.append(file)
        if not isinstance(file.read, str):
            return waiting
    raise InputError(f"none of the {len(waiting)} X-rays can be read; the first: {waiting[0].read}")


def _registered(registrar: "Registrar", file: _Xray, initial: "RigidTransform | None", output: Output) -> "RegistrationResult":
    from fluoro_reg.registration import Outcome, RegistrationResult

    if isinstance(file.read, str):
        return RegistrationResult(Outcome.REJECTED_IMAGE, file.read, registrar.method.name)
    for sentence in file.read.warnings:
        output.warn(f"{file.path.name}: {sentence}")
    return registrar.register(file.read, initial)


def _line(path: Path, result: "RegistrationResult") -> Text:
    verdict = ("accepted", "green") if result.accepted else ("rejected", "red")
    return Text.assemble(f"{path.name}  ", verdict, f"  {result.elapsed_s:6.2f} s  {result.reason}")
