"""`SimilarityInference`: weights of a learned similarity and an X-ray of any camera to a problem that optimisers understand.

What does not change with the X-ray is computed once. The network knows one camera, and an image of another is resampled to it,
exactly, as for the pose regressor (`fluoro_reg.regressor.predictor`); what the image does not show is masked.
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
from fluoro_reg.networks.image_input import input_of
from fluoro_reg.xray.image import XrayImage

MINIMUM_SEEN = 0.25  # share of its image that an X-ray must show: training's collimators leave no less


@dataclass(slots=True)
class CountedProjector:
    """Counts the poses that it projects."""

    projector: Projector
    n_renders: int = 0

    def __call__(self, poses: RigidTransform) -> Projection:
        self.n_renders += len(poses.translation)
        return self.projector(poses)


@dataclass(frozen=True, slots=True)
class ImageProblem:
    """The problem of one X-ray, the pivot (patient mm) that its twists are about, and who counts its projections."""

    problem: PoseProblem
    pivot: Float[Tensor, "3"]
    counted: CountedProjector


@dataclass(slots=True)
class SimilarityInference:
    """A trained similarity. Not for use from two threads at once."""

    network: AbstractLearnedSimilarity
    _projector: Projector = field(init=False)

    def __post_init__(self) -> None:
        with torch.no_grad():
            self._projector = self.network.projector()
            reference = self.network.reference.camera_from_patient
            self._projector(RigidTransform.stack([reference]))  # compiles, so that the first image does not wait for it

    @staticmethod
    def load(path: Path | str, kind: str, volume: CTVolume, device: str = "cpu") -> "SimilarityInference":
        """Weights of the entry `kind` of `LEARNED`; `device` is `cpu` or `cuda`, as `resolve_device` gives it.

        Raises:
            InputError: as `load_similarity`, or weights of another kind.
        """
        check_similarity(path, kind)
        return SimilarityInference(load_similarity(path, volume).to(device))

    @torch.no_grad()
    def problem(self, image: XrayImage) -> ImageProblem:
        """The similarity to one preprocessed X-ray.

        Raises:
            InputError: the image shows next to nothing of what the network sees.
        """
        reference, device = self.network.reference, self.network.scale.device
        images = input_of(image, reference.intrinsics, "the similarity", "choose another method", MINIMUM_SEEN)
        counted = CountedProjector(self._projector)
        problem = LearnedProblem(self.network, counted, self.network.fixed(images.to(device)))
        return ImageProblem(problem, reference.pivot, counted)
