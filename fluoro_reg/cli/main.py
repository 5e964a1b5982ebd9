"""The program `fluoro-reg`: its subcommands, and how exceptions become an exit status.

A subcommand returns its exit status, and raises `InputError` for what the user can correct. Any other exception is a bug. Only
its type is shown, because its text may quote a file's content; `--debug` shows the traceback. Subcommands import torch and the
readers when they run, so that `--help` is fast.
"""

import atexit
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, cast

import typer

import fluoro_reg
from fluoro_reg.cli import ct_info, demo, doctor, evaluate, export_dataset, methods, register, render, replay, simulate, train
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.typer_command import add_command, epilog_text
from fluoro_reg.errors import InputError

# Some versions of typer contain a copy of click. This base class of typer's public exception is right for all versions.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="fluoro-reg",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=epilog_text(
        [
            ("Demonstrate everything on a phantom (needs ROS 2)", "fluoro-reg demo --out demo_output/"),
            (
                "Register an X-ray to a CT",
                "fluoro-reg register --ct ct/ --image xray.png --camera camera.json --initial initial.json",
            ),
            ("Show the options and examples of a command", "fluoro-reg register --help"),
        ],
        "0 done and accepted; 1 ran but rejected its own result; 2 unusable input or arguments.",
    ),
)
for module in (ct_info, doctor, render, register, replay, simulate, export_dataset, evaluate, demo, methods):
    add_command(app, module.NAME, module.command, module.EPILOG)
app.add_typer(train.app)


def _show_version(requested: bool) -> bool:
    if requested:
        typer.echo(f"fluoro-reg {fluoro_reg.__version__}")
        raise typer.Exit
    return requested


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; it may quote the content of files.")
    ] = False,
) -> None:
    """Register C-arm X-rays to a CT: find the pose of the patient in front of the camera.

    Lengths are in mm, image positions in px. Poses are camera_from_patient: from DICOM patient coordinates (LPS) to the camera.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status.

    Args:
        arguments: The arguments after the program's name; by default those of this process. `--debug` may be anywhere in them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    arguments = [argument for argument in given if argument != "--debug"]
    with warnings.catch_warnings():
        if not (debug or sys.warnoptions):
            # Warnings of file readers may quote names and identifiers. fluoro_reg reports what matters to the user itself.
            warnings.simplefilter("ignore")
        try:
            return int(app(arguments, prog_name="fluoro-reg", standalone_mode=False) or 0)
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _exit_status(error)
        except SystemExit:
            # typer and rich exit with 1 when standard output is closed; here 1 means a rejected result.
            return ExitStatus.BROKEN_PIPE
        except KeyboardInterrupt:
            return ExitStatus.INTERRUPTED


def _exit_status(error: Exception) -> int:
    """Print the error as one sentence on standard error, and return its exit status."""
    if isinstance(error, InputError):
        return _unusable(str(error))
    if isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "fluoro-reg"
        return _unusable(f"{error.format_message().rstrip('.')} (see {command} --help)")
    if isinstance(error, typer.Abort):
        return ExitStatus.INTERRUPTED
    cause = "not enough memory" if isinstance(error, MemoryError) else type(error).__name__
    print(f"fluoro-reg failed unexpectedly ({cause}); run fluoro-reg --debug ... to see where", file=sys.stderr)
    return ExitStatus.FAULT


def _unusable(sentence: str) -> int:
    print(f"fluoro-reg: {' '.join(sentence.split())}", file=sys.stderr)
    return ExitStatus.UNUSABLE


def run() -> None:
    """Run the command line of this process and exit.

    What was registered to run at the end runs. The interpreter is then left without being taken apart, which takes half a
    second once torch is loaded.
    """
    status = main()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        status = ExitStatus.BROKEN_PIPE if isinstance(error, BrokenPipeError) else ExitStatus.FAULT
    os._exit(status)


if __name__ == "__main__":
    run()
