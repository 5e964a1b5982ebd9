"""Constructive solid geometry (CSG) with signed distances on a grid.

A solid gives the distance to its surface in mm, negative inside, exactly or approximately. Unions and differences are applied
in order, each only within the bounding box of its solid, with a smooth fillet (the polynomial minimum of Quilez, "Smooth
minimum", https://iquilezles.org/articles/smin).
"""

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import RectBivariateSpline
from scipy.spatial import cKDTree

FAR_MM = 50.0
_BALL_STEP_MM = 1.8
Point = tuple[float, float, float]
Box = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class SampleGrid:
    """Voxel centres along x, y, z (mm); arrays on the grid are indexed [z, y, x]."""

    x: Float[np.ndarray, "nx"]
    y: Float[np.ndarray, "ny"]
    z: Float[np.ndarray, "nz"]

    def window(self, box: Box, margin: float) -> tuple[slice, slice, slice]:
        """Return the [z, y, x] slices of the voxels inside a box enlarged by a margin (mm)."""
        low, high = box[0] - margin, box[1] + margin
        axes = ((self.x, 0), (self.y, 1), (self.z, 2))
        spans = [slice(*np.searchsorted(axis, [low[n], high[n]]).tolist()) for axis, n in axes]
        return spans[2], spans[1], spans[0]

    def crop(self, window: tuple[slice, slice, slice]) -> "SampleGrid":
        """Return the grid of a window."""
        return SampleGrid(self.x[window[2]], self.y[window[1]], self.z[window[0]])

    def coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x, y, z, shaped to broadcast to [z, y, x]."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (nz, ny, nx)."""
        return len(self.z), len(self.y), len(self.x)


class AbstractSolid(ABC):
    """A shape with a signed distance and a bounding box."""

    @abstractmethod
    def box(self) -> Box:
        """Return the minimum and maximum corner of the bounding box."""

    @abstractmethod
    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        """Return the signed distance to the surface, mm, negative inside."""


@dataclass(frozen=True, slots=True)
class Tube(AbstractSolid):
    """A chain of tapered capsules through points, each with its own radius; a single point gives a ball."""

    points: tuple[Point, ...]
    radii: tuple[float, ...]

    def box(self) -> Box:
        p, r = np.array(self.points), np.array(self.radii)[:, None]
        return (p - r).min(0), (p + r).max(0)

    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        p, r = np.array(self.points), np.array(self.radii)
        if len(p) == 1:
            return _capsule(grid, p[0], p[0], r[0], r[0])
        result = _capsule(grid, p[0], p[1], r[0], r[1])
        for n in range(1, len(p) - 1):
            np.minimum(result, _capsule(grid, p[n], p[n + 1], r[n], r[n + 1]), out=result)
        return result


@dataclass(frozen=True, slots=True)
class Ellipsoid(AbstractSolid):
    """An ellipsoid; the columns of `axes` are its unit axes (None: the axes of the grid)."""

    centre: Point
    radii: tuple[float, float, float]
    axes: np.ndarray | None = None

    def box(self) -> Box:
        axes = np.eye(3) if self.axes is None else self.axes
        reach = np.sqrt(((axes * np.array(self.radii)) ** 2).sum(1))
        return np.array(self.centre) - reach, np.array(self.centre) + reach

    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        u, v, w = _local(grid, self.centre, self.axes)
        a, b, c = self.radii
        scaled = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
        gradient = np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2 + (w / c**2) ** 2)
        return scaled * (scaled - 1) / np.maximum(gradient, 1e-6)


@dataclass(frozen=True, slots=True)
class EllipticCylinder(AbstractSolid):
    """An elliptic cylinder with a waist, as the body of a vertebra.

    `half` is half the (width, depth, height) along the columns of `axes`.
    """

    centre: Point
    half: tuple[float, float, float]
    axes: np.ndarray
    waist: float = 0.1
    edge: float = 2.0

    def box(self) -> Box:
        reach = np.abs(self.axes) @ np.array(self.half)
        return np.array(self.centre) - reach, np.array(self.centre) + reach

    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        u, v, w = _local(grid, self.centre, self.axes)
        width, depth, height = self.half
        slim = 1 - self.waist * np.clip(1 - (w / height) ** 2, 0, 1)
        radial = (np.sqrt((u / (width * slim)) ** 2 + (v / (depth * slim)) ** 2) - 1) * 0.5 * (width + depth) * slim
        return smooth_maximum(radial, np.abs(w) - height, self.edge)


@dataclass(frozen=True, slots=True)
class CutBall(AbstractSolid):
    """The part of a ball on one side of a plane: `(x - centre) . normal < offset`."""

    centre: Point
    radius: float
    normal: Point
    offset: float

    def box(self) -> Box:
        return np.array(self.centre) - self.radius, np.array(self.centre) + self.radius

    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        u, v, w = _local(grid, self.centre, None)
        n = np.array(self.normal)
        plane_distance = u * n[0] + v * n[1] + w * n[2] - self.offset
        return smooth_maximum(np.sqrt(u * u + v * v + w * w) - self.radius, plane_distance, 4.0)


