"""Where the beam reached the detector: the collimator's opening, found in the image.

Blades and circular diaphragms leave a convex opening with straight or circular edges, and anatomy almost never has such an
outline: that is the whole test. Candidates for the outside are regions that touch the image's border, either as dark
as the border itself (on a scale that opens up the dark end) or reached from it without crossing an edge; the opening is the
convex hull of the rest, so dark anatomy at its rim is not eaten. A candidate counts when its outline is convex, straight or
circular, and brighter inside than outside nearly everywhere. If none does, the whole image is the field.

`inverted` looks at the negative, where a collimator is bright: images of attenuation.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

_DARKNESS = 0.01  # of the range: where the scale turns from linear to logarithmic
_LEVELS = (0.16, 0.02)  # above the border's own darkness, on that scale of 0 to 1
_EDGES = (0.03, 0.06, 0.015, 0.12)  # of the range per coarse pixel: a barrier to the flood from the border
_LEAST_FIELD = 0.15
_LEAST_OUTSIDE = 0.01
_LEAST_QUALITY = 0.7
_LEAST_CONTRAST = 0.05
_GREATEST_GRADIENT = 0.6


@dataclass(frozen=True, slots=True)
class Field:
    """A convex opening in coarse pixels: `planes` (a, b, c) with a row + b column + c <= 0 inside.

    `quality` 0 to 1 is how much it looks like a collimator; `contrast` 0 to 1 how much brighter its inside is; `gradient` how
    far brightness goes on rising inside, which an edge of air does and an edge of lead does not.
    """

    planes: Float[np.ndarray, "n 3"]
    quality: float
    contrast: float
    gradient: float

    def mask(self, height: int, width: int, factor: int, margin: float) -> Bool[np.ndarray, "height width"]:
        """The opening in full pixels, `margin` coarse pixels inside its edge."""
        planes = self.planes
        row = (np.arange(height) + 0.5) / factor - 0.5
        reach = -margin - planes[:, 2] - row[:, None] * planes[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = (reach / planes[:, 1] + 0.5) * factor - 0.5
        level = np.abs(planes[:, 1]) < 1e-9
        right = np.where((planes[:, 1] > 0) & ~level, bound, np.inf).min(1, initial=np.inf)
        left = np.where((planes[:, 1] < 0) & ~level, bound, -np.inf).max(1, initial=-np.inf)
        left[(level & (reach < 0)).any(1)] = np.inf
        column = np.arange(width)
        return (column >= left[:, None]) & (column <= right[:, None])


def find_field(
    image: Float[np.ndarray, "rows columns"], usable: Bool[np.ndarray, "rows columns"], inverted: bool = False
) -> Field | None:
    """The collimator's opening in a coarse image, or None when nothing looks like one."""
    signed = -image if inverted else image
    low, high = float(signed[usable].min()), float(np.quantile(signed[usable], 0.995))
    if high <= low:
        return None
    linear = np.clip((signed - low) / (high - low), 0, 1)
    opened = np.log1p(linear / _DARKNESS) / np.log1p(1 / _DARKNESS)
    best: Field | None = None
    for outside in _candidates(linear, opened, usable):
        field = _examined(outside, linear, opened)
        if field is not None and (best is None or field.quality > best.quality):
            best = field
        if best is not None and best.quality > 0.9:
            break
    return best


