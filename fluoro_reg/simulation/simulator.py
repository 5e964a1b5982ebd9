"""Simulated fluoroscopy: images of a CT with the physical effects that the registration's renderer omits.

    thickness of water, bone, metal, couch -> five energies -> scatter -> blur -> automatic exposure -> collimator, shading
    -> photon noise -> electronics, clipping -> logarithm -> gamma -> 16 bit

The simulator shares no code with `rendering`: it has its own quadrature (`ray_sampling`), physics (`spectrum`) and a detector.
Pixel values are transmitted intensities: bone is dark, and air is saturated, as with the automatic exposure of a C-arm. They
can also be stored as attenuation, the negative logarithm of the intensities over two decades.

The scatter model is that of B. Ohnesorge, T. Flohr, K. Klingenbeck-Regn, Eur. Radiol. 9 (1999) 563. Its source term is -P ln P,
so that the open beam beside the patient causes no scatter.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float32, UInt16
from scipy.ndimage import gaussian_filter

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.simulation.beam_profile import beam_profile
from fluoro_reg.simulation.body import body_box
from fluoro_reg.simulation.couch import couch_boxes, couch_water_mm
from fluoro_reg.simulation.metal import Cylinder, metal_thickness_mm
from fluoro_reg.simulation.moved_bodies import MovableBodies
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.ray_sampling import SampledVolume, crop_to_body, water_and_bone_thickness_mm
from fluoro_reg.simulation.spectrum import transmitted_fraction, tube_spectrum
from fluoro_reg.xray.image import Intensity

_FULL_SCALE = 65535
_MINIMUM_BODY_MM = 20.0  # thinner tissue counts as outside the patient
_DECADES = 2.0  # range of the logarithm that is stored as attenuation


class XraySimulator:
    """Simulates X-rays of one CT. The cropped CT and the spectrum are computed once for all images."""

    def __init__(self, volume: CTVolume, options: SimulationOptions) -> None:
        self._ct = volume
        self._volume: SampledVolume = crop_to_body(volume)
        self._set_options(options)

    def with_options(self, options: SimulationOptions) -> "XraySimulator":
        """Return a simulator of the same CT with other options, without computing the cropped CT again."""
        other = copy.copy(self)
        other._set_options(options)
        return other

    def _set_options(self, options: SimulationOptions) -> None:
        self._options = options
        self._spectrum = tube_spectrum(options.peak_kv)
        self._couch = couch_boxes(body_box(self._ct), options) if options.couch_width_mm > 0 else ()

    def image(
        self,
        camera_from_patient: RigidTransform,
        intrinsics: CameraIntrinsics,
        generator: torch.Generator,
        tools: tuple[Cylinder, ...] = (),
        moved: tuple[MovableBodies, Mapping[str, RigidTransform]] | None = None,
    ) -> UInt16[np.ndarray, "height width"]:
        """Return one X-ray, with `tools` added to the anatomy; `generator` gives its noise.

        `moved` are the bones of the CT, and `camera_from_patient` of those that have moved.
        """
        if moved is None:
            water, bone = water_and_bone_thickness_mm(self._volume, camera_from_patient, intrinsics)
        else:
            bodies, poses = moved
            water, bone = bodies.water_and_bone_thickness_mm(camera_from_patient, poses, intrinsics)
        body = water + bone > _MINIMUM_BODY_MM
        if self._couch:
            water = water + couch_water_mm(self._couch, camera_from_patient, intrinsics).astype(np.float32)
        metal = metal_thickness_mm(tools, camera_from_patient, intrinsics)
        primary = transmitted_fraction(self._spectrum, {"water": water, "bone": bone, **metal}).astype(np.float32)
        return detector_image(primary, body, intrinsics, self._options, generator)


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
    relative = torch.from_numpy(signal / max(reference, 1e-9)) * beam_profile(intrinsics, options)
    counted = torch.poisson(relative * options.photons, generator=generator) / options.photons
    noise = options.electronic_noise * torch.randn(relative.shape, generator=generator)
    exposure = max(options.exposure, options.air_signal * reference)
    signal_level = (exposure * counted + noise).clamp(0, 1)
    if options.polarity == Intensity.ATTENUATION.value:
        signal_level = -signal_level.clamp_min(10**-_DECADES).log10() / _DECADES
    level = signal_level**options.gamma
    grey = options.offset + (1 - options.offset) * level
    return (grey * _FULL_SCALE).round().numpy().astype(np.uint16)


def _scatter(primary: np.ndarray, body: np.ndarray, options: SimulationOptions, pixel_mm: float) -> np.ndarray:
    source = -primary * np.log(np.maximum(primary, 1e-12))
    spread = gaussian_filter(source, options.scatter_width_mm / pixel_mm, mode="nearest")
    if not body.any() or spread.max() <= 0:
        return np.zeros_like(primary)
    ratio = options.scatter_fraction / (1 - options.scatter_fraction)
    return spread * np.float32(ratio * np.median(primary[body]) / np.median(spread[body]))