@dataclass(frozen=True, slots=True)
class CurvedPlate(AbstractSolid):
    """A curved plate of varying thickness, made of balls along a bicubic surface through a table of points.

    `points` [row, column, xyz] are points of the surface and `radii` [row, column] half thicknesses, at least 4 x 4.
    """

    points: Float[np.ndarray, "rows columns 3"]
    radii: Float[np.ndarray, "rows columns"]

    def box(self) -> Box:
        centres, radii = self._balls()
        return (centres - radii[:, None]).min(0), (centres + radii[:, None]).max(0)

    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        centres, radii = self._balls()
        z, y, x = np.meshgrid(grid.z, grid.y, grid.x, indexing="ij")
        query = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=-1)
        reach = radii.max() + 10  # beyond the reach of any fillet
        distance, nearest = cKDTree(centres).query(query, distance_upper_bound=reach)
        near = np.isfinite(distance)
        result = np.full(len(query), FAR_MM)
        result[near] = distance[near] - radii[nearest[near]]
        return result.reshape(grid.shape)

    def _balls(self) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = self.radii.shape
        length, width = (np.linalg.norm(np.diff(self.points, axis=axis), axis=-1).sum(axis).max() for axis in (0, 1))
        v = np.linspace(0, rows - 1, int(length / _BALL_STEP_MM) + 2)
        u = np.linspace(0, columns - 1, int(width / _BALL_STEP_MM) + 2)
        values = [*np.moveaxis(self.points, -1, 0), self.radii]
        fine = [RectBivariateSpline(np.arange(rows), np.arange(columns), value)(v, u).ravel() for value in values]
        return np.stack(fine[:3], axis=-1), fine[3]


class CsgOperation(enum.Enum):
    """The set operation of a step."""

    UNION = enum.auto()
    DIFFERENCE = enum.auto()


@dataclass(frozen=True, slots=True)
class CsgStep:
    """A solid that is added to or removed from the previous steps; `blend` is the size of the fillet, mm."""

    solid: AbstractSolid
    operation: CsgOperation = CsgOperation.UNION
    blend: float = 4.0


def signed_distance(steps: list[CsgStep], grid: SampleGrid) -> tuple[tuple[slice, slice, slice], Float[np.ndarray, "nz ny nx"]]:
    """Return the window of the grid around the combined solid, and the signed distance within it, mm."""
    boxes = [step.solid.box() for step in steps if step.operation is CsgOperation.UNION]
    margin = max(step.blend for step in steps) + 4
    bounds = np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)
    window = grid.window(bounds, margin)
    cropped = grid.crop(window)
    result = np.full(cropped.shape, FAR_MM)
    for step in steps:
        part = cropped.window(step.solid.box(), margin)
        if result[part].size == 0:
            continue
        distance = step.solid.distance(cropped.crop(part))
        if step.operation is CsgOperation.UNION:
            result[part] = -smooth_maximum(-result[part], -distance, step.blend)
        else:
            result[part] = smooth_maximum(result[part], -distance, step.blend)
    return window, result


def smooth_maximum(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Return the maximum of two distances with a fillet of size `blend`."""
    overlap = np.maximum(blend - np.abs(a - b), 0)
    return np.maximum(a, b) + overlap * overlap * 0.25 / blend


def tilted_axes(about_x_deg: float, about_z_deg: float = 0.0, about_y_deg: float = 0.0) -> np.ndarray:
    """Return unit axes (columns) rotated about y, then about x (superior moves anterior, to -y), then about z."""
    a, b, c = np.radians([about_x_deg, about_z_deg, about_y_deg])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    return about_z @ about_x @ about_y


def _local(grid: SampleGrid, centre: Point, axes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = (axis - c for axis, c in zip(grid.coordinates(), centre, strict=True))
    if axes is None:
        return x, y, z
    u, v, w = (x * axes[0, n] + y * axes[1, n] + z * axes[2, n] for n in range(3))
    return u, v, w


def _capsule(grid: SampleGrid, start: np.ndarray, end: np.ndarray, r_start: float, r_end: float) -> np.ndarray:
    x, y, z = (axis - s for axis, s in zip(grid.coordinates(), start, strict=True))
    b = end - start
    squared = max(float(b @ b), 1e-12)
    along = np.clip((x * b[0] + y * b[1] + z * b[2]) / squared, 0, 1)
    distance = np.sqrt((x - along * b[0]) ** 2 + (y - along * b[1]) ** 2 + (z - along * b[2]) ** 2)
    return distance - (r_start + along * (r_end - r_start))
