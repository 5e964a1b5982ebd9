"""`fluoro-reg methods`: list the registration methods and what each of them needs."""

from typing import Annotated

import typer
from rich.table import Table

from fluoro_reg.cli.common_arguments import JSON_HELP
from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.output import Output
from fluoro_reg.cli.typer_command import epilog_text

NAME = "methods"
EPILOG = epilog_text([("List the methods", "fluoro-reg methods"), ("List them as JSON", "fluoro-reg methods --json")])


def command(as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False) -> int:
    """List the registration methods.

    For each method: its name for --method, what it needs (start: an initial pose; weights: --model; similarity: --similarity),
    the devices it runs on, and a description.
    """
    from fluoro_reg.registration.method import load_methods

    rows, table = [], Table("name", "needs", "devices", "description")
    for method in load_methods().values():
        needs, devices = list(method.needs), list(method.devices)
        rows.append({"name": method.name, "needs": needs, "devices": devices, "description": method.description})
        table.add_row(method.name, ", ".join(needs), ", ".join(devices), method.description)
    Output(as_json).show({"methods": rows}, table)
    return ExitStatus.ACCEPTED
