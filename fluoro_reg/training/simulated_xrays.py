"""X-rays of the simulator as a network's input, for validation: they share no code with the X-rays of the training.

Each X-ray is of another variant of the simulated machine, and is read and preprocessed as in a registration. An X-ray shows a
patient, not a CT: a CT of bone alone is surrounded by flesh, and every second X-ray of a cut CT shows a body that goes on.

An X-ray takes ten times as long as a degraded projection. So they are made in threads while the training takes its first steps,
and a training that ends before they are all made is validated with some of them.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.carm.aim import axis_along_body, bone_points
from fluoro_reg.ct.attenuation import attenuation_of_tissue
from fluoro_reg.ct.bone import lacks_soft_tissue, tissue_beyond
from fluoro_reg.ct.hu_thresholds import SOFT_TISSUE_HU
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.networks.image_input import input_from_xray
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.simulation.options import SimulationOptions
from fluoro_reg.simulation.simulator import XraySimulator
from fluoro_reg.simulation.variants import VARIANTS, options_for_variant, tools_for_variant
from fluoro_reg.xray.image import Intensity, XrayImage
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess

_MINIMUM_PX = 96  # of an X-ray: fewer are too few to find collimators and clipped regions
_BINNING = 2  # pixels of an X-ray across one of the network
_TOOL_TARGETS = 100
_MAXIMUM_TRIES = 20
_VISIBLE_FRACTION = 0.15
_MINIMUM_XRAYS = 8  # of a batch
_MAXIMUM_THREADS = 6  # half of an X-ray is Python, where only one thread is at work
_BEYOND_MM = 100.0  # how far a body goes on where the CT is cut
_FLESH_MM, _FAT_FROM, _FAT_HU = 60.0, 0.8, -100.0  # flesh around a CT of bone alone, with fat in the outer part of its section


@dataclass(slots=True)
class XraysForValidation:
    """Makes X-rays of one CT with the camera of a reference view."""

    volume: CTVolume
    reference: ReferenceView
    _simulators: tuple[XraySimulator, ...] = field(init=False)
    _targets: Float[Tensor, "n 3"] = field(init=False)

    def __post_init__(self) -> None:
        factors = self.reference.downsampling_factors(self.volume.voxel_size_mm)
        halves = (max(1, factors[0] // 2), max(1, factors[1] // 2), max(1, factors[2] // 2))  # the X-rays are finer
        coarse = self.volume.downsampled(halves)
        patient = within_body(coarse) if lacks_soft_tissue(self.volume) else coarse
        beyond = tissue_beyond(coarse, _BEYOND_MM)
        patients = [patient] if beyond is None else [patient, joined(coarse, beyond)]
        self._simulators = tuple(XraySimulator(one, SimulationOptions()) for one in patients)
        self._targets = bone_points(self.volume, _TOOL_TARGETS, torch.Generator().manual_seed(0))

    def start(self, poses: RigidTransform, generator: torch.Generator, threads: "XrayThreads") -> "StartedXrays":
        """Start to make what `inputs` returns."""
        return threads.start(self._input, poses, _generators(poses, generator))

    def inputs(self, poses: RigidTransform, generator: torch.Generator) -> Float[Tensor, "batch 1 height width"]:
        """Return the network's inputs for X-rays at each pose.

        Raises:
            InputError: an X-ray shows too little in every variant that was tried.
        """
        return torch.cat([self._input(n, poses[n], seeds) for n, seeds in enumerate(_generators(poses, generator))])

    def _input(self, number: int, pose: RigidTransform, generator: torch.Generator) -> Float[Tensor, "1 1 height width"]:
        simulator, camera = self._simulators[number % len(self._simulators)], self._camera()
        for _ in range(_MAXIMUM_TRIES):
            variant = tuple(VARIANTS)[int(torch.randint(len(VARIANTS), (1,), generator=generator))]
            options = options_for_variant(variant, generator)
            tools = tools_for_variant(variant, self._targets, generator)
            pixels = simulator.with_options(options).image(pose, camera, generator, tools)
            grey = torch.from_numpy(pixels.astype(np.float32))
            image = XrayImage(grey, camera, Intensity(options.polarity), torch.ones_like(grey, dtype=torch.bool))
            prepared = preprocess(image, PreprocessOptions())
            if prepared.rejection is not None:
                continue
            try:
                return input_from_xray(
                    prepared.image, self.reference.intrinsics, "the network", "give another range", _VISIBLE_FRACTION
                )
            except InputError:
                continue
        raise InputError("the X-rays of this range show too little of the patient; give another range of views")

    def _camera(self) -> CameraIntrinsics:
        """The reference view's camera with smaller pixels."""
        camera = self.reference.intrinsics
        factor = max(_BINNING, -(-_MINIMUM_PX // camera.width))
        return CameraIntrinsics(
            factor * camera.width,
            factor * camera.height,
            factor * camera.fx,
            factor * camera.fy,
            factor * (camera.cx + 0.5) - 0.5,
            factor * (camera.cy + 0.5) - 0.5,
            camera.source_to_detector_mm,
        )


@dataclass(frozen=True, slots=True)
class StartedXrays:
    """X-rays that threads are making."""

    futures: list[Future[Tensor]]

    def have_finished(self) -> bool:
        """Whether all have been made, or have failed."""
        return all(future.done() for future in self.futures)

    def stop(self) -> None:
        """Cancel all but the first few, except those already running."""
        for future in self.futures[_MINIMUM_XRAYS:]:
            future.cancel()

    def wait(self) -> tuple[Int[Tensor, "n"], Float[Tensor, "n 1 height width"]]:
        """Return the numbers of the X-rays that were made (all, unless they were stopped) and the network's inputs for them.

        Raises:
            InputError: as `XraysForValidation.inputs`.
        """
        made = [number for number, future in enumerate(self.futures) if not future.cancelled()]
        return torch.tensor(made), torch.cat([self.futures[number].result() for number in made])


class XrayThreads:
    """Threads that make X-rays; beside a training on a CPU it is one, since steps and their images need the cores."""

    def __init__(self, device: str) -> None:
        workers = 1 if device == "cpu" else max(1, min(_MAXIMUM_THREADS, (os.cpu_count() or 1) - 2))
        self._pool = ThreadPoolExecutor(workers, "fluoro_reg-xrays", initializer=torch.set_num_threads, initargs=(1,))
        self._started: list[StartedXrays] = []

    def start(
        self,
        make: Callable[[int, RigidTransform, torch.Generator], Tensor],
        poses: RigidTransform,
        generators: Sequence[torch.Generator],
    ) -> StartedXrays:
        """Start to make an X-ray from the number, the pose and the generator of each."""
        started = StartedXrays([self._pool.submit(make, n, poses[n], own) for n, own in enumerate(generators)])
        self._started.append(started)
        return started

    def have_finished(self) -> bool:
        """Whether all X-rays have been made, or have failed."""
        return all(started.have_finished() for started in self._started)

    def stop(self) -> None:
        """Make only a few X-rays of each batch, if the others have not been begun."""
        for started in self._started:
            started.stop()

    def close(self) -> None:
        """Start no more work, and do not wait for what is being done."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _generators(poses: RigidTransform, generator: torch.Generator) -> list[torch.Generator]:
    """Return a generator for each X-ray, so that they can be made in any order."""
    seeds = torch.randint(2**31, (len(poses.translation),), generator=generator).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def joined(volume: CTVolume, beyond: CTVolume) -> CTVolume:
    """Return a CT with what `tissue_beyond` has found around it."""
    margins = [(outer - inner) // 2 for outer, inner in zip(beyond.attenuation.shape, volume.attenuation.shape, strict=True)]
    attenuation = beyond.attenuation.clone()
    attenuation[tuple(slice(margin, outer - margin) for margin, outer in zip(margins, attenuation.shape, strict=True))] = (
        volume.attenuation
    )
    return replace(beyond, attenuation=attenuation)


def within_body(bone: CTVolume) -> CTVolume:
    """Return a CT of bone alone within an elliptic cylinder of tissue, as long as the CT and wider on all sides."""
    margins = [0 if axis == axis_along_body(bone) else round(_FLESH_MM / bone.voxel_size_mm[axis]) for axis in range(3)]
    padded = torch.nn.functional.pad(bone.attenuation[None, None], [m for m in margins for _ in range(2)])[0, 0]
    radius = torch.zeros(padded.shape)
    for axis, (n, margin) in enumerate(zip(padded.shape, margins[::-1], strict=True)):  # in the order of the memory: k, j, i
        if margin:
            position = torch.linspace(-1, 1, n).reshape([-1 if other == axis else 1 for other in range(3)])
            radius = radius + position.square()
    flesh = torch.where(radius < _FAT_FROM, attenuation_of_tissue(SOFT_TISSUE_HU), attenuation_of_tissue(_FAT_HU))
    patient_from_voxel = bone.patient_from_voxel.clone()
    patient_from_voxel[:3, 3] = bone.points_patient(-torch.tensor(margins, dtype=torch.float64))
    attenuation = torch.maximum(padded, torch.where(radius < 1, flesh, 0.0))
    return replace(bone, attenuation=attenuation, patient_from_voxel=patient_from_voxel)
