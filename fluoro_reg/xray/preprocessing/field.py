"""Where the beam reached the detector: the collimator's opening, found in the image.

Blades and circular diaphragms leave a convex opening with straight or circular edges, and anatomy almost never has such an
outline: that is the whole test. Candidates for the outside are regions that touch the image's border, either as dark
as the border itself (on a scale that opens up the dark end) or reached from it without crossing an edge; the opening is the
convex hull of the rest, so dark anatomy at its rim is not eaten. A candidate counts when its outline is convex, straight or
circular, and brighter inside than outside nearly everywhere. If none does, the whole image is the field.

`inverted` looks at the negative, where a collimator is bright: images of attenuation.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from fluoro_reg.xray.image import Intensity
from fluoro_reg.xray.preprocessing.coarse import CoarseImage
from fluoro_reg.xray.preprocessing.outline import Outline, outline_of

_DARKNESS = 0.01  # of the range: where the scale turns from linear to logarithmic
_LEVELS = (0.16, 0.02)  # above the border's own darkness, on that scale of 0 to 1
_EDGES = (0.03, 0.06, 0.015, 0.12)  # of the range per coarse pixel: a barrier to the flood from the border
_MINIMUM_FIELD = 0.15
_MINIMUM_OUTSIDE = 0.01
_MINIMUM_QUALITY = 0.7
_MINIMUM_CONTRAST = 0.15
_MAXIMUM_GRADIENT = 0.6
_MAXIMUM_UNEVENNESS = 0.2  # of the range, standard deviation outside
_PAINTED_QUALITY, _PAINTED_CONTRAST, _PAINTED_GRADIENT, _PAINTED_VARIATION = 0.85, 0.3, 0.2, 0.05


@dataclass(frozen=True, slots=True)
class Field:
    """A convex opening in coarse pixels: `planes` (a, b, c) with a row + b column + c <= 0 inside.

    `quality` 0 to 1 is how much it looks like a collimator; `contrast` 0 to 1 how much brighter its inside is; `gradient` how
    far brightness goes on rising inside, which an edge of air does and an edge of lead does not; `variation` how much the
    brightness inside changes along the edge, relative to itself.
    """

    planes: Float[np.ndarray, "n 3"]
    quality: float
    contrast: float
    gradient: float
    variation: float

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


def find_opening(coarse: CoarseImage, intensity: Intensity) -> Field | None:
    """A collimator's opening, in dark for photons, in bright for attenuation, or in black painted over attenuation."""
    if intensity is Intensity.TRANSMITTED:
        return find_field(coarse.mean, coarse.usable)
    field = find_field(coarse.mean, coarse.usable, inverted=True)
    if field is not None or not _painted_corners(coarse):
        return field
    return as_painted(find_field(coarse.mean, coarse.usable), coarse)


def as_painted(field: Field | None, coarse: CoarseImage) -> Field | None:
    """A field of attenuation in a black surround, if that can only be painted: else it is a body in air.

    Painted black is one grey to the corners; its edge is sharp; and what it cuts through is anatomy of changing density.
    """
    if field is None or not _painted_corners(coarse) or field.gradient > _PAINTED_GRADIENT:
        return None
    believable = field.quality >= _PAINTED_QUALITY and field.contrast >= _PAINTED_CONTRAST
    return field if believable and field.variation >= _PAINTED_VARIATION else None


def find_field(
    image: Float[np.ndarray, "rows columns"], usable: Bool[np.ndarray, "rows columns"], inverted: bool = False
) -> Field | None:
    """The collimator's opening in a coarse image, or None when nothing looks like one."""
    signed = -image if inverted else image
    low, high = float(signed[usable].min()), float(np.quantile(signed[usable], 0.99))
    if high <= low:
        return None
    linear = np.clip((signed - low) / (high - low), 0, 1)
    opened = _opened(linear)
    best: Field | None = None
    for outside in _candidates(linear, usable):
        field = _examined(outside, linear, opened)
        if field is not None and (best is None or field.quality > best.quality):
            best = field
        if best is not None and best.quality > 0.9:
            break
    return best


