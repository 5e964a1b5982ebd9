"""Images for visual checks: a DRR of the CT, and the X-ray with the edges of the bones drawn on it."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import UInt8

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.registration.bodies.body import Body
from fluoro_reg.registration.bodies.overlay import BodiesOverlay
from fluoro_reg.registration.result import RegistrationResult
from fluoro_reg.rendering import AbstractRenderer, make_renderer, project
from fluoro_reg.rendering.overlay import bone_volume, overlay
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.view import CalibratedXray


class DebugImageRenderer:
    """Render debug images of accepted results on demand; each renderer is made when its first image is requested.

    `bodies` are those with poses of their own, of which the accepted ones are shown; none where the CT is one body.
    """

    def __init__(self, volume: CTVolume, device: str, bodies: tuple[Body, ...] = ()) -> None:
        self.volume = volume
        self.bodies = bodies
        self._device = device
        self._renderers: dict[str, AbstractRenderer] = {}
        self._bone_renderer: AbstractRenderer | None = None
        self._bodies_overlay = BodiesOverlay(bodies, device)

    def drr(self, xray: XrayImage, result: RegistrationResult) -> UInt8[np.ndarray, "height width"]:
        """Return the DRR of the CT at a pose, bone dark, stretched over the full grey range."""
        integrals = [project(renderer, pose, xray.intrinsics) for renderer, pose in self._shown(result)]
        transmitted = torch.exp(-torch.stack(integrals).sum(0))
        low, high = transmitted.amin(), transmitted.amax()
        grey = (transmitted - low) / (high - low).clamp_min(1e-6) * 255
        return grey.round().to("cpu", torch.uint8).numpy()

    def overlay(self, xray: XrayImage, result: RegistrationResult) -> UInt8[np.ndarray, "height width 3"]:
        """Return the X-ray with the edges of the CT's bones at a pose, in RGB; every body has a colour of its own."""
        if self.bodies:
            return self._bodies_overlay.draw(CalibratedXray(xray, RigidTransform.identity()), result)
        assert result.camera_from_patient is not None  # or it would not be accepted
        self._bone_renderer = self._bone_renderer or make_renderer(bone_volume(self.volume), self._device)
        return overlay(xray.pixels, self._bone_renderer, result.camera_from_patient, xray.intrinsics)

    def _shown(self, result: RegistrationResult) -> Iterator[tuple[AbstractRenderer, RigidTransform]]:
        """The CT, or every accepted body, with its pose."""
        volumes = {body.name: body.reading.renderers.volume for body in self.bodies} or {"": self.volume}
        for name, volume in volumes.items():
            found = result.bodies[name] if name else result
            if found.accepted and found.camera_from_patient is not None:
                if name not in self._renderers:
                    self._renderers[name] = make_renderer(volume, self._device)
                yield self._renderers[name], found.camera_from_patient
