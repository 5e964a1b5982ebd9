"""Simulated fluoroscopy: what a detector would show of a CT, with all that a registration's renderer leaves out.

    thickness of water, bone, metal -> five energies -> scatter -> blur -> automatic exposure -> collimator, shading
    -> photon noise -> electronics -> gamma -> 16 bit

It shares no code with `rendering`: another quadrature (`ray_sampling`), another physics (`spectrum`), a detector. The numbers
are transmitted intensities: bone is dark, air saturates, as a C-arm's automatic exposure leaves it.

Scatter is the object's own (B. Ohnesorge, T. Flohr, K. Klingenbeck-Regn, Eur. Radiol. 9 (1999) 563): its source is -P ln P, so
that the open beam beside a patient scatters nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt16
from scipy.ndimage import gaussian_filter
from torch import Tensor

from fluoro_reg.config import option
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.simulation.metal import Cylinder, metal_mm
from fluoro_reg.simulation.ray_sampling import SampledVolume, sampled_volume, water_and_bone_mm
from fluoro_reg.simulation.spectrum import transmitted_fraction, tube_spectrum

_WHITE = 65535
_BODY_MM = 20.0  # thinner than this counts as beside the patient
_COLLIMATOR_LEAK = 0.004


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """One setting of tube, scatter, detector and electronics. Lengths are on the detector."""

    peak_kv: float = option(80.0, "tube voltage", unit="kV", minimum=40, maximum=140)
    scatter_fraction: float = option(0.3, "share of scatter in the signal behind the patient", minimum=0, maximum=0.9)
    scatter_width_mm: float = option(60.0, "standard deviation of the scatter's kernel", unit="mm", minimum=1, maximum=500)
    blur_mm: float = option(0.5, "standard deviation of focal spot and scintillator together", unit="mm", minimum=0, maximum=10)
    photons: float = option(2500.0, "detected photons in a pixel in the middle of the patient", minimum=1)
    electronic_noise: float = option(0.002, "standard deviation of read noise, of full scale", minimum=0, maximum=0.2)
    exposure: float = option(0.4, "full scale that automatic exposure gives the middle of the patient", minimum=0.01, maximum=1)
    offset: float = option(0.01, "dark signal, of full scale", minimum=0, maximum=0.5)
    gamma: float = option(1.0, "exponent of the display curve; below 1 lifts the shadows", minimum=0.2, maximum=5)
    heel: float = option(0.1, "loss of signal from the image's top to its bottom", minimum=0, maximum=0.8)
    vignetting: float = option(0.1, "loss of signal from the centre to the corners", minimum=0, maximum=0.8)
    collimator: str = option("none", "shape of the collimated field", choices=("none", "rectangle", "circle"))
    collimator_opening: float = option(0.9, "size of the collimated field relative to the image", minimum=0.2, maximum=1.5)


class XraySimulator:
    """Simulated X-rays of one CT; keeps what all its frames share."""

    def __init__(self, volume: CTVolume, options: SimulationOptions) -> None:
        self._volume: SampledVolume = sampled_volume(volume)
        self._options = options
        self._spectrum = tube_spectrum(options.peak_kv)

    def image(
        self,
        camera_from_patient: RigidTransform,
        intrinsics: CameraIntrinsics,
        generator: torch.Generator,
        tools: tuple[Cylinder, ...] = (),
    ) -> UInt16[np.ndarray, "height width"]:
        """One frame."""
        water, bone = water_and_bone_mm(self._volume, camera_from_patient, intrinsics)
        metal = metal_mm(tools, camera_from_patient, intrinsics)
        primary = transmitted_fraction(self._spectrum, {"water": water, "bone": bone, **metal}).astype(np.float32)
        return detected(primary, water + bone > _BODY_MM, intrinsics, self._options, generator)


def simulate_xray(
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    options: SimulationOptions,
    generator: torch.Generator,
    tools: tuple[Cylinder, ...] = (),
) -> UInt16[np.ndarray, "height width"]:
    """One X-ray; for many of one CT keep an `XraySimulator`."""
    return XraySimulator(volume, options).image(camera_from_patient, intrinsics, generator, tools)


def blank_xray(
    intrinsics: CameraIntrinsics, options: SimulationOptions, generator: torch.Generator, beam_on: bool
) -> UInt16[np.ndarray, "height width"]:
    """A frame with nobody in it: the open beam's even grey, or the dark signal when the beam is off."""
    size = (intrinsics.height, intrinsics.width)
    primary = np.full(size, 1.0 if beam_on else 0.0, np.float32)
    return detected(primary, np.full(size, beam_on), intrinsics, options, generator)


def detected(
    primary: Float32[np.ndarray, "height width"],
    body: "np.ndarray",
    intrinsics: CameraIntrinsics,
    options: SimulationOptions,
    generator: torch.Generator,
) -> UInt16[np.ndarray, "height width"]:
    """From the share of the open beam to grey values. Automatic exposure is set by the median behind `body`."""
    pixel_mm = (intrinsics.source_to_detector_mm or intrinsics.fx) / intrinsics.fx
    signal = primary + _scatter(primary, body, options, pixel_mm)
    if options.blur_mm > 0:
        signal = gaussian_filter(signal, options.blur_mm / pixel_mm, mode="nearest")
    reference = float(np.median(signal[body])) if body.any() else 1.0
    relative = torch.from_numpy(signal / max(reference, 1e-9)) * _field(intrinsics, options)
    counted = torch.poisson(relative * options.photons, generator=generator) / options.photons
    noise = options.electronic_noise * torch.randn(relative.shape, generator=generator)
    level = (options.exposure * counted + noise).clamp(0, 1) ** options.gamma
    grey = options.offset + (1 - options.offset) * level
    return (grey * _WHITE).round().numpy().astype(np.uint16)


def _scatter(primary: np.ndarray, body: np.ndarray, options: SimulationOptions, pixel_mm: float) -> np.ndarray:
    source = -primary * np.log(np.maximum(primary, 1e-12))
    spread = gaussian_filter(source, options.scatter_width_mm / pixel_mm, mode="nearest")
    if not body.any() or spread.max() <= 0:
        return np.zeros_like(primary)
    ratio = options.scatter_fraction / (1 - options.scatter_fraction)
    return spread * np.float32(ratio * np.median(primary[body]) / np.median(spread[body]))


def _field(intrinsics: CameraIntrinsics, options: SimulationOptions) -> Float[Tensor, "height width"]:
    """Heel effect, vignetting and the collimator's opening, over the image."""
    y = torch.linspace(-1, 1, intrinsics.height)[:, None]
    x = torch.linspace(-1, 1, intrinsics.width)[None, :]
    shading = (1 - options.heel * (y + 1) / 2) * (1 - options.vignetting * (x * x + y * y) / 2)
    reach = {"none": torch.zeros_like(shading), "rectangle": torch.maximum(x.abs(), y.abs()), "circle": (x * x + y * y).sqrt()}
    is_open = reach[options.collimator] <= options.collimator_opening
    return shading * torch.where(is_open, 1.0, _COLLIMATOR_LEAK)
