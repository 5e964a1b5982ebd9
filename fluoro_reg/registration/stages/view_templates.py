"""Templates: a CT, rendered from many views, and the comparison of an X-ray with all of them over all shifts.

The Fourier transforms of the templates are kept, so that an X-ray costs one transform for each rotation of it, and a product
for each view. The masked correlation of gradients over all shifts is that of `stages.search`. Views at their best shifts have
evidence, as everywhere: a long edge that fits counts for more than a short one that fits better.

A shift of the image by many pixels is not a translation of the patient, who would then be seen from another side. It is a
rotation of the camera about the source, which leaves the rays through the CT as they are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from fluoro_reg.carm.view_grid import ViewGrid
from fluoro_reg.geometry import CameraIntrinsics, RigidTransform, so3
from fluoro_reg.registration.stages.masks import eroded
from fluoro_reg.registration.stages.object_model import ObjectModel
from fluoro_reg.registration.stages.objective import PoseObjective, Scale
from fluoro_reg.registration.stages.scales import projected_box
from fluoro_reg.registration.stages.view_kernels import find_peaks
from fluoro_reg.rendering.threads import parallel_for
from fluoro_reg.similarity import GradientNCC
from fluoro_reg.similarity.gradient_ncc import sobel_gradients

PEAKS, PEAK_PX = 3, 5  # of the evidence over all pixels, for every view: highest within so many pixels; vertebrae look alike
CLIP = 0.98  # quantile at which gradients of the X-ray are clipped, as in gradient NCC
MINIMUM_OVERLAP = 0.25  # fraction of the largest over all shifts
MINIMUM_ENERGY = 0.02  # of gradients in the overlap, likewise; the outline of a body holds far more than its inside
RENDERED_AT_ONCE = 64  # views
COMPARED_AT_ONCE = 250_000  # pixels of transformed views: they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Templates:
    """The rendered views, transformed.

    `edges` are the conjugate transforms of their gradients along columns and rows, `supports` those of their squared gradients
    and weights. `centre` is the pixel (u, v) of the optical axis, `length` the height and width of the transformed images.

    Correlations of a support of the X-ray with one of a view are smooth where the view's weights are those of a large region,
    as of a whole body. They are then computed at every second shift (`every` 2), from the lower frequencies of `supports`.
    """

    grid: ViewGrid
    edges: Complex[Tensor, "views 2 length half_length"]
    supports: Complex[Tensor, "views 2 support_length half_support_length"]
    centre: tuple[int, int]
    length: int
    every: int

    @property
    def n_bytes(self) -> int:
        return sum(spectra.numel() * spectra.element_size() for spectra in (self.edges, self.supports))


def make_templates(scale: Scale, model: ObjectModel, corners_patient: Float[Tensor, "8 3"], grid: ViewGrid) -> Templates:
    """Render the CT, whose box has the given corners, from all views of a grid."""
    camera = scale.intrinsics
    low, high = projected_box(corners_patient, grid.camera_from_patient, camera)
    reach = torch.maximum(high - torch.tensor([camera.cx, camera.cy]), torch.tensor([camera.cx, camera.cy]) - low)
    half_u, half_v = (min(math.ceil(float(r)), _side(camera) - 1) for r in reach)
    wide = CameraIntrinsics(2 * half_u + 1, 2 * half_v + 1, camera.fx, camera.fy, half_u, half_v)
    blank = torch.ones(1, wide.height, wide.width)
    whole = replace(scale, intrinsics=wide, fixed=blank, usable=blank)
    length = transform_length(camera)
    objective = PoseObjective(whole, model, GradientNCC())
    every = 2 if model.compared == "body" else 1
    spectra = [_template_spectra(objective, part, length, every) for part in _parts(grid)]
    edges, supports = (torch.cat(parts) for parts in zip(*spectra, strict=True))
    return Templates(grid, edges, supports, (half_u, half_v), length, every)


def _parts(grid: ViewGrid) -> Iterator[RigidTransform]:
    poses = grid.camera_from_patient
    for begin in range(0, len(poses.translation), RENDERED_AT_ONCE):
        yield poses[begin : begin + RENDERED_AT_ONCE]


def _template_spectra(objective: PoseObjective, poses: RigidTransform, length: int, every: int) -> tuple[Tensor, Tensor]:
    seen = objective.images(poses)
    weight = objective.weight(seen)
    gradients = sobel_gradients(seen.moving[:, None])[:, 0] * weight[:, None]
    edges, supports = _spectra(gradients, gradients.square().sum(1), weight, length, every)
    return edges.conj().resolve_conj(), supports.conj().resolve_conj()


def _spectra(
    gradients: Float[Tensor, "*batch 2 height width"],
    squared: Float[Tensor, "*batch height width"],
    weight: Float[Tensor, "*batch height width"],
    length: int,
    every: int,
) -> tuple[Complex[Tensor, "*batch 2 length half_length"], Complex[Tensor, "*batch 2 support_length half_support_length"]]:
    """The transforms of gradients, and those of squared gradients and weights for correlations at every such shift."""
    supports = torch.fft.rfft2(torch.stack([squared, weight], dim=-3), s=(length, length))
    if every == 2:
        quarter = length // 4
        supports = torch.cat([supports[..., :quarter, : quarter + 1], supports[..., -quarter:, : quarter + 1]], dim=-2)
    return torch.fft.rfft2(gradients, s=(length, length)), supports / every  # a product of two sums fewer frequencies


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
    templates: Templates,
    fixed: Float[Tensor, "side side"],
    usable: Float[Tensor, "side side"],
    camera: CameraIntrinsics,
    views: Int[Tensor, "n"] | None = None,
) -> tuple[RigidTransform, Float[Tensor, "found"]]:
    """Every view of the grid, or some, turned about the source to each of its best shifts, and the evidence there."""
    n_views = len(templates.edges) if views is None else len(views)
    f = sobel_gradients(fixed[None, None])[0, 0]
    limit = f[:, usable > 0].abs().flatten().quantile(CLIP) if bool(usable.any()) else torch.tensor(0.0)
    f = f.clamp(-limit, limit) * usable
    longer, (centre_u, centre_v) = templates.length - len(fixed), templates.centre
    padded = torch.nn.functional.pad(torch.cat([f, f.square().sum(0, keepdim=True), usable[None]]), (0, longer, 0, longer))
    padded = padded.roll((centre_v, centre_u), (-2, -1))  # so that the first shift moves the aim to the first pixel
    image = _spectra(padded[:2], padded[2], padded[3], templates.length, templates.every)
    evidence = np.empty((n_views, PEAKS), np.float32)
    peaks = np.empty((n_views, PEAKS, 2), np.float32)

    at_once = max(1, COMPARED_AT_ONCE // templates.length**2)

    def find(first: int, last: int) -> None:
        for begin in range(first * at_once, min(last * at_once, n_views), at_once):
            part = slice(begin, begin + at_once)
            chosen = part if views is None else views[part]  # a slice copies nothing
            of_views = templates.edges[chosen], templates.supports[chosen]
            _find_peaks(image, of_views, len(fixed), templates, evidence[part], peaks[part])

    parallel_for(find, math.ceil(n_views / at_once))
    found = torch.arange(n_views) if views is None else views
    pixel = torch.from_numpy(peaks)
    slopes = (pixel - len(fixed) // 2).double() / torch.tensor([camera.fx, camera.fy], dtype=torch.float64)
    poses = turned(_towards(slopes.flatten(0, 1)), templates.grid.camera_from_patient[found.repeat_interleave(PEAKS)])
    return poses, torch.from_numpy(evidence).flatten()


def _find_peaks(
    image: tuple[Complex[Tensor, "2 length half_length"], Complex[Tensor, "2 support_length half_support_length"]],
    views: tuple[Complex[Tensor, "views 2 length half_length"], Complex[Tensor, "views 2 support_length half_support_length"]],
    side: int,
    templates: Templates,
    evidence: Float[np.ndarray, "views peaks"],
    pixel: Float[np.ndarray, "views peaks 2"],
) -> None:
    """Write the peaks of the evidence over all pixels of the image to which the aim of the C-arm may move, and these (u, v).

    A view with fewer peaks than `PEAKS` has others without evidence.
    """
    (f_edges, (f_squared, used)), m_edges, (m_squared, weights) = image, views[0], views[1].unbind(1)
    every, length = templates.every, templates.length
    product = torch.addcmul(f_edges[0] * m_edges[:, 0], f_edges[1], m_edges[:, 1])
    n_shifts = side // every + every - 1
    supports = [_at_shifts(one, n_shifts, length // every) for one in (used * weights, f_squared * weights, used * m_squared)]
    highest = torch.stack([one[..., :n_shifts].amax((1, 2)) for one in supports])
    least = (highest * torch.tensor([MINIMUM_OVERLAP, MINIMUM_ENERGY, MINIMUM_ENERGY])[:, None]).numpy()
    sums = (one.numpy() for one in (_at_shifts(product, side, length), *supports))
    find_peaks(*sums, every, least, side, PEAK_PX // 2, evidence, pixel)


def _at_shifts(
    spectra: Complex[Tensor, "views length half_length"], side: int, length: int
) -> Float[Tensor, "views side length"]:
    """The correlations at the first `side` shifts of the rows."""
    return torch.fft.irfft(torch.fft.ifft(spectra, dim=-2)[:, :side], n=length, dim=-1)


def turned(rotation: Float[Tensor, "*batch 3 3"], poses: RigidTransform) -> RigidTransform:
    """The poses after the camera has turned about the source."""
    return RigidTransform(rotation @ poses.rotation, (rotation @ poses.translation[..., None]).squeeze(-1))


def _towards(slopes: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 3 3"]:
    """The smallest rotations that turn the optical axis to the rays (slopes, 1)."""
    length = slopes.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    axis = torch.stack([-slopes[:, 1], slopes[:, 0], torch.zeros_like(slopes[:, 0])], dim=-1) / length
    return so3.exp(torch.atan(length) * axis)


def transform_length(camera: CameraIntrinsics) -> int:
    """The length of the transforms; longer ones would only hold shifts that move the aim out of the image."""
    return 4 * _fast_length(math.ceil((2 * _side(camera) - 1) / 4))


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
