"""Registration of several bodies: the text that `fluoro-reg register --bodies` prints."""

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from fluoro_reg.registration import RegistrationResult


def bodies_table(result: "RegistrationResult") -> Table:
    """One row for each body."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("body", "", "similarity", "reason"):
        table.add_column(title, overflow="fold")
    for name, body in result.bodies.items():
        verdict = "[green]accepted[/green]" if body.accepted else "[red]rejected[/red]"
        similarity = "" if body.similarity is None else f"{body.similarity:.3f}"
        table.add_row(escape(name), verdict, similarity, escape(body.reason))
    return table
