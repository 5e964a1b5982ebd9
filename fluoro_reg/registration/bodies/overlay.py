"""The X-ray with the edges of every body at its pose, each accepted one in a colour of its own, rejected ones in grey."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.result import RegistrationResult
from fluoro_reg.rendering import make_renderer
from fluoro_reg.rendering.overlay import bone_volume, grey_levels, pose_lines
from fluoro_reg.rendering.renderer import AbstractRenderer
from fluoro_reg.xray.view import CalibratedXray

# Colours that are told apart, also by those who see no red or green (Okabe and Ito, "Color universal design", 2008).
COLOURS = ((0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167), (240, 228, 66), (213, 94, 0), (0, 114, 178))
REJECTED_COLOUR = (150, 150, 150)


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of a body, by its number in the order of the bodies; red, green and blue to 255."""
    return COLOURS[number % len(COLOURS)]


@dataclass(slots=True)
class BodiesOverlay:
    """Draws bodies; the renderer of each is made when it is first drawn."""

    bodies: Sequence[Body]
    device: str = "cpu"
    _renderers: dict[str, AbstractRenderer] = field(default_factory=dict)

    def draw(self, view: CalibratedXray, result: RegistrationResult) -> UInt8[np.ndarray, "height width 3"]:
        """Draw the bodies of a result that have a pose."""
        canvas = np.repeat(grey_levels(view.image.pixels.cpu().numpy())[..., None], 3, axis=-1)
        for number, body in enumerate(self.bodies):
            found = result.bodies[body.name]
            if found.camera_from_patient is None:
                continue
            colour = colour_of(number) if found.accepted else REJECTED_COLOUR
            pose = view.camera_from_reference @ found.camera_from_patient
            lines = pose_lines(self._renderer(number, body), pose, view.image.intrinsics)
            canvas += lines[..., None] * (np.array(colour) - canvas)
        return canvas.round().astype(np.uint8)

    def _renderer(self, number: int, body: Body) -> AbstractRenderer:
        if body.name not in self._renderers:
            volume = body.reading.renderers.volume
            self._renderers[body.name] = make_renderer(bone_volume(volume) if number == 0 else volume, self.device)
        return self._renderers[body.name]
