"""The outline of a region as half-planes: how deep a pixel lies inside it, how regular it is, where exactly its edge runs.

All in coarse pixels. A plane (a, b, c) holds the points with a row + b column + c <= 0; its normal (a, b) points outward.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import ConvexHull, QhullError

_LONGEST_SIDES = 8


@dataclass(frozen=True, slots=True)
class Outline:
    """The convex hull of a region: its planes, and for every pixel its depth (negative outside) and nearest plane."""

    planes: Float[np.ndarray, "n 3"]
    depth: Float[np.ndarray, "rows columns"]
    nearest: Int[np.ndarray, "rows columns"]

    @property
    def inside(self) -> Bool[np.ndarray, "rows columns"]:
        return self.depth >= -0.5

    def between(self, shallow: float, deep: float) -> Bool[np.ndarray, "rows columns"]:
        """Pixels whose depth lies in [shallow, deep)."""
        return (self.depth >= shallow) & (self.depth < deep)

    def inward(
        self, pixels: Bool[np.ndarray, "rows columns"], depth: float
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Rows and columns of the places at `depth` that face the given pixels, along the nearest plane's normal."""
        row, column = np.nonzero(pixels)
        move = self.depth[row, column] - depth
        normal = self.planes[self.nearest[row, column], :2]
        rows = np.rint(row + normal[:, 0] * move).astype(np.int64)
        columns = np.rint(column + normal[:, 1] * move).astype(np.int64)
        return rows.clip(0, self.depth.shape[0] - 1), columns.clip(0, self.depth.shape[1] - 1)

    def sharpened(self, values: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "n 3"]:
        """The planes moved to the steepest rise of `values` within three pixels; short ones all alike."""
        near = self.between(-3, 4)
        bins = self.nearest[near] * 7 + np.floor(self.depth[near] + 3).astype(np.int64)
        totals = np.bincount(bins, values[near], 7 * len(self.planes)).reshape(-1, 7)
        counts = np.bincount(bins, minlength=7 * len(self.planes)).reshape(-1, 7)
        together = totals.sum(0) / np.maximum(counts.sum(0), 1)
        alone = totals / np.maximum(counts, 1)
        long = counts.min(axis=1) >= 8
        moved = np.where(long, np.diff(alone, axis=1).argmax(axis=1), np.diff(together).argmax()) - 2
        return self.planes + moved[:, None] * np.array([0.0, 0.0, 1.0])

    def regularity(self) -> float:
        """The share of the rim that straight blades explain, or a circular diaphragm with blades across it.

        One straight edge alone may be a flank against air: it must be nothing but straight.
        """
        points = np.argwhere(self.between(-0.5, 0.5)).astype(np.float64)
        length = min(self.depth.shape)
        blades, count = _on_sides(points, self.planes, 0.1 * length)
        straight = float(blades.mean())
        if count == 1 and straight < 0.97:
            straight = 0.0
        on_circle = _on_circle(points, length)
        if on_circle.mean() < 0.3:
            return straight
        long_blades, _ = _on_sides(points, self.planes, 0.2 * length)
        return max(straight, float((on_circle | long_blades).mean()))


def outline_of(region: Bool[np.ndarray, "rows columns"]) -> Outline | None:
    """The hull's outline without the sides along the image's border; None when nothing else is left."""
    planes = _hull(region)
    if planes is None:
        return None
    distances = _homogeneous(*region.shape) @ planes.astype(np.float32).T
    nearest = distances.argmax(axis=1)
    depth = -np.take_along_axis(distances, nearest[:, None], axis=1)
    return Outline(planes, depth.reshape(region.shape), nearest.reshape(region.shape))


def _hull(inside: Bool[np.ndarray, "rows columns"]) -> Float[np.ndarray, "n 3"] | None:
    """Half-planes of the convex hull, less those along the image's border, for the region may go on there."""
    rows = np.flatnonzero(inside.any(axis=1))
    first = inside[rows].argmax(axis=1)
    last = inside.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([rows, first], -1), np.stack([rows, last], -1)]).astype(np.float64)
    try:
        planes = np.unique(np.round(ConvexHull(points).equations, 9), axis=0)
    except QhullError:  # a field one pixel wide
        return None
    return _without_border(planes, inside)


def _without_border(planes: Float[np.ndarray, "n 3"], inside: Bool[np.ndarray, "rows columns"]) -> np.ndarray | None:
    """Leaves out planes along a side of the image where the field runs into it; a circle that only touches it keeps them."""
    height, width = inside.shape
    support = -planes[:, 2]
    at_border = np.zeros(len(planes), dtype=bool)
    sides = (
        ((-1, 0), -0.6, inside[0]),
        ((1, 0), height - 1.6, inside[-1]),
        ((0, -1), -0.6, inside[:, 0]),
        ((0, 1), width - 1.6, inside[:, -1]),
    )
    for outward, limit, meeting in sides:
        if meeting.mean() > 0.25:
            at_border |= (np.abs(planes[:, :2] - outward).max(axis=1) < 0.02) & (support >= limit)
    return planes[~at_border] if (~at_border).any() else None


@functools.lru_cache(maxsize=8)
def _homogeneous(rows: int, columns: int) -> Float[np.ndarray, "n 3"]:
    row, column = np.indices((rows, columns), dtype=np.float32).reshape(2, -1)
    return np.stack([row, column, np.ones_like(row)], -1)


def _on_sides(
    points: Float[np.ndarray, "n 2"], planes: Float[np.ndarray, "m 3"], shortest: float
) -> tuple[Bool[np.ndarray, "n"], int]:
    """Rim points on a few straight sides of at least `shortest`, and how many sides."""
    near = np.abs(points @ planes[:, :2].T + planes[:, 2]) < 0.9
    left, sides = np.ones(len(points), dtype=bool), 0
    while sides < _LONGEST_SIDES:
        counts = (near & left[:, None]).sum(axis=0)
        if counts.max() < shortest:
            break
        left &= ~near[:, counts.argmax()]
        sides += 1
    return ~left, sides


def _on_circle(points: Float[np.ndarray, "n 2"], size: float) -> Bool[np.ndarray, "n"]:
    """Rim points within two pixels of one large circle (algebraic fit of Kasa, points far from it left out in turn)."""
    near = np.ones(len(points), dtype=bool)
    for reach in (6.0, 4.0, 3.0, 2.0):
        terms = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
        centre_and_rest = np.linalg.lstsq(terms[near], (points[near] ** 2).sum(1), rcond=None)[0]
        centre = centre_and_rest[:2]
        radius = np.sqrt(max(centre_and_rest[2] + centre @ centre, 0))
        near = np.abs(np.linalg.norm(points - centre, axis=1) - radius) < reach
        if near.sum() < 10 or not 0.3 * size < radius < 0.85 * size:
            return np.zeros(len(points), dtype=bool)
    return near
