"""X-rays that must not be believed, and X-rays that are hard but true: what the frames of `adversarial.py` show.

A kind is WRONG if no pose of the CT explains the image: whatever is accepted there is a false acceptance. The images of the
other kinds show the patient at the pose at which they were simulated.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.phantom.model import PhantomOptions, phantom_volume
from fluoro_reg.simulation.simulator import XraySimulator, blank_xray
from fluoro_reg.simulation.variants import CASE_VARIANTS, TRUNCATED, options_for_variant, tools_for_variant

CLEAN = "clean"
MACHINE = SimulationOptions()
OTHER_PATIENT = PhantomOptions(seed=7, sex="male", scale=0.88)
SHUFFLED_PX = 32  # side of the patches
FULL_SCALE = 65535


@dataclass(slots=True)
class Patient:
    """A CT that is registered, and what is needed to make images of it and of somebody else."""

    name: str
    volume: CTVolume
    camera: CameraIntrinsics
    targets: torch.Tensor
    generator: torch.Generator
    other: CTVolume
    simulator: XraySimulator = field(init=False)
    stranger: XraySimulator = field(init=False)

    def __post_init__(self) -> None:
        self.simulator, self.stranger = XraySimulator(self.volume, MACHINE), XraySimulator(self.other, MACHINE)

    def simulate(self, pose: RigidTransform, options: SimulationOptions = MACHINE, tools: tuple = ()) -> np.ndarray:
        return self.simulator.with_options(options).image(pose, self.camera, self.generator, tools)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * torch.rand(1, generator=self.generator).item()

    def below(self, n: int) -> int:
        return int(torch.randint(n, (1,), generator=self.generator))


def _other_patient(patient: Patient, pose: RigidTransform) -> np.ndarray:
    """Somebody else whose CT's centre is where the patient's would be."""
    centre = pose.apply(patient.volume.centre_patient[None])[0]
    there = RigidTransform(pose.rotation, centre - pose.rotation @ patient.other.centre_patient)
    return patient.stranger.image(there, patient.camera, patient.generator)


def _mirrored(axis: int) -> Callable[[Patient, RigidTransform], np.ndarray]:
    return lambda patient, pose: np.flip(patient.simulate(pose), axis).copy()


def _turned(patient: Patient, pose: RigidTransform) -> np.ndarray:
    return np.rot90(patient.simulate(pose), 1 + 2 * patient.below(2)).copy()


def _shuffled(patient: Patient, pose: RigidTransform) -> np.ndarray:
    """Every patch is real, and none is where it should be."""
    image = patient.simulate(pose)
    n = image.shape[0] // SHUFFLED_PX
    tiles = image.reshape(n, SHUFFLED_PX, n, SHUFFLED_PX).swapaxes(1, 2).reshape(-1, SHUFFLED_PX, SHUFFLED_PX)
    tiles = tiles[torch.randperm(len(tiles), generator=patient.generator).numpy()]
    return tiles.reshape(n, n, SHUFFLED_PX, SHUFFLED_PX).swapaxes(1, 2).reshape(image.shape).copy()


def _blank(patient: Patient, pose: RigidTransform) -> np.ndarray:
    return blank_xray(patient.camera, MACHINE, patient.generator, beam_on=patient.below(2) == 1)


def _noise(patient: Patient, pose: RigidTransform) -> np.ndarray:
    """An image with the power spectrum of the patient and random phases."""
    image = patient.simulate(pose).astype(np.float64)
    phases = np.angle(np.fft.rfft2(torch.randn(image.shape, generator=patient.generator).numpy()))
    mixed = np.fft.irfft2(np.abs(np.fft.rfft2(image - image.mean())) * np.exp(1j * phases), s=image.shape) + image.mean()
    return mixed.clip(0, FULL_SCALE).astype(np.uint16)


def _variant(name: str) -> Callable[[Patient, RigidTransform], np.ndarray]:
    def image(patient: Patient, pose: RigidTransform) -> np.ndarray:
        tools = tools_for_variant(name, patient.targets, patient.generator)
        return patient.simulate(pose, options_for_variant(name, patient.generator), tools)

    return image


def _low_dose(patient: Patient, pose: RigidTransform) -> np.ndarray:
    return patient.simulate(pose, replace(MACHINE, photons=patient.uniform(40.0, 300.0), electronic_noise=0.01))


def _saturated(patient: Patient, pose: RigidTransform) -> np.ndarray:
    return (patient.simulate(pose).astype(np.float64) * patient.uniform(1.5, 3.5)).clip(0, FULL_SCALE).astype(np.uint16)


def _covered(patient: Patient, pose: RigidTransform) -> np.ndarray:
    """A part of the image from one side is dark, as behind a shutter that the header does not state."""
    image, side = patient.simulate(pose), patient.below(4)
    turned = np.rot90(image, side).copy()
    turned[: int(patient.uniform(0.2, 0.6) * len(turned))] //= 50
    return np.rot90(turned, -side).copy()


Maker = Callable[[Patient, RigidTransform], np.ndarray]
WRONG: dict[str, Maker] = {
    "other patient": _other_patient,
    "mirrored left-right": _mirrored(1),
    "mirrored top-bottom": _mirrored(0),
    "turned by 90 degrees": _turned,
    "shuffled patches": _shuffled,
    "random phases": _noise,
    "blank": _blank,
}
HARD: dict[str, Maker] = {
    **{name: _variant(name) for name in CASE_VARIANTS if name not in (TRUNCATED, "standard", "attenuation")},
    "low dose": _low_dose,
    "saturated": _saturated,
    "partly covered": _covered,
}
KINDS: dict[str, Maker] = {CLEAN: lambda patient, pose: patient.simulate(pose), **HARD, **WRONG}


def phantom() -> CTVolume:
    return phantom_volume(PhantomOptions())


def stranger() -> CTVolume:
    return phantom_volume(OTHER_PATIENT)
