"""Line integrals through a CT and their derivatives: the contract, its backends, and the glue to poses and cameras."""

import torch

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.rendering.backends.numba.renderer import NumbaRenderer
from fluoro_reg.rendering.backends.reference import TorchRenderer
from fluoro_reg.rendering.backends.triton.renderer import TritonRenderer
from fluoro_reg.rendering.features.projector import project_features_with_jacobian
from fluoro_reg.rendering.features.spatial_transformer import project_features
from fluoro_reg.rendering.projection import project, project_with_jacobian
from fluoro_reg.rendering.renderer import AbstractRenderer, Capabilities, Rays, RayTangents

RENDERERS: dict[str, type[AbstractRenderer]] = {"numba": NumbaRenderer, "torch": TorchRenderer, "triton": TritonRenderer}


def make_renderer(
    volume: CTVolume, device: str = "auto", *, volume_gradient: bool = False, double_backward: bool = False
) -> AbstractRenderer:
    """The fastest backend of a device that can do what is asked: numba or Triton, or the reference where they cannot.

    Raises:
        InputError: an unknown device, `cuda` where there is none, or no Triton.
    """
    device = resolve_device(device)
    fastest = NumbaRenderer if device == "cpu" else TritonRenderer
    able = fastest.capabilities
    if volume_gradient > able.volume_gradient or double_backward > able.double_backward:
        return TorchRenderer(volume, device)
    return fastest(volume)


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`: what `make_renderer` takes for a device; `auto` is the CPU, whose backend is the fastest there is.

    Raises:
        InputError: an unknown device, or `cuda` where there is none.
    """
    if device in ("cpu", "auto"):
        return "cpu"
    if device != "cuda":
        raise InputError(f"the device must be one of cpu, cuda, auto, got '{device}'")
    if not torch.cuda.is_available():
        raise InputError("no CUDA device was found; use --device cpu, or install a driver and a CUDA build of torch")
    return "cuda"


__all__ = [
    "RENDERERS",
    "AbstractRenderer",
    "Capabilities",
    "NumbaRenderer",
    "RayTangents",
    "Rays",
    "TorchRenderer",
    "TritonRenderer",
    "make_renderer",
    "project",
    "project_features",
    "project_features_with_jacobian",
    "project_with_jacobian",
    "resolve_device",
]
