"""Simulated fluoroscopy: images of a CT with the physical effects that the registration's renderer omits.

    thickness of water, bone, metal -> five energies -> scatter -> blur -> automatic exposure -> collimator, shading
    -> photon noise -> electronics -> gamma -> 16 bit

The simulator shares no code with `rendering`: it has its own quadrature (`ray_sampling`), physics (`spectrum`) and a detector.
Pixel values are transmitted intensities: bone is dark, and air is saturated, as with the automatic exposure of a C-arm.

The scatter model is that of B. Ohnesorge, T. Flohr, K. Klingenbeck-Regn, Eur. Radiol. 9 (1999) 563. Its source term is -P ln P,
so that the open beam beside the patient causes no scatter.
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
from fluoro_reg.simulation.metal import Cylinder, metal_thickness_mm
from fluoro_reg.simulation.ray_sampling import SampledVolume, crop_to_body, water_and_bone_thickness_mm
from fluoro_reg.simulation.spectrum import transmitted_fraction, tube_spectrum

_FULL_SCALE = 65535
_MINIMUM_BODY_MM = 20.0  # thinner tissue counts as outside the patient
_COLLIMATOR_LEAK = 0.004


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Settings of tube, scatter, detector and electronics. Lengths are measured on the detector."""

    peak_kv: float = option(80.0, "tube voltage", unit="kV", minimum=40, maximum=140)
    scatter_fraction: float = option(0.3, "fraction of scatter in the signal within the patient", minimum=0, maximum=0.9)
    scatter_width_mm: float = option(60.0, "standard deviation of the scatter kernel", unit="mm", minimum=1, maximum=500)
    blur_mm: float = option(0.5, "standard deviation of focal spot and scintillator blur", unit="mm", minimum=0, maximum=10)
    photons: float = option(2500.0, "detected photons per pixel at the median of the patient", minimum=1)
    electronic_noise: float = option(0.002, "standard deviation of read noise, fraction of full scale", minimum=0, maximum=0.2)
    exposure: float = option(
        0.4, "signal that automatic exposure gives the median of the patient, fraction of full scale", minimum=0.01, maximum=1
    )
    offset: float = option(0.01, "dark signal, fraction of full scale", minimum=0, maximum=0.5)
    gamma: float = option(1.0, "exponent of the display curve; below 1 brightens dark regions", minimum=0.2, maximum=5)
    heel: float = option(0.1, "loss of signal from the top of the image to the bottom, a fraction", minimum=0, maximum=0.8)
    vignetting: float = option(0.1, "loss of signal from the centre to the corners, a fraction", minimum=0, maximum=0.8)
    collimator: str = option("none", "shape of the collimated field", choices=("none", "rectangle", "circle"))
    collimator_opening: float = option(0.9, "size of the collimated field relative to the image", minimum=0.2, maximum=1.5)


class XraySimulator:
    """Simulates X-rays of one CT. The cropped CT and the spectrum are computed once for all images."""

    def __init__(self, volume: CTVolume, options: SimulationOptions) -> None:
        self._volume: SampledVolume = crop_to_body(volume)
        self._options = options
        self._spectrum = tube_spectrum(options.peak_kv)

    def image(
        self,
        camera_from_patient: RigidTransform,
        intrinsics: CameraIntrinsics,
        generator: torch.Generator,
        tools: tuple[Cylinder, ...] = (),
    ) -> UInt16[np.ndarray, "height width"]:
        """Return one X-ray, with `tools` added to the anatomy; `generator` gives its noise."""
        water, bone = water_and_bone_thickness_mm(self._volume, camera_from_patient, intrinsics)
        metal = metal_thickness_mm(tools, camera_from_patient, intrinsics)
        primary = transmitted_fraction(self._spectrum, {"water": water, "bone": bone, **metal}).astype(np.float32)
        return detector_image(primary, water + bone > _MINIMUM_BODY_MM, intrinsics, self._options, generator)


def simulate_xray(
    volume: CTVolume,
    camera_from_patient: RigidTransform,
    intrinsics: CameraIntrinsics,
    options: SimulationOptions,
    generator: torch.Generator,
    tools: tuple[Cylinder, ...] = (),
) -> UInt16[np.ndarray, "height width"]:
    """Return one X-ray. For several X-rays of one CT, use an `XraySimulator`."""
    return XraySimulator(volume, options).image(camera_from_patient, intrinsics, generator, tools)


def blank_xray(
    intrinsics: CameraIntrinsics, options: SimulationOptions, generator: torch.Generator, beam_on: bool
) -> UInt16[np.ndarray, "height width"]:
    """Return an image without a patient: uniform grey of the open beam, or the dark signal with the beam off."""
    size = (intrinsics.height, intrinsics.width)
    primary = np.full(size, 1.0 if beam_on else 0.0, np.float32)
    return detector_image(primary, np.full(size, beam_on), intrinsics, options, generator)


def detector_image(
    primary: Float32[np.ndarray, "height width"],
    body: "np.ndarray",
    intrinsics: CameraIntrinsics,
    options: SimulationOptions,
    generator: torch.Generator,
) -> UInt16[np.ndarray, "height width"]:
    """Return the grey values that the detector gives for a transmitted beam.

    Args:
        primary: Transmitted fraction of the open beam.
        body: The pixels within the patient, whose median signal sets the automatic exposure.
        intrinsics: Camera, whose pixel size scales scatter and blur.
        options: Scatter, detector and electronics.
        generator: Random generator of the noise.
    """
    pixel_mm = (intrinsics.source_to_detector_mm or intrinsics.fx) / intrinsics.fx
    signal = primary + _scatter(primary, body, options, pixel_mm)
    if options.blur_mm > 0:
        signal = gaussian_filter(signal, options.blur_mm / pixel_mm, mode="nearest")
    reference = float(np.median(signal[body])) if body.any() else 1.0
    relative = torch.from_numpy(signal / max(reference, 1e-9)) * _beam_profile(intrinsics, options)
    counted = torch.poisson(relative * options.photons, generator=generator) / options.photons
    noise = options.electronic_noise * torch.randn(relative.shape, generator=generator)
    level = (options.exposure * counted + noise).clamp(0, 1) ** options.gamma
    grey = options.offset + (1 - options.offset) * level
    return (grey * _FULL_SCALE).round().numpy().astype(np.uint16)


def _scatter(primary: np.ndarray, body: np.ndarray, options: SimulationOptions, pixel_mm: float) -> np.ndarray:
    source = -primary * np.log(np.maximum(primary, 1e-12))
    spread = gaussian_filter(source, options.scatter_width_mm / pixel_mm, mode="nearest")
    if not body.any() or spread.max() <= 0:
        return np.zeros_like(primary)
    ratio = options.scatter_fraction / (1 - options.scatter_fraction)
    return spread * np.float32(ratio * np.median(primary[body]) / np.median(spread[body]))


def _beam_profile(intrinsics: CameraIntrinsics, options: SimulationOptions) -> Float[Tensor, "height width"]:
    """Return the relative intensity over the image, from heel effect, vignetting and collimator."""
    y = torch.linspace(-1, 1, intrinsics.height)[:, None]
    x = torch.linspace(-1, 1, intrinsics.width)[None, :]
    shading = (1 - options.heel * (y + 1) / 2) * (1 - options.vignetting * (x * x + y * y) / 2)
    radius = {"none": torch.zeros_like(shading), "rectangle": torch.maximum(x.abs(), y.abs()), "circle": (x * x + y * y).sqrt()}
    is_open = radius[options.collimator] <= options.collimator_opening
    return shading * torch.where(is_open, 1.0, _COLLIMATOR_LEAK)
