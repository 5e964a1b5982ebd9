"""The poses that a registration begins from: given, or predicted from the image by a regressor."""

from dataclasses import dataclass, field, replace

from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.networks.seen_views import SeenViews
from fluoro_reg.registration.method import PredictionOptions
from fluoro_reg.registration.providers import Predictor
from fluoro_reg.xray.image import XrayImage


@dataclass(frozen=True, slots=True)
class InitialPoses:
    """Poses to search around, batches of poses to refine without a search, and the reason why there are none.

    `seen` are the views that the regressor has been trained on, if one has predicted poses.
    """

    searched: list[RigidTransform]
    refined: list[RigidTransform] = field(default_factory=list)
    reason: str = "no initial pose is known: give one"
    seen: SeenViews | None = None

    def with_predictions(self, predictor: Predictor, image: XrayImage, options: PredictionOptions) -> "InitialPoses":
        """These poses, followed by those that `predictor` predicts for a preprocessed X-ray."""
        try:
            predictions = predictor.predict(image, options.opposite_view)
        except InputError as error:
            return replace(self, reason=str(error))
        around = [prediction.neighbours(options.spread) for prediction in predictions] if options.spread > 0 else []
        seen = predictions[0].seen if predictions else None
        searched = [*self.searched, *(prediction.camera_from_patient for prediction in predictions)]
        return InitialPoses(searched, around, seen=seen)

    def with_found(self, poses: RigidTransform) -> "InitialPoses":
        """These poses, followed by a batch that a search of all views found, the likeliest first."""
        return replace(self, refined=[*self.refined, poses])

    @property
    def poses(self) -> RigidTransform:
        """All of them, as a batch."""
        return RigidTransform.cat([*(RigidTransform.stack([pose]) for pose in self.searched), *self.refined])

    @property
    def first(self) -> RigidTransform:
        """The first pose of all."""
        return self.searched[0] if self.searched else self.refined[0][0]
