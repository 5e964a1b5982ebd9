"""`fluoro-reg methods`: which named methods there are, and what each of them needs."""

from typing import Annotated

import typer
from rich.table import Table

from fluoro_reg.cli.exit_status import ExitStatus
from fluoro_reg.cli.output import Output

NAME = "methods"
EXAMPLES = "Example:\n\n$ fluoro-reg methods --json"


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")] = False,
) -> int:
    """List the named registration methods: name, what each needs (start, weights, similarity), devices, description."""
    from fluoro_reg.registration.method import load_methods

    rows, table = [], Table("name", "needs", "devices", "description")
    for method in load_methods().values():
        needs, devices = list(method.needs), list(method.devices)
        rows.append({"name": method.name, "needs": needs, "devices": devices, "description": method.description})
        table.add_row(method.name, ", ".join(needs), ", ".join(devices), method.description)
    Output(as_json).show({"methods": rows}, table)
    return ExitStatus.ACCEPTED
