"""Decoys: how well the CT explains an X-ray that it cannot explain.

A similarity means something only beside what a wrong pose reaches with this CT, this view and this noise. The mirrored X-ray
has the same noise, field and contrast, and no pose of the CT is right for it. It is therefore registered by the same steps,
and the similarity that it reaches is the measure for that of the X-ray. The idea is that of decoy databases in proteomics
(Elias and Gygi, Nature Methods 2007).

Patients are nearly symmetric. The pose that explains a mirrored X-ray best is therefore near the mirror image of the right
pose, and the decoys begin there, too. An X-ray from behind is also nearly the mirrored one. Where no initial pose tells the
sides apart, an X-ray that is itself mirrored seems to be one from behind. The decoy that begins from the other side is then
explained better.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.geometry import CameraIntrinsics, RigidTransform
from fluoro_reg.registration.assessment.evidence import similarities
from fluoro_reg.registration.candidates import Candidate, CandidateMaker
from fluoro_reg.registration.likeliest import likeliest
from fluoro_reg.registration.method import Method
from fluoro_reg.registration.stages.initial_poses import InitialPoses
from fluoro_reg.registration.view_run import Clock, Request, ViewRun
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed

LEFT_RIGHT, TOP_BOTTOM = 1, 0  # the axis of the pixels (row, column) along which a decoy is mirrored
MIRRORED_AXIS_OF_PATIENT = {LEFT_RIGHT: 0, TOP_BOTTOM: 2}  # left-right, feet-head


@dataclass(slots=True)
class DecoyRegistration:
    """Registers decoys of an X-ray as the X-ray was registered.

    Attributes:
        candidates: Makes the candidates, as for the X-ray.
        method: The method.
        run: The X-ray, registered.
        found: Its pose, `camera_from_patient`.
        certain_similarity: As in `likeliest`.
        is_side_unknown: Whether nothing but the image says from which side it was taken.
        n_renders: Rendered views.
    """

    candidates: CandidateMaker
    method: Method
    run: ViewRun
    found: RigidTransform
    certain_similarity: float
    is_side_unknown: bool
    n_renders: int = 0

    def nearest(self, is_far_below: Callable[[float], bool]) -> float:
        """The similarity of the mirrored X-ray near the mirrored pose; at a coarse scale, if it `is_far_below` there."""
        begins = InitialPoses([], self._mirrored_found(LEFT_RIGHT))
        candidate, poses = self._coarse(LEFT_RIGHT, begins, search_views=False)
        coarse = candidate.solver.coarse_similarity(poses)
        return coarse if is_far_below(coarse) else self._finest(candidate, poses)

    def highest(self, is_enough: Callable[[float], bool]) -> float:
        """The highest similarity of all decoys, from mirrored initial poses and, if the X-ray was searched, by the same search.

        The first one that `is_enough` is the last that is registered. Searches, which take seconds, come last.
        """
        highest = 0.0
        for search_views, axis in product((False, True) if self.run.is_searched else (False,), (LEFT_RIGHT, TOP_BOTTOM)):
            found = self._finest(*self._coarse(axis, self._mirrored_begins(axis), search_views))
            highest = max(found, highest)  # in this order NaN stays, which no gate accepts
            if is_enough(highest):
                break
        return highest

    def _mirrored_begins(self, axis: int) -> InitialPoses:
        """Mirror images of all that the X-ray began from and of the pose that was found."""
        initial = self.run.initial
        searched, refined = (
            [mirrored_pose(poses, *self._mirror, axis) for poses in some] for some in (initial.searched, initial.refined)
        )
        return InitialPoses(searched, self._mirrored_found(axis) + refined)

    def _mirrored_found(self, axis: int) -> list[RigidTransform]:
        """The mirror image of the pose that was found and, unless an initial pose says from which side, its other side."""
        found = RigidTransform.stack([self.found])
        begins = [mirrored_pose(found, *self._mirror, axis)]
        if self.is_side_unknown:
            begins.append(pose_from_behind(found, *self._mirror, axis))
        return begins

    @property
    def _mirror(self) -> tuple[Float[Tensor, "3"], CameraIntrinsics]:
        return self.candidates.readings.whole.model.pivot, self.run.prepared.image.intrinsics

    def _coarse(self, axis: int, begins: InitialPoses, search_views: bool) -> tuple[Candidate, RigidTransform]:
        """A decoy after all stages but the last, in the reading of the X-ray where that is plausible."""
        stages = self.method.stages
        decoy, request = mirrored(self.run.prepared, axis), Request(None, readings=(self.run.reading,))
        made = self.candidates.make(decoy, begins, request, stages, search_views, self.run.effort)
        likely = likeliest(made, self.method.search, stages, self.certain_similarity, Clock())
        self.n_renders += likely.n_renders
        return likely.candidate, likely.poses

    def _finest(self, candidate: Candidate, poses: RigidTransform) -> float:
        before = candidate.solver.n_renders
        similarity = float(similarities(candidate.solver.run_last(poses, self.method.stages)).max())
        self.n_renders += candidate.solver.n_renders - before
        return similarity


def mirrored(prepared: Preprocessed, axis: int) -> Preprocessed:
    """A preprocessed X-ray with its rows (`axis` 0) or columns (1) in reverse order."""
    image = prepared.image
    image = replace(image, pixels=image.pixels.flip(axis), mask=image.mask.flip(axis))
    return replace(prepared, image=image, outline=prepared.outline.flip(axis))


def mirrored_pose(
    poses: RigidTransform, centre_patient: Float[Tensor, "3"], camera: CameraIntrinsics, axis: int
) -> RigidTransform:
    """The poses at which a symmetric patient, mirrored about a plane through `centre_patient`, gives the mirrored image."""
    of_camera, of_patient = torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    of_camera[1 - axis] = of_patient[MIRRORED_AXIS_OF_PATIENT[axis]] = -1
    return _placed(of_camera[:, None] * poses.rotation * of_patient, poses, centre_patient, camera, axis)


def pose_from_behind(
    poses: RigidTransform, centre_patient: Float[Tensor, "3"], camera: CameraIntrinsics, axis: int
) -> RigidTransform:
    """The poses from the opposite side, at which any patient gives nearly the mirrored image."""
    of_camera = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    of_camera[1 - axis] = -1
    return _placed(of_camera[:, None] * poses.rotation, poses, centre_patient, camera, axis)


def _placed(
    rotation: Float[Tensor, "*batch 3 3"],
    poses: RigidTransform,
    centre_patient: Float[Tensor, "3"],
    camera: CameraIntrinsics,
    axis: int,
) -> RigidTransform:
    """Poses with a rotation, and `centre_patient` where it is in the mirrored image."""
    across = 1 - axis  # columns are reversed along u, rows along v
    centre = poses.apply(centre_patient[None])[..., 0, :]
    size, focal, middle = ((camera.width, camera.fx, camera.cx), (camera.height, camera.fy, camera.cy))[across]
    centre[..., across] = 2 * ((size - 1) / 2 - middle) / focal * centre[..., 2] - centre[..., across]
    return RigidTransform(rotation, centre - (rotation @ centre_patient[:, None]).squeeze(-1))
