"""The field: the part of the detector that the collimator leaves open, found in the image.

Blades and circular diaphragms leave a convex field with straight or circular edges. Anatomy almost never has such an outline.
Candidates for the outside are regions at the border of the image that are either as dark as the border itself (on a scale that
expands the dark end) or connected to it without an edge. The field is the convex hull of the rest, so that dark anatomy at its
rim is kept. A candidate is accepted if its outline is convex, straight or circular, and brighter inside than outside nearly
everywhere. If there is none, the field is the whole image.

`inverted` uses the negative of the image: in images of attenuation, the region outside the field is bright.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.preprocessing.coarse import CoarseImage
from fluoro_reg.xray.preprocessing.outline import Outline, outline_of

_LINEAR_RANGE = 0.01  # of the range: the scale is linear below and logarithmic above
_LEVELS = (0.16, 0.02)  # above the grey of the border, on that scale of 0 to 1
_EDGES = (0.03, 0.06, 0.015, 0.12)  # of the range per coarse pixel: gradients that bound the region at the border
MINIMUM_FIELD = 0.15
MINIMUM_OUTSIDE = 0.01
MINIMUM_QUALITY = 0.7
_MINIMUM_CONTRAST = 0.15
_MAXIMUM_GRADIENT = 0.6
_MAXIMUM_OUTSIDE_SD = 0.2  # of the range
_CERTAIN_QUALITY, _CERTAIN_CONTRAST, _CERTAIN_UNEVENNESS = 0.85, 0.3, 0.3
_PAINTED_QUALITY, _PAINTED_CONTRAST, _PAINTED_GRADIENT, _PAINTED_VARIATION = 0.85, 0.3, 0.2, 0.05


@dataclass(frozen=True, slots=True)
class Field:
    """A convex field, in coarse pixels.

    Attributes:
        planes: Half-planes (a, b, c), with a row + b column + c <= 0 inside.
        quality: Resemblance to a collimator, 0 to 1.
        contrast: Brightness of the inside relative to the outside, 0 to 1.
        gradient: Continued rise of the brightness inside the edge: large at the edge of a body, small at the edge of lead.
        variation: Relative variation of the brightness along the inside of the edge.
        unevenness: Interdecile range of the outside relative to `contrast`.
    """

    planes: Float[np.ndarray, "n 3"]
    quality: float
    contrast: float
    gradient: float
    variation: float
    unevenness: float = 0.0

    @property
    def is_certain(self) -> bool:
        """Whether it must be a field: the outside is as even as lead, and far darker than the inside.

        The shadow of a body beside an open beam is not even, and a leaking collimator is not either.
        """
        return (
            self.quality >= _CERTAIN_QUALITY and self.contrast >= _CERTAIN_CONTRAST and self.unevenness <= _CERTAIN_UNEVENNESS
        )

    def mask(self, height: int, width: int, factor: int, margin: float) -> Bool[np.ndarray, "height width"]:
        """Return the field in full pixels, without a margin of `margin` coarse pixels along its edge."""
        planes = self.planes
        row = (np.arange(height) + 0.5) / factor - 0.5
        distance = -margin - planes[:, 2] - row[:, None] * planes[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = (distance / planes[:, 1] + 0.5) * factor - 0.5
        horizontal = np.abs(planes[:, 1]) < 1e-9
        right = np.where((planes[:, 1] > 0) & ~horizontal, bound, np.inf).min(1, initial=np.inf)
        left = np.where((planes[:, 1] < 0) & ~horizontal, bound, -np.inf).max(1, initial=-np.inf)
        left[(horizontal & (distance < 0)).any(1)] = np.inf
        column = np.arange(width)
        return (column >= left[:, None]) & (column <= right[:, None])


def painted_field(field: Field | None, coarse: CoarseImage) -> Field | None:
    """Return the field of an attenuation image if its black surround must be painted; otherwise it is a body in air.

    A painted surround has a single grey value up to the corners and a sharp edge, and it cuts through anatomy of varying
    density.
    """
    if field is None or not _painted_corners(coarse) or field.gradient > _PAINTED_GRADIENT:
        return None
    plausible = field.quality >= _PAINTED_QUALITY and field.contrast >= _PAINTED_CONTRAST
    return field if plausible and field.variation >= _PAINTED_VARIATION else None


def find_field(
    image: Float[np.ndarray, "rows columns"], usable: Bool[np.ndarray, "rows columns"], inverted: bool = False
) -> Field | None:
    """Find the field of a collimator in a coarse image; None if there is no plausible one."""
    signed = -image if inverted else image
    low, high = float(signed[usable].min()), float(np.quantile(signed[usable], 0.99))
    if high <= low:
        return None
    linear = np.clip((signed - low) / (high - low), 0, 1)
    expanded = _expand_dark_end(linear)
    best: Field | None = None
    for outside in _outside_candidates(linear, usable):
        field = _evaluate_candidate(outside, linear, expanded)
        if field is not None and (best is None or field.quality > best.quality):
            best = field
        if best is not None and best.quality > 0.9:
            break
    return best


def _painted_corners(coarse: CoarseImage) -> bool:
    """Whether all four corners have the same, minimal grey. If a CT ends within the image, only two corners are air."""
    corners = (np.array([0, 0, -1, -1]), np.array([0, -1, 0, -1]))
    return bool((coarse.high[corners] <= coarse.low.min()).all())


def _expand_dark_end(linear: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    """Map 0 to 1 to a scale from 0 to 1 that expands the dark end."""
    return np.log1p(linear / _LINEAR_RANGE) / np.log1p(1 / _LINEAR_RANGE)


def border_components(region: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Return the connected components of a region that touch the border of the image."""
    labels, _ = ndimage.label(region)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    kept = np.zeros(labels.max() + 1, dtype=bool)
    kept[border] = True
    kept[0] = False
    return kept[labels]


