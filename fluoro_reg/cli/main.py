"""`fluoro-reg`: one program, one subcommand a job, and one place where exceptions become an exit status.

A subcommand returns its exit status and raises `InputError` for what the user can mend; everything else that is raised is a
fault of the program, of which only the kind is shown (its text may quote a file's content) unless `--debug` asks for more.
torch and the readers are imported inside the subcommands, so that `--help` answers at once.
"""

import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, cast

import typer

import fluoro_reg
from fluoro_reg.cli import ct_info, demo, evaluate, export_dataset, methods, register, render, replay, simulate, train
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.options import grouped, paragraphs
from fluoro_reg.errors import InputError

# Some versions of typer carry click inside themselves; this base of typer's public exception is right in all of them.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="fluoro-reg",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done and accepted; 1 ran but rejected its own result; 2 unusable input or arguments.",
)
for module in (ct_info, render, register, replay, simulate, export_dataset, evaluate, demo, methods):
    app.command(module.NAME, help=paragraphs(module.command), epilog=module.EXAMPLES)(grouped(module.command))
app.add_typer(train.app)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"fluoro-reg {fluoro_reg.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors; it may quote files' contents.")] = False,
) -> None:
    """2-D/3-D registration of C-arm fluoroscopy to CT: where is the patient in this X-ray?

    Lengths are mm, angles in files rad, image positions px; poses are camera_from_patient, in DICOM's patient axes.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (by default the process's) and returns the exit status. `--debug` may stand anywhere in it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    arguments = [argument for argument in given if argument != "--debug"]
    with warnings.catch_warnings():
        if not (debug or sys.warnoptions):
            # Readers' warnings quote file contents (names, identifiers); what matters to the user is said by fluoro_reg itself.
            warnings.simplefilter("ignore")
        try:
            return int(app(arguments, prog_name="fluoro-reg", standalone_mode=False) or 0)
        except Exception as error:
            if debug:
                traceback.print_exc()
            return _exit_status(error)
        except SystemExit:
            # typer and rich end with 1 when standard output's reader has gone; here 1 means a rejected result
            return ExitStatus.BROKEN_PIPE
        except KeyboardInterrupt:
            return ExitStatus.INTERRUPTED


def _exit_status(error: Exception) -> int:
    """Says in one sentence on standard error what went wrong."""
    if isinstance(error, InputError):
        return _refused(str(error))
    if isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        place = context.command_path if context else "fluoro-reg"
        return _refused(f"{error.format_message().rstrip('.')} (see {place} --help)")
    if isinstance(error, typer.Abort):
        return ExitStatus.INTERRUPTED
    kind = "not enough memory" if isinstance(error, MemoryError) else type(error).__name__
    print(f"fluoro-reg failed unexpectedly ({kind}); fluoro-reg --debug ... shows where", file=sys.stderr)
    return ExitStatus.FAULT


def _refused(sentence: str) -> int:
    print(f"fluoro-reg: {' '.join(sentence.split())}", file=sys.stderr)
    return ExitStatus.UNUSABLE


def run() -> None:
    """The entry point."""
    sys.exit(main())


if __name__ == "__main__":
    run()