def _painted_corners(coarse: CoarseImage) -> bool:
    """Whether all four corners are of one grey, the least of all: a CT that ends in view has two of air."""
    corners = (np.array([0, 0, -1, -1]), np.array([0, -1, 0, -1]))
    return bool((coarse.high[corners] <= coarse.low.min()).all())


def _opened(linear: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    """0 to 1 on a scale that opens up the dark end."""
    return np.log1p(linear / _DARKNESS) / np.log1p(1 / _DARKNESS)


def touching_border(region: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The connected parts of a region that reach the image's border."""
    labels, _ = ndimage.label(region)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    kept = np.zeros(labels.max() + 1, dtype=bool)
    kept[border] = True
    kept[0] = False
    return kept[labels]


def _candidates(linear: np.ndarray, usable: np.ndarray) -> "list[Bool[np.ndarray, 'rows columns']]":
    ring = np.zeros(linear.shape, dtype=bool)
    ring[:3] = ring[-3:] = ring[:, :3] = ring[:, -3:] = True
    smooth = ndimage.gaussian_filter(linear, 0.7)
    opened = _opened(smooth)
    darkness = np.quantile(opened[ring & usable], 0.03) if (ring & usable).any() else 0.0
    edges = np.hypot(*np.gradient(smooth))
    regions = [(edges < barrier) & (linear < 0.6) for barrier in _EDGES]
    regions += [opened < darkness + level for level in _LEVELS]
    connected = [touching_border(region | ~usable) for region in regions]
    distinct: list[np.ndarray] = []
    for outside in connected:
        if outside.mean() >= _MINIMUM_OUTSIDE and all((outside != other).mean() > 0.002 for other in distinct):
            distinct.append(outside)
    return distinct


def _examined(outside: Bool[np.ndarray, "rows columns"], linear: np.ndarray, opened: np.ndarray) -> Field | None:
    """The opening that an outside leaves, if it passes for a collimator's."""
    inside = _largest(ndimage.binary_opening(np.pad(~outside, 2, mode="edge"), np.ones((5, 5), dtype=bool))[2:-2, 2:-2])
    outline = outline_of(inside) if inside.mean() >= _MINIMUM_FIELD else None
    if outline is None:
        return None
    covered, rim, beyond = ~outline.inside, outline.between(-0.5, 0.5), outline.between(-3.5, -1.5)
    if rim.sum() < 10 or not beyond.any() or covered.mean() < _MINIMUM_OUTSIDE or linear[covered].std() > _MAXIMUM_UNEVENNESS:
        return None
    quality = float(ndimage.binary_dilation(inside, np.ones((3, 3), dtype=bool))[rim].mean() * outside[covered].mean())
    if quality < _MINIMUM_QUALITY:
        return None
    steps = opened[outline.inward(beyond, 3)] - opened[beyond]
    contrast, gradient = float(np.median(steps)), _rise_inside(opened, outline)
    quality *= float((steps > 0.02).mean()) * outline.regularity()
    if quality < _MINIMUM_QUALITY or contrast < _MINIMUM_CONTRAST or gradient > _MAXIMUM_GRADIENT:
        return None
    gradient, variation = max(gradient, _rise_inside(linear, outline)), _variation(linear[outline.inward(beyond, 4)])
    return Field(outline.sharpened(opened), quality, contrast, gradient, variation)


def _variation(values: Float[np.ndarray, "n"]) -> float:
    """The middle half's span relative to the median."""
    lower, middle, upper = np.quantile(values, (0.25, 0.5, 0.75))
    return float((upper - lower) / max(middle, 1e-9))


def _largest(region: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The largest connected part of a region."""
    labels, count = ndimage.label(region)
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax() if count else region


def _rise_inside(values: Float[np.ndarray, "rows columns"], outline: Outline) -> float:
    """How much brightness goes on rising from 3 to 8 pixels inside the edge, as a share of its rise up to there."""
    near, far = values[outline.between(2.5, 3.5)], values[outline.between(7, 8.5)]
    if not near.size or not far.size:
        return 0.0
    at_edge = float(np.median(near))
    return (float(np.median(far)) - at_edge) / (abs(at_edge - float(np.median(values[~outline.inside]))) + 0.02)
