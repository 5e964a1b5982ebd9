"""`fluoro-reg ct-info`: what a registration will see of a CT, and nothing that identifies a person."""

from pathlib import Path
from typing import Annotated

import typer

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.inputs import SERIES_HELP
from fluoro_reg.cli.output import Output, table_of

NAME = "ct-info"
EXAMPLES = "Example:\n\n$ fluoro-reg ct-info ct_folder\n\n$ fluoro-reg ct-info two_series --series 2 --json"


def command(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="A folder or file of DICOM, or a NIfTI, NRRD or MHA file.")],
    series: Annotated[str | None, typer.Option(metavar="S", help=SERIES_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")] = False,
) -> int:
    """Show a CT's geometry (mm), spacing, HU range, fingerprint and warnings; nothing that identifies a person."""
    from fluoro_reg.ct.reader import read_ct
    from fluoro_reg.ct.summary import summarise

    output = Output(as_json)
    with output.doing("reading the CT"):
        summary = summarise(read_ct(ct, series))
    output.show(summary, table_of(summary))
    return ExitStatus.ACCEPTED
