"""Bodies as a registration needs them: how each is rendered and compared, and what is known of its pose beforehand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fluoro_reg.ct.bodies import split_bodies
from fluoro_reg.ct.label_map import LabelMap
from fluoro_reg.ct.volume import CTVolume
from fluoro_reg.errors import InputError
from fluoro_reg.formats.bodies import BodiesConfig, JointOptions
from fluoro_reg.geometry import RigidTransform
from fluoro_reg.geometry.so3 import hat
from fluoro_reg.registration.method import SearchOptions
from fluoro_reg.registration.options import RegistrationOptions
from fluoro_reg.registration.stages.ct_readings import CTReading, CTReadings
from fluoro_reg.registration.stages.masks import CUT_FRACTION_OF_OBJECT
from fluoro_reg.registration.stages.object_model import MARGIN_OF_BONE_MM, ObjectModel
from fluoro_reg.registration.stages.pose_metric import PoseMetric, reference_points
from fluoro_reg.registration.stages.scales import CoarseRenderers, box_corners

SEARCH_STEP_DEG = 8.0  # Levenberg-Marquardt finds a bone from half of this at the coarsest scale
SEARCHED_SD = 1.7  # turns are searched up to this many standard deviations of the prior
SHIFTED_SD = 2.5  # the same of shifts
MINIMUM_SHIFT_MM = 5.0
KEPT = 12  # poses of the search that are refined


@dataclass(frozen=True, slots=True)
class Joint:
    """What is known of a body's pose relative to its parent: the mean, and the information on the twist about its pivot."""

    parent: str
    parent_from_body: RigidTransform
    information: Float[Tensor, "6 6"]

    def from_parent(self, pivot: Float[Tensor, "3"], pivot_of_parent: Float[Tensor, "3"]) -> Float[Tensor, "6 6"]:
        """How a twist of the parent, about its pivot, moves the mean, as a twist about the body's pivot.

        A twist (v, w) of the parent moves a point x of it by `v + w x (x - pivot)`.
        """
        lever = self.parent_from_body.apply(pivot[None])[0] - pivot_of_parent
        turned = self.parent_from_body.rotation.T
        result = torch.block_diag(turned, turned)
        result[:3, 3:] = -turned @ hat(lever)
        return result


@dataclass(frozen=True, slots=True)
class Body:
    """One body; the reference, which is found first and without a prior, has no joint."""

    name: str
    frame: str
    reading: CTReading
    metric: PoseMetric
    joint: Joint | None = None

    @property
    def pivot(self) -> Float[Tensor, "3"]:
        return self.reading.model.pivot

    @property
    def search(self) -> SearchOptions:
        """The search within the prior. A bone must not be sought at its neighbour's place."""
        assert self.joint is not None, "the reference is searched as any CT is"
        covariance = torch.linalg.inv(self.joint.information)
        turn_deg = math.degrees(float(torch.linalg.eigvalsh(covariance[3:, 3:])[-1].sqrt()))
        shift_mm = SHIFTED_SD * float(torch.linalg.eigvalsh(covariance[:3, :3])[-1].sqrt())
        steps = round(SEARCHED_SD * turn_deg / SEARCH_STEP_DEG)
        angles = [SEARCH_STEP_DEG * n for n in range(-steps, steps + 1)]
        return SearchOptions(
            out_of_plane_deg=tuple(angles[steps:]),
            in_plane_deg=tuple(angles),
            shift_mm=max(shift_mm, MINIMUM_SHIFT_MM),
            keep=KEPT,
        )


def size_mm(body: Body) -> float:
    """The diagonal of a body's box."""
    corners = body.reading.corners_patient
    return float((corners.amax(0) - corners.amin(0)).norm())


def make_bodies(
    config: BodiesConfig,
    ct: CTVolume,
    labels: LabelMap | None,
    volumes: Mapping[str, CTVolume],
    options: RegistrationOptions,
    device: str,
) -> tuple[Body, ...]:
    """All bodies, the reference first and parents before their children.

    Args:
        config: The configuration.
        ct: The CT.
        labels: Its segmentation, if a body is made of labels.
        volumes: The CTs of the bodies that have their own, by name.
        options: The settings of the registration.
        device: The device of the renderers.

    Raises:
        InputError: A segmentation is needed but not given, or it does not show a body.
    """
    made_of_labels = {name: body.numbers for name, body in config.bodies.items() if body.labels and name != config.reference}
    rest, cut = ct, dict[str, CTVolume]()
    if made_of_labels:
        if labels is None:
            names = ", ".join(made_of_labels)
            raise InputError(f"bodies made of labels ({names}) need the segmentation of the CT; give it with --labels SEG")
        rest, cut = split_bodies(ct, labels.on_grid_of(ct), made_of_labels)
    bodies = dict[str, Body]()
    for name, body in config.bodies.items():
        if name == config.reference:
            reading = CTReadings.of(rest, options.roi, options.saturation, device).whole
        elif name in cut:
            reading = _bone_reading(name, cut[name], device)
        else:
            reading = CTReadings.of(volumes[name], options.roi, options.saturation, device).whole
        metric = PoseMetric(reference_points(reading.corners_patient))
        joint = None
        if name != config.reference:
            joint = _joint(config.parent(name), body.joint, reading.model.pivot)
        bodies[name] = Body(name, body.frame, reading, metric, joint)
    return tuple(bodies.values())


def _bone_reading(name: str, volume: CTVolume, device: str) -> CTReading:
    """A bone cut out of a CT is compared near its projection, as soon as the other bodies are taken out of the image."""
    renderers = CoarseRenderers(volume, device, CUT_FRACTION_OF_OBJECT)
    corners = box_corners(volume, renderers.extent)
    return CTReading(name, renderers, ObjectModel(corners.mean(0), "moving-support", 0.0, MARGIN_OF_BONE_MM), corners)


def _joint(parent: str, joint: JointOptions, pivot: Float[Tensor, "3"]) -> Joint:
    """The prior of a turn and shift about the joint's point, as information on the twist about the body's pivot.

    A turn w about the point p shifts the pivot q by `w x (q - p)`.
    """
    point = torch.tensor(joint.point_mm, dtype=torch.float64) if joint.point_mm else pivot
    to_pivot = torch.eye(6, dtype=torch.float64)
    to_pivot[:3, 3:] = -hat(pivot - point)
    sd = torch.tensor([joint.sd_mm] * 3 + [math.radians(joint.sd_deg)] * 3, dtype=torch.float64)
    information = torch.linalg.inv(to_pivot @ torch.diag(sd.square()) @ to_pivot.T)
    mean = RigidTransform.identity()
    if joint.parent_from_body:
        mean = RigidTransform.from_matrix(joint.parent_from_body, "joint.parent_from_body")
    return Joint(parent, mean, information)
