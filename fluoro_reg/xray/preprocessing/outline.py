"""The outline of a region as half-planes: the depth of pixels inside it, its regularity, and the exact position of its edge.

All lengths are in coarse pixels. A plane (a, b, c) contains the points with a row + b column + c <= 0; its normal (a, b) points
outward.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

_MAXIMUM_SIDES = 8


@dataclass(frozen=True, slots=True)
class Outline:
    """The convex hull of a region: its planes, and the depth (negative outside) and the nearest plane of every pixel."""

    planes: Float[np.ndarray, "n 3"]
    depth: Float[np.ndarray, "rows columns"]
    nearest: Int[np.ndarray, "rows columns"]

    @property
    def inside(self) -> Bool[np.ndarray, "rows columns"]:
        """Pixels inside the hull, up to half a pixel beyond its edge."""
        return self.depth >= -0.5

    def between(self, shallow: float, deep: float) -> Bool[np.ndarray, "rows columns"]:
        """Return the pixels whose depth lies in [shallow, deep)."""
        return (self.depth >= shallow) & (self.depth < deep)

    def inward(
        self, pixels: Bool[np.ndarray, "rows columns"], depth: float
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Return rows and columns of the points at `depth` opposite the given pixels, along the normal of the nearest plane."""
        row, column = np.nonzero(pixels)
        distance = self.depth[row, column] - depth
        normal = self.planes[self.nearest[row, column], :2]
        rows = np.rint(row + normal[:, 0] * distance).astype(np.int64)
        columns = np.rint(column + normal[:, 1] * distance).astype(np.int64)
        return rows.clip(0, self.depth.shape[0] - 1), columns.clip(0, self.depth.shape[1] - 1)

    def refine_planes(self, values: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "n 3"]:
        """Return the planes, moved to the steepest rise of `values` within three pixels; short ones move together."""
        near = self.between(-3, 4)
        bins = self.nearest[near] * 7 + np.floor(self.depth[near] + 3).astype(np.int64)
        totals = np.bincount(bins, values[near], 7 * len(self.planes)).reshape(-1, 7)
        counts = np.bincount(bins, minlength=7 * len(self.planes)).reshape(-1, 7)
        common = totals.sum(0) / np.maximum(counts.sum(0), 1)
        separate = totals / np.maximum(counts, 1)
        is_long = counts.min(axis=1) >= 8
        shifts = np.where(is_long, np.diff(separate, axis=1).argmax(axis=1), np.diff(common).argmax()) - 2
        return self.planes + shifts[:, None] * np.array([0.0, 0.0, 1.0])

    def regularity(self) -> float:
        """Return the fraction of the rim that lies on straight blades, or on a circular diaphragm with blades.

        A single straight edge could be the side of a body against air. It must therefore be entirely straight.
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
    """Return the outline of the hull without its sides along the border of the image; None if no other side remains."""
    planes = _hull(region)
    if planes is None:
        return None
    distances = _homogeneous(*region.shape) @ planes.astype(np.float32).T
    nearest = distances.argmax(axis=1)
    depth = -np.take_along_axis(distances, nearest[:, None], axis=1)
    return Outline(planes, depth.reshape(region.shape), nearest.reshape(region.shape))


def _hull(inside: Bool[np.ndarray, "rows columns"]) -> Float[np.ndarray, "n 3"] | None:
    """Return the half-planes of the convex hull, except those along the border of the image, where the region may continue."""
    from scipy.spatial import ConvexHull, QhullError  # imported here, as it takes a tenth of a second and few images need it

    rows = np.flatnonzero(inside.any(axis=1))
    first = inside[rows].argmax(axis=1)
    last = inside.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([rows, first], -1), np.stack([rows, last], -1)]).astype(np.float64)
    try:
        planes = np.unique(np.round(ConvexHull(points).equations, 9), axis=0)
    except QhullError:  # the region is one pixel wide
        return None
    return _without_border(planes, inside)


def _without_border(planes: Float[np.ndarray, "n 3"], inside: Bool[np.ndarray, "rows columns"]) -> np.ndarray | None:
    """Remove planes along a side of the image that the region crosses; a circle that only touches the side keeps them."""
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
    points: Float[np.ndarray, "n 2"], planes: Float[np.ndarray, "m 3"], minimum: float
) -> tuple[Bool[np.ndarray, "n"], int]:
    """Return which rim points lie on straight sides of at least `minimum` pixels, and the number of sides."""
    near = np.abs(points @ planes[:, :2].T + planes[:, 2]) < 0.9
    remaining, sides = np.ones(len(points), dtype=bool), 0
    while sides < _MAXIMUM_SIDES:
        counts = (near & remaining[:, None]).sum(axis=0)
        if counts.max() < minimum:
            break
        remaining &= ~near[:, counts.argmax()]
        sides += 1
    return ~remaining, sides


def _on_circle(points: Float[np.ndarray, "n 2"], size: float) -> Bool[np.ndarray, "n"]:
    """Return which rim points lie within two pixels of a large circle (Kasa's algebraic fit, repeated without outliers)."""
    near = np.ones(len(points), dtype=bool)
    for tolerance in (6.0, 4.0, 3.0, 2.0):
        terms = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
        centre_and_rest = np.linalg.lstsq(terms[near], (points[near] ** 2).sum(1), rcond=None)[0]
        centre = centre_and_rest[:2]
        radius = np.sqrt(max(centre_and_rest[2] + centre @ centre, 0))
        near = np.abs(np.linalg.norm(points - centre, axis=1) - radius) < tolerance
        if near.sum() < 10 or not 0.3 * size < radius < 0.85 * size:
            return np.zeros(len(points), dtype=bool)
    return near
