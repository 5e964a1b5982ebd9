"""Random poses of the bones of a patient, within the ranges of bodies.yaml, and the points at which errors are measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.carm.views import BONE_SAMPLES, TARGETS
from fluoro_reg.ct.label_map import LabelMap, read_label_map
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bodies import BodiesConfig, read_bodies
from fluoro_reg.formats.body_truth import BodyTruth
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, retract
from fluoro_reg.simulation.moved_bodies import MovableBodies


@dataclass(frozen=True, slots=True)
class BodyFiles:
    """The files that describe the bodies of a CT: bodies.yaml, and the segmentation."""

    bodies: Path
    labels: Path


@dataclass(frozen=True, slots=True)
class BodyScene:
    """The bodies of one CT, and random points on each that is labelled, in patient mm."""

    config: BodiesConfig
    movable: MovableBodies
    points: dict[str, Float[Tensor, "_ 3"]]

    @classmethod
    def read(cls, files: BodyFiles, ct: CTVolume, generator: torch.Generator) -> "BodyScene":
        """Read the bodies of a CT.

        Raises:
            InputError: A file is unusable, or a body is not made of labels, so that it cannot be moved within the CT.
        """
        return cls.of(read_bodies(files.bodies), read_label_map(files.labels), ct, generator)

    @classmethod
    def of(cls, config: BodiesConfig, labels: LabelMap, ct: CTVolume, generator: torch.Generator) -> "BodyScene":
        """The bodies of a CT with its segmentation."""
        if foreign := [name for name, body in config.bodies.items() if body.ct]:
            raise InputError(
                f"the body {foreign[0]} has a CT of its own, but only labels of one CT can be simulated; remove it"
            )
        numbers = {name: body.numbers for name, body in config.bodies.items() if body.numbers}
        movable = MovableBodies.of(ct, labels, {name: given for name, given in numbers.items() if name != config.reference})
        on_grid = labels.on_grid_of(ct)
        points = {name: _points(on_grid, given, ct, generator) for name, given in numbers.items()}
        return cls(config, movable, points)

    def middle(self) -> Float[Tensor, "3"]:
        """The mean of the centres of all bodies that move, patient mm."""
        return torch.stack([self.points[name].mean(0) for name in self.movable.names]).mean(0)

    def draw(self, camera_from_patient: RigidTransform, generator: torch.Generator) -> dict[str, RigidTransform]:
        """`camera_from_patient` of every body but the reference, shifted and turned against its parent.

        Shift and turn have random directions, and lengths that are uniform up to the body's `motion`.
        """
        return self._moved(camera_from_patient, self._twists(generator))

    def draw_motion(self, camera_from_patient: RigidTransform, generator: torch.Generator) -> list[dict[str, RigidTransform]]:
        """The same for every pose of a batch, which are those of the frames of a recording.

        Every body moves to and fro once, smoothly, between all and half of a random twist, so that it is never where the CT
        shows it.
        """
        twists, frames = self._twists(generator), len(camera_from_patient.translation)
        fractions = [0.75 + 0.25 * math.cos(2 * math.pi * n / frames) for n in range(frames)]
        return [
            self._moved(camera_from_patient[n], {name: fraction * twist for name, twist in twists.items()})
            for n, fraction in enumerate(fractions)
        ]

    def _twists(self, generator: torch.Generator) -> dict[str, Float[Tensor, "6"]]:
        """The twist of every body but the reference, about the point of its joint."""
        twists = {}
        for name, body in self.config.bodies.items():
            if name != self.config.reference:
                shift, turn = _vector(body.motion.mm, generator), _vector(math.radians(body.motion.deg), generator)
                twists[name] = torch.cat([shift, turn])
        return twists

    def _moved(
        self, camera_from_patient: RigidTransform, twists: Mapping[str, Float[Tensor, "6"]]
    ) -> dict[str, RigidTransform]:
        """`camera_from_patient` of every body but the reference, after a twist against its parent."""
        poses = {self.config.reference: camera_from_patient}
        for name, twist in twists.items():
            given = self.config.bodies[name].joint.point_mm
            point = torch.tensor(given, dtype=torch.float64) if given else self.points[name].mean(0)
            poses[name] = retract(poses[self.config.parent(name)], twist, point)
        return {name: poses[name] for name in twists}

    def truths(
        self, camera_from_patient: RigidTransform, moved: Mapping[str, RigidTransform], camera: CameraIntrinsics
    ) -> dict[str, BodyTruth]:
        """The true pose of every labelled body, and those of its points that the image shows; there may be none."""
        truths = {}
        size = torch.tensor([camera.width - 1, camera.height - 1])
        for name, points in self.points.items():
            pose = moved.get(name, camera_from_patient)
            pixels = camera.project(pose.apply(points))
            shown = points[((pixels >= 0) & (pixels <= size)).all(-1)]
            truths[name] = BodyTruth(pose, shown[:TARGETS], len(shown) / len(points))
        return truths


def _points(labels: Tensor, numbers: tuple[int, ...], ct: CTVolume, generator: torch.Generator) -> Float[Tensor, "_ 3"]:
    voxels = torch.isin(labels, torch.tensor(numbers, dtype=labels.dtype)).nonzero()
    chosen = voxels[torch.randint(len(voxels), (BONE_SAMPLES,), generator=generator)]
    return ct.points_patient(chosen.flip(-1).double())


def _vector(longest: float, generator: torch.Generator) -> Float[Tensor, "3"]:
    """A vector of random direction, and a length that is uniform up to `longest`."""
    direction = torch.randn(3, generator=generator, dtype=torch.float64)
    return direction / direction.norm() * longest * torch.rand(1, generator=generator, dtype=torch.float64)
