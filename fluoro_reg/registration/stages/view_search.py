"""The search for a pose over all views of a C-arm, without an initial pose.

The CT is rendered once for every view of a grid. The Fourier transforms of these templates are kept, so that an X-ray costs one
transform for each rotation of it, and a product for each view. The masked correlation of gradients over all shifts is that of
`stages.search`. Views at their best shifts are ranked by evidence, as everywhere: a long edge that fits counts for more than a
short one that fits better.

A shift of the image by many pixels is not a translation of the patient, who would then be seen from another side. It is a
rotation of the camera about the source, which leaves the rays through the CT as they are.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from fluoro_reg.carm.aim import aim_points
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.carm.view_grid import ViewGrid, count_comparisons, view_grid
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3
from fluoro_reg.registration.stages.ct_readings import CTReading
from fluoro_reg.registration.stages.masks import eroded
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import PoseObjective, Scale
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.scales import ImageScales, projected_box
from fluoro_reg.registration.stages.solver import HOPELESS
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.similarity.gradient_ncc import sobel_gradients
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed

DEFAULT_RANGE = "ap-pa"
SEARCHED_PX = 32  # across the CT's projection or the image, whichever is smaller
SEARCHED_IMAGE_PX = 80  # across the image at most: an implant in a large image is searched with fewer pixels across
STEP_DEG = 10.0  # between neighbouring views, at least; Levenberg-Marquardt reaches half of it
MAXIMUM_COMPARISONS = 15_000  # of an X-ray with a template, about 3 s on one core; a wide range takes longer steps
COMPARED_LENGTH = 128  # px, of transforms that these hold for; of longer ones there are fewer, in proportion to their area
KEEP = 16  # hypotheses at most, apart by a pixel; those with less than `HOPELESS` of the best evidence are dropped
KEEP_RIVALS, RIVAL_MM = 12, 20.0  # besides these, the best that are so far apart: the others may all lead to one pose
PEAKS, PEAK_PX = 3, 5  # of the evidence over all pixels, for every view: highest within so many pixels; vertebrae look alike
CLIP = 0.98  # quantile at which gradients of the X-ray are clipped, as in gradient NCC
MINIMUM_OVERLAP = 0.25  # fraction of the largest over all shifts
MINIMUM_ENERGY = 0.02  # of gradients in the overlap, likewise; the outline of a body holds far more than its inside
RENDERED_AT_ONCE, COMPARED_AT_ONCE = 64, 16  # views: what is compared at once stays in the processor's cache
MAXIMUM_BYTES = 1_000_000_000  # of templates that are kept


@dataclass(frozen=True, slots=True)
class Templates:
    """Transforms of the rendered views: their gradients along columns and rows, squared gradients, and weights.

    `centre` is the pixel (u, v) of the optical axis, `length` the height and width of the transformed images.
    """

    grid: ViewGrid
    spectra: Complex[Tensor, "views 4 length half_length"]
    centre: tuple[int, int]
    length: int

    @property
    def n_bytes(self) -> int:
        return self.spectra.numel() * self.spectra.element_size()


@dataclass(slots=True)
class ViewSearch:
    """Searches X-rays for the view that they show. Templates are kept for the CT, the camera and the scale."""

    carm: CarmRange
    metric: PoseMetric
    _kept: OrderedDict[tuple[object, ...], Templates] = field(default_factory=OrderedDict)

    def find(self, reading: CTReading, prepared: Preprocessed, parts: Sequence[CarmRange] = ()) -> RigidTransform:
        """Return distinct poses that may explain an X-ray, `camera_from_patient`, the likeliest first.

        With `parts`, only these ranges are searched instead of the whole one.
        """
        middle = self.carm.central_view(reading.model.pivot)
        scale = _searched_scale(reading.scales(prepared, middle))
        found, evidence = [], []
        for carm in parts or [self.carm]:
            templates = self.templates(reading, scale, carm)
            for roll_deg in templates.grid.roll_deg:
                shifted, value = best_shifts(templates, *rotated(scale, roll_deg), scale.intrinsics)
                found.append(_turned(so3.exp(torch.tensor([0.0, 0.0, math.radians(roll_deg)], dtype=torch.float64)), shifted))
                evidence.append(value)
        poses, values = RigidTransform.cat(found), torch.cat(evidence)
        depth_mm = float(middle.apply(reading.model.pivot[None])[0, 2])
        order = values.argsort(descending=True)
        order = order[values[order] >= HOPELESS * values[order[0]]]
        rows = self.metric.distinct(poses, order, depth_mm / scale.intrinsics.fx, KEEP)
        rivals = self.metric.distinct(poses, order, RIVAL_MM, KEEP_RIVALS)
        return poses[torch.tensor(list(dict.fromkeys([*rows, *rivals])))]

    def templates(self, reading: CTReading, scale: Scale, carm: CarmRange | None = None) -> Templates:
        """The templates for a camera and a range (by default, the whole one), made once and kept while there is room."""
        carm = carm or self.carm
        key = (reading.name, scale.intrinsics, scale.renderer.volume.shape_ijk, carm)
        if key not in self._kept:
            self._kept[key] = make_templates(
                scale, reading.model, reading.corners_patient, _grid(reading, carm, _length(scale.intrinsics))
            )
            while len(self._kept) > 1 and sum(one.n_bytes for one in self._kept.values()) > MAXIMUM_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _searched_scale(scales: ImageScales) -> Scale:
    """The scale at which views are compared."""
    size = max(scales.image.intrinsics.width, scales.image.intrinsics.height)
    too_large = size / scales.factor(SEARCHED_PX) / SEARCHED_IMAGE_PX
    return scales.scale(round(SEARCHED_PX / max(too_large, 1.0)), None, coarse=True)


def _grid(reading: CTReading, carm: CarmRange, length: int) -> ViewGrid:
    """The grid at the finest step at which an X-ray is compared no more often than transforms of a length allow."""
    step_deg = STEP_DEG
    maximum = MAXIMUM_COMPARISONS * min(1.0, (COMPARED_LENGTH / length) ** 2)
    n_aims = len(aim_points(reading.renderers.volume))
    while count_comparisons(n_aims, carm, step_deg) > maximum:
        step_deg *= 1.1
    return view_grid(reading.renderers.volume, carm, step_deg)


def make_templates(scale: Scale, model: ObjectModel, corners_patient: Float[Tensor, "8 3"], grid: ViewGrid) -> Templates:
    """Render the CT, whose box has the given corners, from all views of a grid."""
    camera = scale.intrinsics
    low, high = projected_box(corners_patient, grid.camera_from_patient, camera)
    reach = torch.maximum(high - torch.tensor([camera.cx, camera.cy]), torch.tensor([camera.cx, camera.cy]) - low)
    half_u, half_v = (min(math.ceil(float(r)), _side(camera) - 1) for r in reach)
    wide = CameraIntrinsics(2 * half_u + 1, 2 * half_v + 1, camera.fx, camera.fy, half_u, half_v)
    blank = torch.ones(1, wide.height, wide.width)
    whole = Scale(scale.renderer, wide, blank, blank, scale.extent, scale.margin_px)
    length = _length(camera)
    objective = PoseObjective(whole, model, GradientNCC())
    spectra = [_template_spectra(objective, part, length) for part in _parts(grid)]
    return Templates(grid, torch.cat(spectra), (half_u, half_v), length)


def _parts(grid: ViewGrid) -> Iterator[RigidTransform]:
    poses = grid.camera_from_patient
    for begin in range(0, len(poses.translation), RENDERED_AT_ONCE):
        yield poses[begin : begin + RENDERED_AT_ONCE]


def _template_spectra(objective: PoseObjective, poses: RigidTransform, length: int) -> Tensor:
    seen = objective.evaluate(poses)
    weight = objective.weight(seen)
    gradients = sobel_gradients(seen.moving[:, None])[:, 0] * weight[:, None]
    images = torch.cat([gradients, gradients.square().sum(1, keepdim=True), weight[:, None]], dim=1)
    return torch.fft.rfft2(images, s=(length, length))


def _side(camera: CameraIntrinsics) -> int:
    """The side of a square that holds the rotated image: odd, so that the optical axis is a pixel as in the templates."""
    return math.ceil(math.hypot(camera.width, camera.height)) | 1


def rotated(scale: Scale, roll_deg: float) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """The X-ray and its usable pixels, rotated back by `roll_deg` about the optical axis, which becomes the middle."""
    camera = scale.intrinsics
    side = _side(camera)
    v, u = torch.meshgrid(torch.arange(side) - (side - 1) / 2, torch.arange(side) - (side - 1) / 2, indexing="ij")
    cos, sin = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
    x, y = cos * u - sin * v + camera.cx, sin * u + cos * v + camera.cy
    where = torch.stack([2 * (x + 0.5) / camera.width - 1, 2 * (y + 0.5) / camera.height - 1], dim=-1)[None]
    fixed = torch.nn.functional.grid_sample(scale.fixed[None], where.float(), padding_mode="border", align_corners=False)
    usable = torch.nn.functional.grid_sample(scale.usable[None], where.float(), align_corners=False)
    return fixed[0, 0], eroded(usable[0, 0] > 0.99)[0]


def best_shifts(
    templates: Templates, fixed: Float[Tensor, "side side"], usable: Float[Tensor, "side side"], camera: CameraIntrinsics
) -> tuple[RigidTransform, Float[Tensor, "views"]]:
    """Every view of the grid, turned about the source to each of its best shifts, and the evidence there."""
    f = sobel_gradients(fixed[None, None])[0, 0]
    limit = f[:, usable > 0].abs().flatten().quantile(CLIP) if bool(usable.any()) else torch.tensor(0.0)
    f = f.clamp(-limit, limit) * usable
    image = torch.cat([f, f.square().sum(0, keepdim=True), usable[None]])
    spectra = torch.fft.rfft2(image, s=(templates.length, templates.length))
    found = [_best_pixels(spectra, part, len(fixed), templates) for part in templates.spectra.split(COMPARED_AT_ONCE)]
    evidence, pixel = torch.cat([one for one, _ in found]), torch.cat([one for _, one in found])
    slopes = (pixel - len(fixed) // 2).double() / torch.tensor([camera.fx, camera.fy], dtype=torch.float64)
    views = torch.arange(len(evidence)).repeat_interleave(PEAKS)
    return _turned(_towards(slopes.flatten(0, 1)), templates.grid.camera_from_patient[views]), evidence.flatten()


def _best_pixels(
    image: Complex[Tensor, "4 length half_length"],
    views: Complex[Tensor, "views 4 length half_length"],
    side: int,
    templates: Templates,
) -> tuple[Float[Tensor, "views peaks"], Float[Tensor, "views peaks 2"]]:
    """The peaks of the evidence over all pixels of the image to which the aim of the C-arm may move, and their pixels (u, v).

    A view with fewer peaks than `PEAKS` has others without evidence.
    """
    f_columns, f_rows, f_squared, used = image.conj()
    m_columns, m_rows, m_squared, weights = views.unbind(1)
    u, v = ((centre - torch.arange(side)) % templates.length for centre in templates.centre)  # the offset for each pixel

    def correlation(spectra: Tensor) -> Tensor:
        rows = torch.fft.ifft(spectra, dim=-2)[:, v]
        return torch.fft.irfft(rows, n=templates.length, dim=-1)[..., u]

    product = correlation(f_columns * m_columns + f_rows * m_rows)
    energies = correlation(f_squared * weights), correlation(used * m_squared)
    overlap = correlation(used * weights)
    r = (product / (energies[0] * energies[1]).clamp_min(1e-12).sqrt()).clamp(0.0, 0.999)
    evidence = -0.5 * overlap * torch.log1p(-r.square())
    for support, minimum in ((overlap, MINIMUM_OVERLAP), (energies[0], MINIMUM_ENERGY), (energies[1], MINIMUM_ENERGY)):
        evidence = evidence.masked_fill(support < minimum * support.flatten(1).amax(-1)[:, None, None], 0.0)
    is_peak = evidence == torch.nn.functional.max_pool2d(evidence[:, None], PEAK_PX, stride=1, padding=PEAK_PX // 2)[:, 0]
    best, index = (evidence * is_peak).flatten(1).topk(PEAKS)
    return best, torch.stack([index % side, index // side], dim=-1).float()


def _turned(rotation: Float[Tensor, "*batch 3 3"], poses: RigidTransform) -> RigidTransform:
    """The poses after the camera has turned about the source."""
    return RigidTransform(rotation @ poses.rotation, (rotation @ poses.translation[..., None]).squeeze(-1))


def _towards(slopes: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 3 3"]:
    """The smallest rotations that turn the optical axis to the rays (slopes, 1)."""
    length = slopes.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    axis = torch.stack([-slopes[:, 1], slopes[:, 0], torch.zeros_like(slopes[:, 0])], dim=-1) / length
    return so3.exp(torch.atan(length) * axis)


def _length(camera: CameraIntrinsics) -> int:
    """The length of the transforms; longer ones would only hold shifts that move the aim out of the image."""
    return _fast_length(2 * _side(camera) - 1)


def _fast_length(length: int) -> int:
    """The next length whose only prime factors are 2, 3 and 5."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
