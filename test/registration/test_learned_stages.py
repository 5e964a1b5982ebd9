"""Methods with a learned similarity: from far away with an ideal one, and without the weights that they need."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from fluoro_reg.carm.range import CarmRange
from fluoro_reg.errors import InputError
from fluoro_reg.geometry import RigidTransform, retract, se3
from fluoro_reg.learned import (
    ProST,
    ProSTOptions,
    SimilarityInference,
    Spherical,
    SphericalOptions,
    save_similarity,
)
from fluoro_reg.learned.inference import CountingProjector, ImageProblem
from fluoro_reg.networks.opposite_view import opposite_view
from fluoro_reg.networks.reference_view import ReferenceView
from fluoro_reg.optimisers import NormalEquations
from fluoro_reg.registration import LearnedOptions, Outcome, Registrar, RegistrationOptions, load_method
from fluoro_reg.xray.image import XrayImage
from fluoro_reg.xray.preprocessing.preprocess import PreprocessOptions, preprocess
from fluoro_reg.xray.view import CalibratedXray

FAR = torch.tensor([30.0, 60.0, -25.0, 0.2, -0.15, 0.2], dtype=torch.float64)  # y is depth in this view
UNITS = torch.tensor([30.0, 30.0, 30.0, 0.2, 0.2, 0.2], dtype=torch.float64)


@dataclass(frozen=True)
class Places:
    poses: RigidTransform


@dataclass(frozen=True)
class IdealProblem:
    """The squared distance to the true pose, in units of the spread in training: as a value and as least squares."""

    truth: RigidTransform
    pivot: Tensor
    project: CountingProjector

    def at(self, poses: RigidTransform) -> Tensor:
        self.project(poses)
        return (se3.local(self.truth, poses, self.pivot) / UNITS).square().sum(-1) / 12

    def values(self, starts: RigidTransform, twists: Tensor) -> Tensor:
        return self.at(retract(starts, twists, self.pivot))

    def evaluate(self, poses: RigidTransform) -> Places:
        self.project(poses)
        return Places(poses)

    def retract(self, at: Places, step: Tensor) -> Places:
        return self.evaluate(retract(at.poses, step, self.pivot))

    def linearise(self, at: Places) -> NormalEquations:
        off = se3.local(self.truth, at.poses, self.pivot)
        inverse = torch.diag(UNITS**-2)
        return NormalEquations(self.cost(at, None), off @ inverse, inverse.expand(len(off), 6, 6))

    def cost(self, trial: Places, reference: NormalEquations | None) -> Tensor:
        return (se3.local(self.truth, trial.poses, self.pivot) / UNITS).square().sum(-1)


class Oracle:
    """Knows the true pose, whatever the X-ray is."""

    def __init__(self, problem: IdealProblem) -> None:
        self.known = problem

    def problem(self, image):
        return ImageProblem(self.known, self.known.pivot, self.known.project)


def nothing(poses: RigidTransform) -> tuple[Tensor, Tensor]:
    """An empty projection."""
    count = len(poses.translation)
    return torch.zeros(count, 1, 1, 1), torch.zeros(count, 1, 1, 1, 6)


def off_axis(xray: XrayImage) -> XrayImage:
    """The same pixels, moved by 400 columns."""
    return replace(xray, intrinsics=xray.intrinsics.cropped(-400, 0, 128, 128))


@pytest.fixture(scope="session")
def similarity_weights(world, tmp_path_factory):
    """Untrained, one file of each kind."""
    folder = tmp_path_factory.mktemp("similarities")
    camera = world.camera.binned(4)
    reference = ReferenceView(world.truth, world.volume.centre_patient, camera)
    prost = ProSTOptions(image_px=32, voxel_mm=16.0, samples=12, volume_channels=2, encoder_channels=(8, 8), embedding_size=8)
    networks = {
        "prost": ProST(prost, reference, world.volume),
        "spherical": Spherical(SphericalOptions(image_px=32, width=16), reference, world.volume),
    }
    for kind, network in networks.items():
        save_similarity(folder / kind, network, world.volume.fingerprint, {})
    return LearnedOptions(**{kind: str(folder / kind) for kind in networks})


@pytest.mark.parametrize("method", ["prost", "prost-cmaes", "prost-lm", "spherical-lm", "spherical-gd"])
def test_an_ideal_similarity_finds_the_pose_from_far_away(world, similarity_weights, method):
    (kind,) = load_method(method).learned
    pivot = world.volume.centre_patient
    projector = CountingProjector(nothing)
    oracle = Oracle(IdealProblem(world.truth, pivot, projector))
    registrar = Registrar(world.volume, RegistrationOptions(method=method), similarities={kind: oracle})
    result = registrar.register(world.xray(), retract(world.truth, FAR, pivot))
    points = world.landmarks_patient
    assert (result.camera_from_patient.apply(points) - world.truth.apply(points)).norm(dim=-1).mean() < 2
    assert 0 < projector.n_renders < result.n_renders
    if method in ("prost-lm", "spherical-lm"):
        assert result.accepted, result.reason


@pytest.mark.parametrize("kind", ["prost", "spherical"])
def test_an_image_is_compared_by_its_resampled_attenuation(world, similarity_weights, kind):
    """With loaded weights: values differ between poses, and the distance to an equal image is small."""
    similar = SimilarityInference.load(getattr(similarity_weights, kind), kind, world.volume)
    prepared = preprocess(world.xray(), PreprocessOptions())
    problem = similar.problem(prepared.image)
    poses = RigidTransform.stack([world.truth, retract(world.truth, FAR, world.volume.centre_patient)])
    with torch.no_grad():
        near, far = problem.problem.values_at(poses).tolist()
    assert problem.projector.n_renders == 2 and near != far
    if kind == "spherical":
        assert near < 0.3 * far


def misled(truth: RigidTransform, pivot: Tensor) -> Oracle:
    """Leads to a pose 80 mm and 30 degrees from the true one, as weights do that have learned something else."""
    wrong = retract(truth, torch.tensor([70.0, 20.0, -40.0, 0.3, -0.3, 0.3], dtype=torch.float64), pivot)
    return Oracle(IdealProblem(wrong, pivot, CountingProjector(nothing)))


@pytest.mark.parametrize(
    ("method", "classical"),
    [
        ("prost", "adam"),
        ("prost-cmaes", "cma-es"),
        ("prost-lm", "lm-gradient-ncc"),
        ("spherical-lm", "lm-gradient-ncc"),
        ("spherical-gd", "lm-gradient-ncc"),
    ],
)
def test_a_similarity_that_leads_astray_loses_nothing(world, similarity_weights, method, classical):
    """The image is the judge between the pose that is found and the initial one."""
    (kind,), pivot = load_method(method).learned, world.volume.centre_patient
    start = retract(world.truth, (0.1 if classical == "adam" else 0.4) * FAR, pivot)
    registrar = Registrar(world.volume, RegistrationOptions(method=method), similarities={kind: misled(world.truth, pivot)})
    found = registrar.register(world.xray(), start).camera_from_patient
    points = world.landmarks_patient

    def error_mm(pose: RigidTransform) -> float:
        return float((pose.apply(points) - world.truth.apply(points)).norm(dim=-1).mean())

    assert error_mm(found) < 2
    if classical != "adam":
        alone = Registrar(world.volume, RegistrationOptions(method=classical)).register(world.xray(), start)
        assert error_mm(found) <= error_mm(alone.camera_from_patient) + 0.1


def test_a_pose_from_behind_is_compared_with_the_mirrored_image(world, similarity_weights):
    """Both sides of one batch: as opposite views with the mirror image, and back."""
    pivot, projector = world.volume.centre_patient, CountingProjector(nothing)
    behind = opposite_view(world.truth, pivot)
    sides = [IdealProblem(pose, pivot, projector) for pose in (world.truth, behind)]
    problem = ImageProblem(sides[0], pivot, projector, sides[1], world.truth)
    poses = RigidTransform.stack([behind, world.truth, retract(behind, 0.1 * FAR, pivot)])
    direct, other = problem.sides(poses)
    assert direct.rows.tolist() == [1] and other.rows.tolist() == [0, 2] and other.problem is sides[1]
    torch.testing.assert_close(other.poses[0].matrix(), world.truth.matrix())
    torch.testing.assert_close(problem.from_side(other, other.poses).matrix(), poses[other.rows].matrix())


def test_weights_know_the_mirror_image(world, similarity_weights):
    similar = SimilarityInference.load(similarity_weights.spherical, "spherical", world.volume)
    image = preprocess(world.xray(), PreprocessOptions()).image
    problem = similar.problem(image)
    (side,) = problem.sides(RigidTransform.stack([opposite_view(world.truth, world.volume.centre_patient)]))
    assert side.is_opposite and not torch.equal(side.problem.fixed, problem.problem.fixed)
    flipped = replace(image, pixels=image.pixels.flip(-1), mask=image.mask.flip(-1))
    torch.testing.assert_close(side.problem.fixed, similar.problem(flipped).problem.fixed, rtol=1e-3, atol=1e-3)
    similar.network.mirrors = False
    assert not similar.problem(image).sides(side.poses)[0].is_opposite


def test_a_pose_that_the_weights_have_not_seen_is_told_on_the_result(world, similarity_weights):
    similar = SimilarityInference.load(similarity_weights.spherical, "spherical", world.volume)
    registrar = Registrar(world.volume, RegistrationOptions(method="spherical-lm"), similarities={"spherical": similar})
    assert registrar.register(world.xray(), world.truth).warnings == ()  # the file does not state what it has seen
    similar.network.seen = CarmRange(primary_deg=(60.0, 80.0))
    result = registrar.register(world.xray(), world.truth)
    assert [sentence.split(" is outside")[0] for sentence in result.warnings] == ["the pose that was found", "the initial pose"]
    assert "the similarity Spherical has been trained on: primary" in result.warnings[1]
    assert result.to_json()["warnings"] == list(result.warnings)


def test_an_image_outside_the_similaritys_view_is_rejected(world, similarity_weights):
    registrar = Registrar(world.volume, RegistrationOptions(method="spherical-lm", learned=similarity_weights))
    result = registrar.register(off_axis(world.xray()), world.truth)
    assert (result.outcome, result.accepted) == (Outcome.REJECTED_IMAGE, False)
    assert "too little of what the similarity was trained to see" in result.reason


def test_tracking_ignores_a_similarity_that_its_stages_do_not_use(world, similarity_weights):
    class Unused:
        def problem(self, image):
            pytest.fail("the similarity was used")

    registrar = Registrar(world.volume, RegistrationOptions(method="spherical-lm"), similarities={"spherical": Unused()})
    assert registrar.register(world.xray(), world.truth, tracking=True).accepted


def test_two_views_with_a_learned_method_name_the_view_that_shows_nothing(world, similarity_weights):
    pivot = world.volume.centre_patient
    oracle = Oracle(IdealProblem(world.truth, pivot, CountingProjector(nothing)))
    registrar = Registrar(world.volume, RegistrationOptions(method="spherical-lm"), similarities={"spherical": oracle})
    view = CalibratedXray(world.xray(), RigidTransform.identity())
    assert registrar.register_views([view, view], retract(world.truth, 0.3 * FAR, pivot)).accepted
    registrar = Registrar(world.volume, RegistrationOptions(method="spherical-lm", learned=similarity_weights))
    result = registrar.register_views([view, replace(view, image=off_axis(world.xray()))], world.truth)
    assert result.outcome is Outcome.REJECTED_IMAGE and result.reason.startswith("view 2: the image shows too little")


def test_a_method_without_its_similarity_says_what_to_do(world, similarity_weights):
    with pytest.raises(InputError, match="prost needs weights of the similarity prost; give them with --similarity"):
        Registrar(world.volume, RegistrationOptions(method="prost"))
    swapped = LearnedOptions(prost=similarity_weights.spherical)
    with pytest.raises(InputError, match="weights of the similarity spherical, not of prost"):
        Registrar(world.volume, RegistrationOptions(method="prost", learned=swapped))


def test_a_learned_stage_may_come_later(world, similarity_weights):
    """The coarse stage before it leaves one pose, from which the similarity leads astray; that pose goes on, too."""
    method, pivot = load_method("prost-lm"), world.volume.centre_patient
    learned, *classical = method.stages
    later = replace(method, stages=(classical[0], learned, *classical[1:]))
    registrar = Registrar(world.volume, RegistrationOptions(), method=later, similarities={"prost": misled(world.truth, pivot)})
    result = registrar.register(world.xray(), retract(world.truth, 0.4 * FAR, pivot))
    assert result.accepted, result.reason
