"""Line integrals through a CT and their derivatives: the renderers, and projection of a CT for a pose and a camera."""

import importlib.util

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
    """Return the fastest backend for a device with the requested capabilities.

    Args:
        volume: the CT.
        device: `cpu`, `cuda` or `auto`, see `resolve_device`.
        volume_gradient: images must be differentiable with respect to the volume.
        double_backward: images must be differentiable twice.

    Raises:
        InputError: an unknown device, `cuda` without a CUDA device, or no Triton.
    """
    device = resolve_device(device)
    fastest = NumbaRenderer if device == "cpu" else TritonRenderer
    capabilities = fastest.capabilities
    if volume_gradient > capabilities.volume_gradient or double_backward > capabilities.double_backward:
        return TorchRenderer(volume, device)
    return fastest(volume)


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda` for a device option.

    `auto` is the fastest device: `cuda` if torch finds a CUDA device and Triton is installed, else `cpu`.

    Raises:
        InputError: an unknown device, or `cuda` without a CUDA device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() and importlib.util.find_spec("triton") is not None else "cpu"
    if device not in ("cpu", "cuda"):
        raise InputError(f"the device must be one of cpu, cuda, auto, got '{device}'")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device was found; use --device cpu, or install a driver and a CUDA build of torch")
    return device


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