def touching_border(region: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The connected parts of a region that reach the image's border."""
    labels, _ = ndimage.label(region)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    kept = np.zeros(labels.max() + 1, dtype=bool)
    kept[border] = True
    kept[0] = False
    return kept[labels]


def _candidates(linear: np.ndarray, opened: np.ndarray, usable: np.ndarray) -> "list[Bool[np.ndarray, 'rows columns']]":
    ring = np.zeros(opened.shape, dtype=bool)
    ring[:3] = ring[-3:] = ring[:, :3] = ring[:, -3:] = True
    darkness = np.quantile(opened[ring & usable], 0.03) if (ring & usable).any() else 0.0
    edges = np.hypot(*np.gradient(ndimage.gaussian_filter(linear, 0.7)))
    regions = [(edges < barrier) & (linear < 0.6) for barrier in _EDGES]
    regions += [opened < darkness + level for level in _LEVELS]
    connected = [touching_border(region | ~usable) for region in regions]
    distinct: list[np.ndarray] = []
    for outside in connected:
        if outside.mean() >= _LEAST_OUTSIDE and all((outside != other).mean() > 0.002 for other in distinct):
            distinct.append(outside)
    return distinct


def _examined(outside: Bool[np.ndarray, "rows columns"], linear: np.ndarray, opened: np.ndarray) -> Field | None:
    """The opening that an outside leaves, if it passes for a collimator's."""
    inside = ndimage.binary_opening(np.pad(~outside, 2, mode="edge"), iterations=2)[2:-2, 2:-2]
    labels, count = ndimage.label(inside)
    if count == 0:
        return None
    inside = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    if inside.mean() < _LEAST_FIELD:
        return None
    planes = _hull(inside)
    if planes is None:
        return None
    depth, nearest = _depth(planes, inside.shape)
    hull, rim = depth >= -0.5, (depth >= -0.5) & (depth < 0.5)
    beyond = (depth < -1.5) & (depth >= -3.5)
    if rim.sum() < 10 or not beyond.any() or (~hull).mean() < _LEAST_OUTSIDE:
        return None
    reached = ndimage.binary_dilation(inside, np.ones((3, 3), dtype=bool))[rim].mean()
    filled = outside[~hull].mean()
    steps = _steps(opened, depth, nearest, planes, beyond)
    brighter = (steps > 0.02).mean()
    shape = _regularity(rim, planes)
    contrast = float(np.median(steps))
    gradient = _rise_inside(opened, depth, hull)
    quality = float(reached * filled * brighter * shape)
    if quality < _LEAST_QUALITY or contrast < _LEAST_CONTRAST or gradient > _GREATEST_GRADIENT or linear[~hull].std() > 0.2:
        return None
    return Field(planes, quality, contrast, max(gradient, _rise_inside(linear, depth, hull)))


def _hull(inside: Bool[np.ndarray, "rows columns"]) -> Float[np.ndarray, "n 3"] | None:
    """Half-planes of the convex hull; those along the image's border are left out, for the beam may go on there."""
    rows = np.flatnonzero(inside.any(axis=1))
    first = inside[rows].argmax(axis=1)
    last = inside.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([rows, first], -1), np.stack([rows, last], -1)]).astype(np.float64)
    try:
        planes = np.unique(np.round(ConvexHull(points).equations, 9), axis=0)
    except QhullError:  # a field one pixel wide
        return None
    height, width = inside.shape
    support = -planes[:, 2]
    at_border = np.zeros(len(planes), dtype=bool)
    for outward, limit in (((-1, 0), -2), ((1, 0), height - 3), ((0, -1), -2), ((0, 1), width - 3)):
        at_border |= (np.abs(planes[:, :2] - outward).max(axis=1) < 0.02) & (support >= limit)
    return planes[~at_border] if (~at_border).any() else None


def _depth(planes: Float[np.ndarray, "n 3"], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """How deep each pixel lies inside the hull (negative outside) and the number of its nearest plane."""
    distances = _homogeneous(*shape) @ planes.astype(np.float32).T
    nearest = distances.argmax(axis=1)
    depth = -np.take_along_axis(distances, nearest[:, None], axis=1)
    return depth.reshape(shape), nearest.reshape(shape)


@functools.lru_cache(maxsize=8)
def _homogeneous(rows: int, columns: int) -> Float[np.ndarray, "n 3"]:
    row, column = np.indices((rows, columns), dtype=np.float32).reshape(2, -1)
    return np.stack([row, column, np.ones_like(row)], -1)


def _steps(
    opened: np.ndarray, depth: np.ndarray, nearest: np.ndarray, planes: np.ndarray, beyond: np.ndarray
) -> Float[np.ndarray, "n"]:
    """Brightness three pixels inside the edge minus brightness just outside, along the edge."""
    row, column = np.nonzero(beyond)
    normal = planes[nearest[row, column], :2]
    back = depth[row, column][:, None] - 3
    inner = np.rint(np.stack([row, column], -1) + normal * back).astype(int)
    inner = np.clip(inner, 0, np.array(opened.shape) - 1)
    return opened[inner[:, 0], inner[:, 1]] - opened[row, column]


def _rise_inside(values: np.ndarray, depth: np.ndarray, hull: np.ndarray) -> float:
    """How much brightness goes on rising from 3 to 8 pixels inside the edge, as a share of its rise up to there."""
    near, far = values[(depth >= 2.5) & (depth < 3.5)], values[(depth >= 7) & (depth < 8.5)]
    if not near.size or not far.size:
        return 0.0
    at_edge = float(np.median(near))
    return (float(np.median(far)) - at_edge) / (abs(at_edge - float(np.median(values[~hull]))) + 0.02)


def _regularity(rim: Bool[np.ndarray, "rows columns"], planes: Float[np.ndarray, "n 3"]) -> float:
    """The share of the rim that straight blades explain, or a circular diaphragm with blades across it."""
    points = np.argwhere(rim).astype(np.float64)
    length = min(rim.shape)
    blades = _on_sides(points, planes, 0.1 * length)
    long_blades = _on_sides(points, planes, 0.2 * length)
    return max(float(blades.mean()), float((_on_circle(points, length) | long_blades).mean()))


def _on_sides(points: Float[np.ndarray, "n 2"], planes: Float[np.ndarray, "m 3"], shortest: float) -> Bool[np.ndarray, "n"]:
    """Rim points on at most eight straight sides of at least `shortest`; a lone side must hold nearly all of them."""
    near = np.abs(points @ planes[:, :2].T + planes[:, 2]) < 0.9
    left, sides = np.ones(len(points), dtype=bool), 0
    while sides < 8:
        counts = (near & left[:, None]).sum(axis=0)
        if counts.max() < shortest:
            break
        left &= ~near[:, counts.argmax()]
        sides += 1
    alone = sides == 1 and left.mean() > 0.2
    return np.zeros_like(left) if alone else ~left


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
