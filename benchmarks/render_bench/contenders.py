"""The contenders: all backends of this project for a device, and the peers that are installed.

All take poses in float64 and return images on their device. `images` is differentiable with respect to the poses for every
contender. Only this project's backends compute the whole H x W x 6 Jacobian; the peers need one backward pass per pixel for it.
"""

import importlib
import importlib.util
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import RigidTransform, retract
from fluoro_reg.rendering import RENDERERS, AbstractRenderer, project, project_with_jacobian
from render_bench.oracle import in_camera_axes
from render_bench.scene import Scene


class Contender(ABC):
    """A renderer, set up for one scene on one device."""

    has_jacobian = False

    def __init__(self, scene: Scene, device: str) -> None:
        self.scene = scene
        self.device = device

    @abstractmethod
    def images(self, camera_from_patient: RigidTransform) -> Float[Tensor, "batch height width"]:
        """Return line integrals for a batch of poses."""

    def derivatives(self, pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 6"]:
        """Return derivatives of pixels with respect to a twist, in the camera's axes, with one backward pass per pixel."""
        twist = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
        image = self.images(retract(self.scene.poses(1), twist, self.scene.pivot))[0]
        values = [image[v, u] for u, v in pixels.long().tolist()]
        rows = [torch.autograd.grad(value, twist, retain_graph=True)[0][0] for value in values]
        return in_camera_axes(self.scene, torch.stack(rows))


class Ours(Contender):
    """A backend of this project."""

    has_jacobian = True

    def __init__(self, scene: Scene, device: str, renderer: AbstractRenderer) -> None:
        super().__init__(scene, device)
        self.renderer = renderer

    def images(self, camera_from_patient: RigidTransform) -> Float[Tensor, "batch height width"]:
        return project(self.renderer, camera_from_patient, self.scene.camera)

    def images_and_jacobians(self, camera_from_patient: RigidTransform) -> tuple[Tensor, Tensor]:
        """Return images (batch, height, width) and Jacobians (batch, height, width, 6)."""
        return project_with_jacobian(self.renderer, camera_from_patient, self.scene.camera, self.scene.pivot)

    def derivatives(self, pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 6"]:
        u, v = pixels.long().unbind(-1)
        _, jacobian = self.images_and_jacobians(self.scene.camera_from_patient)
        return in_camera_axes(self.scene, jacobian.cpu().double()[v, u])


def make_renderer(backend: type[AbstractRenderer], scene: Scene, device: str, **options: Any) -> AbstractRenderer:
    """Return a backend on a device, ignoring options that its constructor does not have."""
    parameters = inspect.signature(backend).parameters
    return backend(scene.volume, **{name: value for name, value in {"device": device, **options}.items() if name in parameters})


def backends(device: str) -> dict[str, type[AbstractRenderer]]:
    """Return this project's backends for a device."""
    return {name: backend for name, backend in RENDERERS.items() if device in backend.capabilities.devices}


# The contenders of each peer library, with their classes in the library's module of this folder.
PEERS = {
    "nanodrr": {"nanodrr": "Nanodrr"},
    "diffdrr": {"diffdrr-trilinear": "DiffdrrTrilinear", "diffdrr-siddon": "DiffdrrSiddon"},
}
PEER_PACKAGES = ("nanodrr", "diffdrr", "torchio")


def contenders(device: str, peers: list[str], step_voxels: float = 1.0) -> dict[str, Callable[[Scene], Contender]]:
    """Return functions that set up each contender for a scene; samples of peers are at most `step_voxels` apart."""
    makers: dict[str, Callable[[Scene], Contender]] = {}
    for name, backend in backends(device).items():
        makers[f"ours-{name}"] = partial(_make_ours, backend=backend, device=device)
    for library in peers:
        for name, class_name in PEERS[library].items():
            settings = {"class_name": class_name, "device": device, "step_voxels": step_voxels}
            makers[name] = partial(_make_peer, library=library, **settings)
    return makers


def installed_peers() -> list[str]:
    return [library for library in PEERS if importlib.util.find_spec(library)]


def _make_ours(scene: Scene, backend: type[AbstractRenderer], device: str) -> Contender:
    return Ours(scene, device, make_renderer(backend, scene, device))


def _make_peer(scene: Scene, library: str, class_name: str, device: str, step_voxels: float) -> Contender:
    module = importlib.import_module(f"render_bench.{library}_peer")
    return getattr(module, class_name)(scene, device, step_voxels)
