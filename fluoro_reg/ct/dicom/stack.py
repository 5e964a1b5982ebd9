"""Where the slices of a series lie: their order, their steps, the affine of the grid that carries them.

Order and place come from ImagePositionPatient alone, never from InstanceNumber, SliceLocation or file names. A tilted gantry
moves each slice sideways by the same amount; the third column of the affine is the step between slices as it is, sheared or
not, and nothing is resampled for it. Uneven steps come in two kinds. A slice that is missing leaves one step much longer than
both its neighbours, and is refused: what was there is not known. A scan that changes its step (thin through the skull's base,
thick above) has runs of equal steps; its slices stay at their true positions and are interpolated linearly along the stack
onto a fine uniform grid. A uniform grid of the mean step, which common readers return, is wrong by centimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from fluoro_reg.ct.dicom.series import MIN_SLICES
from fluoro_reg.ct.dicom.slices import CTSlice
from fluoro_reg.errors import InputError

STEP_TOLERANCE = 0.01  # of the step: how far a slice of a uniform series may lie from its place
_SAME_PLACE_MM = 1e-3
_SIDEWAYS_MM = 0.1
_TILT_DEG = 0.1
_UNTILTED_DEG = 0.5
_GAP_FACTOR = 1.5  # a missing slice doubles a step; a change of step within a scan is seen in more than two steps
_RUN = 3


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in order along their normal; several at one place are duplicates of each other. `offsets` [k] are their true
    places along the stack in mm; `grid_offsets` those of the uniform grid that `patient_from_voxel` describes."""

    places: list[list[CTSlice]]
    offsets: Float64[np.ndarray, "places"]
    grid_offsets: Float64[np.ndarray, "grid"]
    patient_from_voxel: Float64[np.ndarray, "4 4"]
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the uniform grid [k, j, i]."""
        first = self.places[0][0]
        return len(self.grid_offsets), first.rows, first.columns

    def on_grid(self, planes: Float32[np.ndarray, "places rows columns"]) -> Float32[np.ndarray, "grid rows columns"]:
        """Slices at their true places, interpolated linearly along the stack onto the uniform grid."""
        if len(self.grid_offsets) == len(self.offsets) and np.array_equal(self.grid_offsets, self.offsets):
            return planes
        result = np.empty((len(self.grid_offsets), *planes.shape[1:]), dtype=np.float32)
        below = np.clip(np.searchsorted(self.offsets, self.grid_offsets, side="right") - 1, 0, len(self.offsets) - 2)
        shares = (self.grid_offsets - self.offsets[below]) / (self.offsets[below + 1] - self.offsets[below])
        for plane, k, share in zip(result, below, shares.astype(np.float32), strict=True):
            plane[...] = planes[k] + share * (planes[k + 1] - planes[k])
        return result


def stack_slices(slices: Sequence[CTSlice]) -> Stack:
    """Orders the slices of one series and finds the affine that carries them.

    Raises:
        InputError: too few slices, all at one place, a missing slice, slices beside each other: named, with how much.
    """
    places, heights = _places(slices)
    first, last = places[0][0], places[-1][0]
    slope = (last.position - first.position) / (heights[-1] - heights[0])
    _check_sideways(places, slope)
    offsets = (heights - heights[0]) * float(np.linalg.norm(slope))
    direction = slope / np.linalg.norm(slope)
    warnings = _tilt_warnings(first, direction)
    uniform = np.linspace(0, offsets[-1], len(offsets))
    grid_offsets = offsets
    if np.abs(offsets - uniform).max() > STEP_TOLERANCE * uniform[1]:
        _check_gaps(offsets, places)
        grid_offsets = _fine_grid(offsets)
        steps, runs = grid_offsets[1], _described_steps(np.diff(offsets))
        warnings.append(f"uneven slice steps ({runs}): interpolated from their true positions onto steps of {steps:.2f} mm")
    duplicates = len(slices) - len(places)
    if duplicates:
        warnings.append(f"{duplicates} duplicate slices with identical pixels were left out")
    step = direction * offsets[-1] / (len(grid_offsets) - 1)
    return Stack(places, offsets, grid_offsets, _affine(first, step), tuple(warnings))


def _places(slices: Sequence[CTSlice]) -> tuple[list[list[CTSlice]], Float64[np.ndarray, "places"]]:
    """Slices in order of height along the normal, those at one height together."""
    if len(slices) < MIN_SLICES:
        count = "one slice is" if len(slices) == 1 else f"{len(slices)} slices are"
        raise InputError(f"{count} not a volume; give the folder with the whole series, at least {MIN_SLICES} slices")
    normal = slices[0].normal
    heights = np.array([item.position @ normal for item in slices])
    order = np.argsort(heights, kind="stable")
    heights, ordered = heights[order], [slices[index] for index in order]
    steps = np.diff(heights)
    if not (steps > _SAME_PLACE_MM).any():
        raise InputError(
            f"all {len(slices)} slices lie at one place, so they are no volume; give a series that covers the body"
        )
    same_place = max(_SAME_PLACE_MM, STEP_TOLERANCE * float(np.median(steps[steps > _SAME_PLACE_MM])))
    starts = np.concatenate([[0], np.flatnonzero(steps > same_place) + 1])
    ends = [*starts[1:], len(ordered)]
    places = [ordered[start:end] for start, end in zip(starts, ends, strict=True)]
    if len(places) < MIN_SLICES:
        raise InputError(f"the {len(slices)} slices lie at only {len(places)} places; at least {MIN_SLICES} make a volume")
    return places, heights[starts]


def _check_sideways(places: list[list[CTSlice]], slope: Float64[np.ndarray, "3"]) -> None:
    """Slices must follow one straight line, tilted or not."""
    origin, normal = places[0][0].position, places[0][0].normal
    for number, place in enumerate(places, start=1):
        for item in place:
            moved = item.position - origin
            aside = float(np.linalg.norm(moved - slope * (moved @ normal)))
            if aside > max(_SIDEWAYS_MM, STEP_TOLERANCE * float(np.linalg.norm(slope))):
                raise InputError(
                    f"slice {number} of {len(places)} lies {aside:.2f} mm beside the line of the others; give one acquisition"
                )


def _tilt_warnings(first: CTSlice, direction: Float64[np.ndarray, "3"]) -> list[str]:
    tilt = float(np.degrees(np.arccos(np.clip(direction @ first.normal, -1, 1))))
    if tilt > _TILT_DEG:
        return [f"tilted gantry: the stack leans {tilt:.1f} degrees, carried exactly as a sheared grid"]
    if abs(first.stated_tilt) > 1.0 and np.abs(first.normal).max() > np.cos(np.radians(_UNTILTED_DEG)):
        return [f"the header states a gantry tilt of {first.stated_tilt:.1f} degrees, which the slice positions do not show"]
    return []


def _check_gaps(offsets: Float64[np.ndarray, "places"], places: list[list[CTSlice]]) -> None:
    runs = _runs(np.diff(offsets))
    after = 0
    for index, (step, count) in enumerate(runs):
        beside = [runs[near][0] for near in (index - 1, index + 1) if 0 <= near < len(runs)]
        if count < _RUN and step > _GAP_FACTOR * max(beside):
            before, behind = places[after][0].position, places[after + 1][0].position
            axis = int(np.abs(behind - before).argmax())
            where = f"{'xyz'[axis]} = {before[axis]:.2f} and {behind[axis]:.2f} mm"
            raise InputError(
                f"slices are missing: a step of {step:.2f} mm between slices {after + 1} and {after + 2} of {len(places)} "
                f"({where}) beside steps of {max(beside):.2f} mm; give the complete series"
            )
        after += count


def _runs(steps: Float[np.ndarray, "steps"]) -> list[tuple[float, int]]:
    """Equal steps in a row as (step, how many); equal within the tolerance of the first of them."""
    starts = [0]
    for index in range(1, len(steps)):
        start = steps[starts[-1]]
        if abs(steps[index] - start) > STEP_TOLERANCE * start:
            starts.append(index)
    ends = [*starts[1:], len(steps)]
    return [(float(np.mean(steps[a:b])), b - a) for a, b in zip(starts, ends, strict=True)]


def _described_steps(steps: Float[np.ndarray, "steps"]) -> str:
    runs = _runs(steps)
    if len(runs) > 6:
        return f"{steps.min():.2f} to {steps.max():.2f} mm"
    return ", ".join(f"{count} x {step:.2f}" for step, count in runs) + " mm"


def _fine_grid(offsets: Float64[np.ndarray, "places"]) -> Float64[np.ndarray, "grid"]:
    """As fine as the finest step, but not finer than a quarter of the usual one, where two slices happen to lie close."""
    steps = np.diff(offsets)
    step = max(float(steps.min()), float(np.median(steps)) / 4)
    return np.linspace(0, offsets[-1], int(np.ceil(offsets[-1] / step - 1e-6)) + 1)


def _affine(first: CTSlice, step: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "4 4"]:
    patient_from_voxel = np.eye(4)
    patient_from_voxel[:3, 0] = first.column_direction * first.column_spacing
    patient_from_voxel[:3, 1] = first.row_direction * first.row_spacing
    patient_from_voxel[:3, 2] = step
    patient_from_voxel[:3, 3] = first.position
    return patient_from_voxel
