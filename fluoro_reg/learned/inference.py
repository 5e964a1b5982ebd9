"""`SimilarityInference`: a trained similarity and an X-ray of any camera as a problem that optimisers can solve.

Everything that does not depend on the X-ray is computed once. The network was trained with one camera, and an image of another
is resampled to it exactly, as for the pose regressor (`fluoro_reg.regressor.predictor`). What the image does not cover is
masked. Poses from the other side of the patient are compared as in the training: as opposite views, with the mirrored X-ray.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned.checkpoint import check_similarity, load_similarity
from fluoro_reg.learned.problem import LearnedProblem, PoseProblem
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector
from fluoro_reg.networks.image_input import input_from_xray
from fluoro_reg.networks.opposite_view import is_opposite_view, opposite_view
from fluoro_reg.networks.seen_views import SeenViews
from fluoro_reg.xray.image import XrayImage

# Fraction of the network's image that an X-ray must cover; the collimators in training never leave less.
MINIMUM_VISIBLE_FRACTION = 0.15


@dataclass(slots=True)
class CountingProjector:
    """A projector that counts the poses it projects."""

    projector: Projector
    n_renders: int = 0

    def __call__(self, poses: RigidTransform) -> Projection:
        self.n_renders += len(poses.translation)
        return self.projector(poses)


@dataclass(frozen=True, slots=True)
class Side:
    """The poses (rows `rows` of a batch) from one side of the patient, as `problem` sees them."""

    problem: PoseProblem
    rows: Int[Tensor, "rows"]
    poses: RigidTransform
    is_opposite: bool


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """The registration problem of one X-ray.

    Attributes:
        problem: the problem.
        pivot: the pivot of its twists (mm, patient frame).
        projector: the projector that it uses.
        mirrored: the problem of the mirrored X-ray, for poses from the other side of the patient than `reference`, which it
            sees as their opposite views; None: `problem` is that of all poses.
        reference: a pose on the side that the network has been trained on.
        seen: the views of its training, if they are known.
    """

    problem: PoseProblem
    pivot: Float[Tensor, "3"]
    projector: CountingProjector
    mirrored: PoseProblem | None = None
    reference: RigidTransform | None = None
    seen: SeenViews | None = None

    def sides(self, poses: RigidTransform) -> list[Side]:
        """Divide a batch of poses by the side of the patient that they are seen from."""
        everything = torch.arange(len(poses.translation))
        if self.mirrored is None or self.reference is None:
            return [Side(self.problem, everything, poses, False)]
        opposite = is_opposite_view(poses, self.reference)
        direct, other = everything[~opposite], everything[opposite]
        sides = [
            Side(self.problem, direct, poses[direct], False),
            Side(self.mirrored, other, opposite_view(poses[other], self.pivot), True),
        ]
        return [side for side in sides if len(side.rows)]

    def from_side(self, side: Side, poses: RigidTransform) -> RigidTransform:
        """Return poses that the problem of a side has found."""
        return opposite_view(poses, self.pivot) if side.is_opposite else poses


@dataclass(slots=True)
class SimilarityInference:
    """A trained similarity. Not thread-safe."""

    network: AbstractLearnedSimilarity
    _projector: Projector = field(init=False)

    def __post_init__(self) -> None:
        with torch.no_grad():
            self._projector = self.network.make_projector()
            reference = self.network.reference.camera_from_patient
            self._projector(RigidTransform.stack([reference]))  # compiles now rather than with the first image

    @staticmethod
    def load(path: Path | str, kind: str, volume: CTVolume, device: str = "cpu") -> "SimilarityInference":
        """Load weights of the entry `kind` of `LEARNED_SIMILARITIES`; `device` is `cpu` or `cuda`, as by `resolve_device`.

        Raises:
            InputError: as `load_similarity`, or the file holds another kind.
        """
        check_similarity(path, kind)
        return SimilarityInference(load_similarity(path, volume).to(device))

    @torch.no_grad()
    def problem(self, image: XrayImage) -> ImageProblem:
        """Return the registration problem of one preprocessed X-ray.

        Raises:
            InputError: the image covers too little of what the network sees.
        """
        reference, device = self.network.reference, self.network.scale.device
        images = input_from_xray(
            image, reference.intrinsics, "the similarity", "choose another method", MINIMUM_VISIBLE_FRACTION
        )
        projector, network = CountingProjector(self._projector), self.network

        def problem_of(images: Float[Tensor, "1 1 height width"]) -> LearnedProblem:
            return LearnedProblem(network, projector, network.embed_fixed(images.to(device)))

        mirrored = problem_of(images.flip(-1)) if network.mirrors else None
        name = f"the similarity {type(network).__name__}"
        seen = None if network.seen is None else SeenViews(name, network.seen, reference.pivot)
        return ImageProblem(problem_of(images), reference.pivot, projector, mirrored, reference.camera_from_patient, seen)
