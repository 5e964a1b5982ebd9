"""The geometry of a series: the order of its slices, their spacing, and the affine of the grid that contains them.

Order and position come from ImagePositionPatient only, never from InstanceNumber, SliceLocation or file names. A tilted gantry
moves each slice sideways by the same amount. The third column of the affine is the actual step between slices, sheared or not,
so that a tilted series is not resampled.

Uneven steps have two causes. A missing slice leaves one step much longer than both its neighbours. Such a series is rejected,
because the missing content is unknown. A scan that changes its step (thin through the base of the skull, thick above) has runs
of equal steps. Its slices are interpolated linearly from their true positions onto a fine uniform grid. A uniform grid of the
mean step, which common readers return, is wrong by centimetres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64

from fluoro_reg.ct.dicom.series import MIN_SLICES
from fluoro_reg.ct.dicom.slices import CTSlice
from fluoro_reg.ct.dicom.statements import pixel_spacing_warnings, step_warnings
from fluoro_reg.errors import InputError

STEP_TOLERANCE = 0.01  # of the step: how far a slice of a uniform series may be from its nominal position
_SAME_POSITION_MM = 1e-3
_LATERAL_TOLERANCE_MM = 0.1
_MINIMUM_TILT_DEG = 0.1
_MAXIMUM_UNTILTED_DEG = 0.5
_GAP_FACTOR = 1.5  # a missing slice doubles one step; a scan that changes its step does so for at least _RUN steps
_RUN = 3  # steps


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices ordered along their normal.

    Attributes:
        positions: The slices at each position. Several at one position are duplicates of each other.
        offsets: True position of each slice along the stack, in mm from the first.
        grid_offsets: Positions along the stack of the slices of the uniform grid, in mm from the first.
        patient_from_voxel: Affine of the uniform grid.
        warnings: Sentences for the user.
    """

    positions: list[list[CTSlice]]
    offsets: Float64[np.ndarray, "positions"]
    grid_offsets: Float64[np.ndarray, "grid"]
    patient_from_voxel: Float64[np.ndarray, "4 4"]
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the uniform grid [k, j, i]."""
        first = self.positions[0][0]
        return len(self.grid_offsets), first.rows, first.columns

    def resample(self, planes: Float32[np.ndarray, "positions rows columns"]) -> Float32[np.ndarray, "grid rows columns"]:
        """Interpolate slices linearly along the stack, from their true positions onto the uniform grid."""
        if len(self.grid_offsets) == len(self.offsets) and np.array_equal(self.grid_offsets, self.offsets):
            return planes
        result = np.empty((len(self.grid_offsets), *planes.shape[1:]), dtype=np.float32)
        below = np.clip(np.searchsorted(self.offsets, self.grid_offsets, side="right") - 1, 0, len(self.offsets) - 2)
        fractions = (self.grid_offsets - self.offsets[below]) / (self.offsets[below + 1] - self.offsets[below])
        for plane, k, fraction in zip(result, below, fractions.astype(np.float32), strict=True):
            plane[...] = planes[k] + fraction * (planes[k + 1] - planes[k])
        return result


def stack_slices(slices: Sequence[CTSlice]) -> Stack:
    """Order the slices of one series and compute the affine of its grid.

    Raises:
        InputError: There are too few slices, all have the same position, one is missing, or they do not lie on a line.
    """
    positions, heights = _group_by_position(slices)
    first, last = positions[0][0], positions[-1][0]
    slope = (last.position - first.position) / (heights[-1] - heights[0])
    _check_collinear(positions, slope)
    offsets = (heights - heights[0]) * float(np.linalg.norm(slope))
    direction = slope / np.linalg.norm(slope)
    warnings = [*_tilt_warnings(first, direction), *_statement_warnings(positions, heights)]
    uniform = np.linspace(0, offsets[-1], len(offsets))
    grid_offsets = offsets
    if np.abs(offsets - uniform).max() > STEP_TOLERANCE * uniform[1]:
        _check_gaps(offsets, positions)
        grid_offsets = _fine_grid(offsets)
        steps, runs = grid_offsets[1], _format_steps(np.diff(offsets))
        warnings.append(f"uneven slice steps ({runs}): interpolated from the true positions onto steps of {steps:.2f} mm")
    duplicates = len(slices) - len(positions)
    if duplicates:
        warnings.append(f"{duplicates} duplicate slices with identical pixels were skipped")
    step = direction * offsets[-1] / (len(grid_offsets) - 1)
    return Stack(positions, offsets, grid_offsets, _affine(first, step), tuple(warnings))


def _group_by_position(slices: Sequence[CTSlice]) -> tuple[list[list[CTSlice]], Float64[np.ndarray, "positions"]]:
    """Return the slices at each position and the positions along the normal (mm), in ascending order."""
    if len(slices) < MIN_SLICES:
        count = "one slice is" if len(slices) == 1 else f"{len(slices)} slices are"
        raise InputError(f"{count} not a volume; give the folder of the whole series, at least {MIN_SLICES} slices")
    normal = slices[0].normal
    heights = np.array([item.position @ normal for item in slices])
    order = np.argsort(heights, kind="stable")
    heights, ordered = heights[order], [slices[index] for index in order]
    steps = np.diff(heights)
    if not (steps > _SAME_POSITION_MM).any():
        raise InputError(f"all {len(slices)} slices have the same position; give a series that covers the body")
    same_position = max(_SAME_POSITION_MM, STEP_TOLERANCE * float(np.median(steps[steps > _SAME_POSITION_MM])))
    starts = np.concatenate([[0], np.flatnonzero(steps > same_position) + 1])
    ends = [*starts[1:], len(ordered)]
    positions = [ordered[start:end] for start, end in zip(starts, ends, strict=True)]
    if len(positions) < MIN_SLICES:
        raise InputError(
            f"the {len(slices)} slices have only {len(positions)} positions; give a series with at least {MIN_SLICES}"
        )
    return positions, heights[starts]


def _check_collinear(positions: list[list[CTSlice]], slope: Float64[np.ndarray, "3"]) -> None:
    """Check that the slices lie on one straight line, tilted or not."""
    origin, normal = positions[0][0].position, positions[0][0].normal
    for number, slices in enumerate(positions, start=1):
        for item in slices:
            shift = item.position - origin
            lateral = float(np.linalg.norm(shift - slope * (shift @ normal)))
            if lateral > max(_LATERAL_TOLERANCE_MM, STEP_TOLERANCE * float(np.linalg.norm(slope))):
                raise InputError(
                    f"slice {number} of {len(positions)} is {lateral:.2f} mm off the line of the others; give one acquisition"
                )


def _tilt_warnings(first: CTSlice, direction: Float64[np.ndarray, "3"]) -> list[str]:
    tilt = float(np.degrees(np.arccos(np.clip(direction @ first.normal, -1, 1))))
    if tilt > _MINIMUM_TILT_DEG:
        return [f"tilted gantry: the stack is tilted by {tilt:.1f} degrees and represented exactly by a sheared grid"]
    if abs(first.stated.tilt) > 1.0 and np.abs(first.normal).max() > np.cos(np.radians(_MAXIMUM_UNTILTED_DEG)):
        return [f"the header states a gantry tilt of {first.stated.tilt:.1f} degrees, which the slice positions do not show"]
    return []


def _statement_warnings(positions: list[list[CTSlice]], heights: Float64[np.ndarray, "positions"]) -> list[str]:
    """Compare the geometry with the redundant statements of the headers."""
    firsts = [slices[0] for slices in positions]
    spacing, size = (firsts[0].row_spacing, firsts[0].column_spacing), (firsts[0].rows, firsts[0].columns)
    points = np.array([item.position for item in firsts])
    return [
        *pixel_spacing_warnings(firsts[0].stated, spacing, size),
        *step_warnings([item.stated for item in firsts], heights, points),
    ]


def _check_gaps(offsets: Float64[np.ndarray, "positions"], positions: list[list[CTSlice]]) -> None:
    runs = _runs(np.diff(offsets))
    start = 0
    for index, (step, count) in enumerate(runs):
        neighbours = [runs[near][0] for near in (index - 1, index + 1) if 0 <= near < len(runs)]
        if count < _RUN and step > _GAP_FACTOR * max(neighbours):
            before, after = positions[start][0].position, positions[start + 1][0].position
            axis = int(np.abs(after - before).argmax())
            where = f"{'xyz'[axis]} = {before[axis]:.2f} and {after[axis]:.2f} mm"
            raise InputError(
                f"slices are missing: a step of {step:.2f} mm between slices {start + 1} and {start + 2} of {len(positions)} "
                f"({where}) next to steps of {max(neighbours):.2f} mm; give the complete series"
            )
        start += count


def _runs(steps: Float[np.ndarray, "steps"]) -> list[tuple[float, int]]:
    """Return runs of equal steps as (mean step, number). Steps are equal within the tolerance of the first of a run."""
    starts = [0]
    for index in range(1, len(steps)):
        start = steps[starts[-1]]
        if abs(steps[index] - start) > STEP_TOLERANCE * start:
            starts.append(index)
    ends = [*starts[1:], len(steps)]
    return [(float(np.mean(steps[a:b])), b - a) for a, b in zip(starts, ends, strict=True)]


def _format_steps(steps: Float[np.ndarray, "steps"]) -> str:
    runs = _runs(steps)
    if len(runs) > 6:
        return f"{steps.min():.2f} to {steps.max():.2f} mm"
    return ", ".join(f"{count} x {step:.2f}" for step, count in runs) + " mm"


def _fine_grid(offsets: Float64[np.ndarray, "positions"]) -> Float64[np.ndarray, "grid"]:
    """Return a uniform grid with the smallest step, but at least a quarter of the median step."""
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
