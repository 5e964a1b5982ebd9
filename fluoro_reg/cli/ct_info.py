"""`fluoro-reg ct-info`: describe a CT without identifying the patient."""

from pathlib import Path
from typing import Annotated

import typer

from fluoro_reg.cli.common_arguments import JSON_HELP
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.input_arguments import SERIES_HELP
from fluoro_reg.cli.output import Output, key_value_table
from fluoro_reg.cli.typer_command import epilog_text

NAME = "ct-info"
EPILOG = epilog_text(
    [
        ("Describe a CT", "fluoro-reg ct-info ct/"),
        ("Describe the second of several series, as JSON", "fluoro-reg ct-info two_series/ --series 2 --json"),
    ]
)


def command(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="A folder or file of DICOM, or a NIfTI, NRRD or MHA file.")],
    series: Annotated[str | None, typer.Option(metavar="S", help=SERIES_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> int:
    """Describe a CT: geometry, voxel size, HU range, fingerprint and warnings.

    Lengths are in mm. Nothing that identifies the patient is shown. If the folder holds several series, the error message
    lists them, and --series selects one.
    """
    from fluoro_reg.ct.reader import read_ct
    from fluoro_reg.ct.summary import summarise

    output = Output(as_json)
    with output.status("reading the CT"):
        summary = summarise(read_ct(ct, series))
    output.show(summary, key_value_table(summary))
    return ExitStatus.ACCEPTED
