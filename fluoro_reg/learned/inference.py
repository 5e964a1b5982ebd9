"""`SimilarityInference`: a trained similarity and an X-ray of any camera as a problem that optimisers can solve.

Everything that does not depend on the X-ray is computed once. The network was trained with one camera, and an image of another
is resampled to it exactly, as for the pose regressor (`fluoro_reg.regressor.predictor`). What the image does not cover is
masked.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.learned.checkpoint import check_similarity, load_similarity
from fluoro_reg.learned.problem import LearnedProblem, PoseProblem
from fluoro_reg.learned.similarity import AbstractLearnedSimilarity, Projection, Projector
from fluoro_reg.networks.image_input import input_from_xray
from fluoro_reg.xray.image import XrayImage

# Fraction of the network's image that an X-ray must cover; the collimators in training never leave less.
MINIMUM_VISIBLE_FRACTION = 0.25


@dataclass(slots=True)
class CountingProjector:
    """A projector that counts the poses it projects."""

    projector: Projector
    n_renders: int = 0

    def __call__(self, poses: RigidTransform) -> Projection:
        self.n_renders += len(poses.translation)
        return self.projector(poses)


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """The registration problem of one X-ray, the pivot of its twists (mm, patient frame), and the projector that it uses."""

    problem: PoseProblem
    pivot: Float[Tensor, "3"]
    projector: CountingProjector


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
        projector = CountingProjector(self._projector)
        problem = LearnedProblem(self.network, projector, self.network.embed_fixed(images.to(device)))
        return ImageProblem(problem, reference.pivot, projector)
