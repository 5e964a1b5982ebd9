"""Signed-distance modelling on a grid: the few solids that bones are built of, and the strokes that join and carve them.

A solid gives the distance to its surface (negative inside) in mm, exactly or nearly so. Strokes are applied in order, each only
inside its solid's box: `JOIN` is a union and `CARVE` a difference, both with a smooth fillet (the polynomial minimum of
Quilez, "Smooth minimum", https://iquilezles.org/articles/smin).
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
    """Voxel centres along x, y, z (mm); arrays over it are [z, y, x]."""

    x: Float[np.ndarray, "nx"]
    y: Float[np.ndarray, "ny"]
    z: Float[np.ndarray, "nz"]

    def window(self, box: Box, margin: float) -> tuple[slice, slice, slice]:
        """The [z, y, x] slices of the voxels inside a box grown by a margin."""
        low, high = box[0] - margin, box[1] + margin
        axes = ((self.x, 0), (self.y, 1), (self.z, 2))
        spans = [slice(*np.searchsorted(axis, [low[n], high[n]]).tolist()) for axis, n in axes]
        return spans[2], spans[1], spans[0]

    def part(self, window: tuple[slice, slice, slice]) -> "SampleGrid":
        """The grid of a window."""
        return SampleGrid(self.x[window[2]], self.y[window[1]], self.z[window[0]])

    def coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y, z, ready to broadcast to [z, y, x]."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(nz, ny, nx)."""
        return len(self.z), len(self.y), len(self.x)


class AbstractSolid(ABC):
    """A shape with a box around it."""

    @abstractmethod
    def box(self) -> Box:
        """The least and greatest corner."""

    @abstractmethod
    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        """Signed distance, mm."""


@dataclass(frozen=True, slots=True)
class Tube(AbstractSolid):
    """A chain of tapered capsules through points, each with its radius; one point makes a ball."""

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
    """An ellipsoid; the columns of `axes` are its unit axes (None: those of the grid)."""

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
class Drum(AbstractSolid):
    """An elliptic cylinder with a waist, the body of a vertebra: `half` = (width, depth, height) along `axes`' columns."""

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
    """The part of a ball that lies behind a plane: `(x - centre) . normal < offset`."""

    centre: Point
    radius: float
    normal: Point
    offset: float

    def box(self) -> Box:
        return np.array(self.centre) - self.radius, np.array(self.centre) + self.radius

    def distance(self, grid: SampleGrid) -> Float[np.ndarray, "nz ny nx"]:
        u, v, w = _local(grid, self.centre, None)
        n = np.array(self.normal)
        ahead = u * n[0] + v * n[1] + w * n[2] - self.offset
        return smooth_maximum(np.sqrt(u * u + v * v + w * w) - self.radius, ahead, 4.0)


@dataclass(frozen=True, slots=True)
class Sheet(AbstractSolid):
    """A curved plate of varying thickness: balls along a bicubic surface through a table of points.

    `points` [row, column, xyz] and `radii` [row, column] (half thickness); at least 4 x 4.
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
        reach = radii.max() + 10  # further out nothing blends with the plate
        distance, nearest = cKDTree(centres).query(query, distance_upper_bound=reach)
        found = np.isfinite(distance)
        result = np.full(len(query), FAR_MM)
        result[found] = distance[found] - radii[nearest[found]]
        return result.reshape(grid.shape)

    def _balls(self) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = self.radii.shape
        length, width = (np.linalg.norm(np.diff(self.points, axis=axis), axis=-1).sum(axis).max() for axis in (0, 1))
        v = np.linspace(0, rows - 1, int(length / _BALL_STEP_MM) + 2)
        u = np.linspace(0, columns - 1, int(width / _BALL_STEP_MM) + 2)
        values = [*np.moveaxis(self.points, -1, 0), self.radii]
        fine = [RectBivariateSpline(np.arange(rows), np.arange(columns), value)(v, u).ravel() for value in values]
        return np.stack(fine[:3], axis=-1), fine[3]


class Action(enum.Enum):
    """What a stroke does to the solid so far."""

    JOIN = enum.auto()
    CARVE = enum.auto()


@dataclass(frozen=True, slots=True)
class Stroke:
    """One step of modelling; `blend` is the fillet's size, mm."""

    solid: AbstractSolid
    action: Action = Action.JOIN
    blend: float = 4.0


def model(strokes: list[Stroke], grid: SampleGrid) -> tuple[tuple[slice, slice, slice], Float[np.ndarray, "nz ny nx"]]:
    """The window of the grid that the joined strokes fill, and the signed distance there."""
    boxes = [stroke.solid.box() for stroke in strokes if stroke.action is Action.JOIN]
    margin = max(stroke.blend for stroke in strokes) + 4
    whole = np.min([box[0] for box in boxes], axis=0), np.max([box[1] for box in boxes], axis=0)
    window = grid.window(whole, margin)
    part = grid.part(window)
    field = np.full(part.shape, FAR_MM)
    for stroke in strokes:
        place = part.window(stroke.solid.box(), margin)
        if field[place].size == 0:
            continue
        distance = stroke.solid.distance(part.part(place))
        if stroke.action is Action.JOIN:
            field[place] = -smooth_maximum(-field[place], -distance, stroke.blend)
        else:
            field[place] = smooth_maximum(field[place], -distance, stroke.blend)
    return window, field


def smooth_maximum(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """The maximum of two distances with a fillet of size `blend`."""
    overlap = np.maximum(blend - np.abs(a - b), 0)
    return np.maximum(a, b) + overlap * overlap * 0.25 / blend


def tilt_about_x(degrees: float, turn_about_z: float = 0.0, lean_about_y: float = 0.0) -> np.ndarray:
    """Axes (columns) leaned about y, tilted forward about x (up moves to the front, -y) and turned about z, in degrees."""
    a, b, c = np.radians([degrees, turn_about_z, lean_about_y])
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
    far = np.sqrt((x - along * b[0]) ** 2 + (y - along * b[1]) ** 2 + (z - along * b[2]) ** 2)
    return far - (r_start + along * (r_end - r_start))
