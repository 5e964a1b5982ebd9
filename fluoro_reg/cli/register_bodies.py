"""Registration of several bodies: the text that `fluoro-reg register --bodies` prints, and its overlay."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from fluoro_reg.registration.bodies.body import Body
    from fluoro_reg.registration.bodies.registrar import BodiesResult
    from fluoro_reg.xray.view import CalibratedXray

# Colours that are told apart, also by those who see no red or green (Okabe and Ito, "Color universal design", 2008).
COLOURS = ((0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178))
REJECTED_COLOUR = (150, 150, 150)


def bodies_table(result: "BodiesResult") -> Table:
    """One row for each body."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("body", "", "similarity", "reason"):
        table.add_column(title, overflow="fold")
    for name, body in result.bodies.items():
        verdict = "[green]accepted[/green]" if body.accepted else "[red]rejected[/red]"
        similarity = "" if body.similarity is None else f"{body.similarity:.3f}"
        table.add_row(escape(name), verdict, similarity, escape(body.reason))
    return table


def bodies_overlay(
    view: "CalibratedXray", bodies: "Sequence[Body]", result: "BodiesResult"
) -> "UInt8[np.ndarray, 'height width 3']":
    """The X-ray with the edges of every body at its pose, each accepted one in a colour of its own, rejected ones in grey."""
    import numpy as np

    from fluoro_reg.rendering import make_renderer
    from fluoro_reg.rendering.overlay import bone_volume, grey_levels, pose_lines

    canvas = np.repeat(grey_levels(view.image.pixels.cpu().numpy())[..., None], 3, axis=-1)
    for number, body in enumerate(bodies):
        found = result.bodies[body.name]
        if found.camera_from_patient is None:
            continue
        colour = COLOURS[number % len(COLOURS)] if found.accepted else REJECTED_COLOUR
        volume = body.reading.renderers.volume
        renderer = make_renderer(bone_volume(volume) if number == 0 else volume, "cpu")
        pose = view.camera_from_reference @ found.camera_from_patient
        canvas += pose_lines(renderer, pose, view.image.intrinsics)[..., None] * (np.array(colour) - canvas)
    return canvas.round().astype(np.uint8)
