"""The search for a pose over all views of a C-arm, without an initial pose.

The CT is rendered once for every view of a grid. An X-ray is compared with all of these templates at once (`view_templates`).
The steps of a grid of all directions are longer than Levenberg-Marquardt reaches from most views. There, few pixels tell more
than many, and the best views approach the X-ray before they are handed over (`view_approach`). The thin edges of bone fit many
views with few pixels, and none between those of the grid with many. Where bone is compared alone, views that are not far behind
the best are therefore compared again with more pixels, and the best of both comparisons approach.

A quick search has steps as long and pixels as few as usually suffice. Where no pose stands out, a thorough one follows.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fluoro_reg.carm.aim import aim_points
from fluoro_reg.carm.range import CarmRange
from fluoro_reg.carm.view_grid import ViewGrid, count_comparisons, view_grid
from fluoro_reg.geometry import RigidTransform, so3
from fluoro_reg.registration.stages.ct_readings import CTReading
from fluoro_reg.registration.stages.objective import Scale
from fluoro_reg.registration.stages.pose_metric import PoseMetric
from fluoro_reg.registration.stages.scales import ImageScales
from fluoro_reg.registration.stages.solver import HOPELESS, RIVAL_MM
from fluoro_reg.registration.stages.view_approach import Compared, approach
from fluoro_reg.registration.stages.view_templates import (
    PEAKS,
    Templates,
    best_shifts,
    make_templates,
    rotated,
    transform_length,
    turned,
)
from fluoro_reg.xray.preprocessing.preprocess import Preprocessed

DEFAULT_RANGE = "ap-pa"
SCANNED, SCANNED_BONE = 0.6, 0.8  # of the pixels are enough where views approach the X-ray
SEARCHED_IMAGE = 2.5  # times as many pixels across the image at most: an implant in a large one is searched with fewer across
STEP_DEG = 10.0  # between neighbouring views, at least; Levenberg-Marquardt reaches half of it
COMPARED_LENGTH = 128  # px, of transforms that these hold for; of longer ones there are fewer, in proportion to their area
FINER = 1.5  # times as many pixels where bone is compared again
COMPARED_AGAIN, MAXIMUM_AGAIN = 0.25, 4000  # of the best evidence, of a rotation and a view; so many of them at most
DISTANCE_MARGIN = 1.25  # by which the distance to the CT's middle may leave the range, which is that to what is looked at
KEEP = 16  # hypotheses at most, apart by a pixel; those with less than `HOPELESS` of the best evidence are dropped
KEEP_RIVALS = 12  # besides these, the best that are `RIVAL_MM` apart: the 16 may all lead to one pose
MAXIMUM_BYTES, MAXIMUM_GRIDS = 1_000_000_000, 16  # of templates and of grids that are kept
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Effort:
    """How views are searched.

    `object_px` are the pixels across the CT's projection or the image, whichever is smaller. An X-ray is compared with a
    template `comparisons` times at most; a wide range takes longer steps.
    """

    object_px: int
    comparisons: int


QUICK, THOROUGH = Effort(32, 36_000), Effort(48, 144_000)


@dataclass(slots=True)
class ViewSearch:
    """Searches X-rays for the view that they show. Templates are kept for the CT, the camera and the scale."""

    carm: CarmRange
    metric: PoseMetric
    _kept: OrderedDict[tuple[object, ...], Templates] = field(default_factory=OrderedDict)
    _grids: OrderedDict[tuple[object, ...], ViewGrid] = field(default_factory=OrderedDict)

    def find(
        self, reading: CTReading, prepared: Preprocessed, parts: Sequence[CarmRange] = (), effort: Effort = QUICK
    ) -> RigidTransform:
        """Return distinct poses that may explain an X-ray, `camera_from_patient`, the likeliest first.

        With `parts`, only these ranges are searched instead of the whole one.
        """
        scales = reading.scales(prepared, self.carm.central_view(reading.model.pivot))
        object_px = _searched_px(scales, effort)
        found = [self._found(reading, scales, object_px, carm, effort) for carm in parts or [self.carm]]
        poses, evidence = RigidTransform.cat([one.poses for one in found]), torch.cat([one.evidence for one in found])
        if (in_range := self._is_in_range(poses, reading.model.pivot)).any():
            poses, evidence = poses[in_range], evidence[in_range]
        pixel_mm = scales.pixel_mm(scales.from_afar(object_px).intrinsics)
        order = evidence.argsort(descending=True)
        order = order[evidence[order] >= HOPELESS * evidence[order[0]]]
        rows = self.metric.distinct(poses, order, pixel_mm, KEEP)
        rivals = self.metric.distinct(poses, order, RIVAL_MM, KEEP_RIVALS)
        return poses[torch.tensor(list(dict.fromkeys([*rows, *rivals])), dtype=torch.int64)]

    def _found(self, reading: CTReading, scales: ImageScales, object_px: int, carm: CarmRange, effort: Effort) -> Compared:
        """The views of one range at their best shifts and the evidence there; the best after an approach.

        There is none where the steps of the grid are short and more than bone is compared. Where bone is, the views that are
        best with few pixels and those that are best with many both approach.
        """
        is_bone = reading.model.local_mm > 0
        grid = self._grid(reading, carm, transform_length(scales.from_afar(object_px).intrinsics), effort)

        def compared(px: int, begin: Compared | None = None) -> Compared:
            scale = scales.from_afar(px)
            templates = self.templates(reading, scale, carm, grid, effort)
            return compare(templates, scale, None if begin is None else _best_pairs(grid, begin.evidence))

        if grid.step_deg <= STEP_DEG and not is_bone:
            return compared(object_px)
        scanned = compared(round((SCANNED_BONE if is_bone else SCANNED) * object_px))
        if not is_bone:
            coarser_px = object_px // 2 if reading.model.roi == "full" else object_px
            return approach(scales, (coarser_px, object_px), self.metric, [scanned])
        finer_px = round(FINER * object_px)
        return approach(scales, (object_px, finer_px), self.metric, [scanned, compared(finer_px, scanned)])

    def _grid(self, reading: CTReading, carm: CarmRange, length: int, effort: Effort) -> ViewGrid:
        """The grid at the finest step at which an X-ray is compared no more often than transforms of a length allow."""
        key = (reading.name, carm, length, effort)
        if key not in self._grids:
            maximum = effort.comparisons * min(1.0, (COMPARED_LENGTH / length) ** 2)
            n_aims, step_deg = len(aim_points(reading.renderers.volume)), STEP_DEG
            while count_comparisons(n_aims, carm, step_deg) > maximum:
                step_deg *= 1.1
            self._grids[key] = view_grid(reading.renderers.volume, carm, step_deg)
            if len(self._grids) > MAXIMUM_GRIDS:  # the angles of each header give other ranges
                self._grids.popitem(last=False)
        return self._grids[key]

    def _is_in_range(self, poses: RigidTransform, pivot_patient: Float[Tensor, "3"]) -> Bool[Tensor, "n"]:
        """Whether the CT is about as far from the source as the range says, and not where the approach has driven it."""
        nearest, farthest = self.carm.interval("source_to_object_mm")
        depth_mm = poses.apply(pivot_patient[None])[:, 0, 2]
        return (depth_mm > nearest / DISTANCE_MARGIN) & (depth_mm < farthest * DISTANCE_MARGIN)

    def templates(self, reading: CTReading, scale: Scale, carm: CarmRange, grid: ViewGrid, effort: Effort = QUICK) -> Templates:
        """The templates for a camera and the grid of a range, made once and kept while there is room.

        Where there is none, those of thorough searches go first, then those that were not used for the longest time.
        """
        key = (reading.name, scale.intrinsics, scale.renderer.volume.shape_ijk, carm, grid.step_deg)
        if (made := self._kept.get(key)) is None:
            self._kept[key] = made = make_templates(scale, reading.model, reading.corners_patient, grid)
            views = f"{len(grid.camera_from_patient.translation)} views of the {reading.name}, {grid.step_deg:.0f} deg apart"
            _LOG.info("templates for a search: %s, %.0f MB", views, made.n_bytes / 1e6)
        self._kept.move_to_end(key, last=effort is not THOROUGH)
        while len(self._kept) > 1 and sum(one.n_bytes for one in self._kept.values()) > MAXIMUM_BYTES:
            self._kept.popitem(last=False)
        return made


def compare(templates: Templates, scale: Scale, pairs: Bool[Tensor, "rolls views"] | None = None) -> Compared:
    """Every view of a grid at its best shifts for every rotation of the image, and the evidence there; or only `pairs`."""
    found, evidence = [], []
    for number, roll_deg in enumerate(templates.grid.roll_deg):
        chosen = None if pairs is None else pairs[number].nonzero().squeeze(-1)
        shifted, values = best_shifts(templates, *rotated(scale, roll_deg), scale.intrinsics, chosen)
        found.append(turned(so3.exp(torch.tensor([0.0, 0.0, math.radians(roll_deg)], dtype=torch.float64)), shifted))
        evidence.append(values)
    return Compared(RigidTransform.cat(found), torch.cat(evidence))


def _best_pairs(grid: ViewGrid, evidence: Float[Tensor, "n"]) -> Bool[Tensor, "rolls views"]:
    """The rotations and views that are compared again."""
    best = evidence.reshape(len(grid.roll_deg), -1, PEAKS).amax(-1)
    limit = best.flatten().topk(min(MAXIMUM_AGAIN, best.numel())).values[-1]
    return best >= limit.clamp_min(COMPARED_AGAIN * float(best.max()))


def _searched_px(scales: ImageScales, effort: Effort) -> int:
    """The pixels across the CT's projection at which views are compared."""
    size = max(scales.image.intrinsics.width, scales.image.intrinsics.height)
    too_large = size / scales.factor(effort.object_px) / (SEARCHED_IMAGE * effort.object_px)
    return round(effort.object_px / max(too_large, 1.0))