def _outside_candidates(linear: np.ndarray, usable: np.ndarray) -> "list[Bool[np.ndarray, 'rows columns']]":
    ring = np.zeros(linear.shape, dtype=bool)
    ring[:3] = ring[-3:] = ring[:, :3] = ring[:, -3:] = True
    smooth = ndimage.gaussian_filter(linear, 0.7)
    expanded = _expand_dark_end(smooth)
    darkness = np.quantile(expanded[ring & usable], 0.03) if (ring & usable).any() else 0.0
    edges = np.hypot(*np.gradient(smooth))
    regions = [(edges < barrier) & (linear < 0.6) for barrier in _EDGES]
    regions += [expanded < darkness + level for level in _LEVELS]
    connected = [border_components(region | ~usable) for region in regions]
    distinct: list[np.ndarray] = []
    for outside in connected:
        if outside.mean() >= MINIMUM_OUTSIDE and all((outside != other).mean() > 0.002 for other in distinct):
            distinct.append(outside)
    return distinct


def _evaluate_candidate(outside: Bool[np.ndarray, "rows columns"], linear: np.ndarray, expanded: np.ndarray) -> Field | None:
    """Return the field that an outside region leaves, if it is plausible for a collimator."""
    inside = _largest_component(
        ndimage.binary_opening(np.pad(~outside, 2, mode="edge"), np.ones((5, 5), dtype=bool))[2:-2, 2:-2]
    )
    outline = outline_of(inside) if inside.mean() >= MINIMUM_FIELD else None
    if outline is None:
        return None
    covered, rim, beyond = ~outline.inside, outline.between(-0.5, 0.5), outline.between(-3.5, -1.5)
    if rim.sum() < 10 or not beyond.any() or covered.mean() < MINIMUM_OUTSIDE or linear[covered].std() > _MAXIMUM_OUTSIDE_SD:
        return None
    quality = float(ndimage.binary_dilation(inside, np.ones((3, 3), dtype=bool))[rim].mean() * outside[covered].mean())
    if quality < MINIMUM_QUALITY:
        return None
    steps = expanded[outline.inward(beyond, 3)] - expanded[beyond]
    contrast, gradient = float(np.median(steps)), _gradient_inside(expanded, outline)
    quality *= float((steps > 0.02).mean()) * outline.regularity()
    if quality < MINIMUM_QUALITY or contrast < _MINIMUM_CONTRAST or gradient > _MAXIMUM_GRADIENT:
        return None
    gradient, variation = max(gradient, _gradient_inside(linear, outline)), _variation(linear[outline.inward(beyond, 4)])
    unevenness = float(np.diff(np.quantile(expanded[covered], (0.1, 0.9)))[0]) / contrast
    return Field(outline.refine_planes(expanded), quality, contrast, gradient, variation, unevenness)


def _variation(values: Float[np.ndarray, "n"]) -> float:
    """Return the interquartile range relative to the median."""
    lower, middle, upper = np.quantile(values, (0.25, 0.5, 0.75))
    return float((upper - lower) / max(middle, 1e-9))


def _largest_component(region: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Return the largest connected component of a region."""
    labels, count = ndimage.label(region)
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax() if count else region


def _gradient_inside(values: Float[np.ndarray, "rows columns"], outline: Outline) -> float:
    """Return the rise of the brightness from 3 to 8 pixels inside the edge, as a fraction of the rise up to 3 pixels."""
    near, far = values[outline.between(2.5, 3.5)], values[outline.between(7, 8.5)]
    if not near.size or not far.size:
        return 0.0
    at_edge = float(np.median(near))
    return (float(np.median(far)) - at_edge) / (abs(at_edge - float(np.median(values[~outline.inside]))) + 0.02)
