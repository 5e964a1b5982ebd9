"""The soft tissue of the phantom: skin, fat, muscle, organs and a bowel with gas.

Soft tissue makes an X-ray harder to register: it adds smooth shading, and gas adds bright structures that are not bone. The
muscles therefore have streaks of fat, the cavity has fat between loops of bowel, and the colon has gas in its haustra.
Densities in HU are taken from Schneider et al. 1996 (tissue substitutes for CT calibration) and typical abdominal CTs.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from fluoro_reg.simulation.phantom.solids import AbstractSolid, Ellipsoid, Point, SampleGrid, Tube

AIR_HU = -1000.0
_BODY_THRESHOLD_HU = -500.0
_SKIN_HU, _FAT_HU, _MUSCLE_HU, _BOWEL_HU, _URINE_HU, _GAS_HU = 20.0, -98.0, 55.0, 35.0, 6.0, -940.0
_SKIN_MM, _FAT_MM = 2.0, 19.0
_OUTLINE = np.array(  # z, half width, half depth, y of the middle
    [
        [-220, 165, 92, 12],
        [-110, 176, 104, 16],
        [-50, 181, 112, 20],
        [10, 178, 116, 22],
        [70, 164, 115, 16],
        [130, 152, 110, 8],
        [250, 150, 106, 0],
    ]
)
_COLON = {  # x, y, z, radius along each part
    "ascending": ((-108, 0, 30, 24), (-112, 8, 80, 25), (-110, 5, 140, 24), (-100, -5, 230, 23)),
    "descending": ((104, 5, 230, 18), (112, 18, 150, 18), (106, 10, 80, 17), (80, -20, 55, 16)),
    "sigmoid": ((80, -20, 55, 16), (40, -25, 75, 16), (-15, 0, 85, 17), (-5, 35, 60, 17), (0, 52, 20, 18)),
}


def soft_tissue_hu(grid: SampleGrid, scale: float, gas: float, generator: np.random.Generator) -> Float[np.ndarray, "nz ny nx"]:
    """Return the body without bones in HU, on a grid whose origin is the midpoint of the hip centres."""
    voxel = float(grid.x[1] - grid.x[0])
    depth = -_outline_distance(grid, scale)
    streaks = smooth_noise(grid.shape, 9.0 / voxel, generator)
    muscle = _MUSCLE_HU - 120 * _ramp(streaks - 1.15, 0.25)
    hu = np.full(grid.shape, AIR_HU)
    for start, value in ((0.0, _SKIN_HU), (_SKIN_MM, _FAT_HU + 8 * streaks), (_FAT_MM * scale, muscle)):
        _blend(hu, _coverage(start - depth, voxel), value)
    loops = smooth_noise(grid.shape, 8.0 / voxel, generator)
    _fill(hu, grid, _cavity(scale), _FAT_HU + (_BOWEL_HU - _FAT_HU) * _ramp(loops + 0.2, 0.25))
    _fill(hu, grid, [Ellipsoid(_scaled((2, -30, 10), scale), (40 * scale, 27 * scale, 24 * scale))], _URINE_HU)
    for path in _COLON.values():
        _fill(hu, grid, [_tube(path, scale)], _BOWEL_HU + 12 * loops)
    _fill(hu, grid, _gas_bubbles(scale, gas, generator), _GAS_HU, 2.2 * loops)
    return hu


def smooth_noise(
    shape: tuple[int, int, int], size_voxels: float, generator: np.random.Generator
) -> Float[np.ndarray, "nz ny nx"]:
    """Return Gaussian noise of unit variance with a correlation length of about `size_voxels`."""
    coarse = tuple(int(n / size_voxels) + 4 for n in shape)
    fine = generator.standard_normal(coarse)
    for axis, n in enumerate(shape):
        at = np.arange(n) / size_voxels + 1.0 + 0.5 * generator.random()
        low = at.astype(int)
        weight = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        fine = np.take(fine, low, axis) * (1 - weight) + np.take(fine, low + 1, axis) * weight
    return fine / max(float(fine.std()), 1e-6)


def _outline_distance(grid: SampleGrid, scale: float) -> Float[np.ndarray, "nz ny nx"]:
    """Return the approximate signed distance to the skin, mm, negative inside."""
    x, y, z = (axis / scale for axis in grid.coordinates())
    columns = [np.interp(z.ravel(), _OUTLINE[:, 0], column)[:, None, None] for column in _OUTLINE.T[1:]]
    width, depth, middle = columns
    radius = (np.abs(x / width) ** 2.3 + np.abs((y - middle) / depth) ** 2.3) ** (1 / 2.3)
    trunk = (radius - 1) * depth
    between_thighs = 0.1 * (-96 - z) - np.abs(x)
    return np.maximum(trunk, between_thighs) * scale


def _cavity(scale: float) -> list[Ellipsoid]:
    abdomen = Ellipsoid(_scaled((0, -18, 150), scale), (118 * scale, 64 * scale, 105 * scale))
    pelvis = Ellipsoid(_scaled((0, 6, 40), scale), (58 * scale, 52 * scale, 58 * scale))
    return [abdomen, pelvis]


def _tube(knots: tuple[tuple[float, float, float, float], ...], scale: float) -> Tube:
    return Tube(tuple(_scaled(knot[:3], scale) for knot in knots), tuple(knot[3] * scale for knot in knots))


def _gas_bubbles(scale: float, gas: float, generator: np.random.Generator) -> list[Ellipsoid]:
    """Return gas in some haustra of the colon, anterior as in a supine patient, and small bubbles in the small bowel."""
    bubbles = []
    for path in _COLON.values():
        for (x, y, z, radius), fill in _haustra(np.array(path), generator):
            if fill < 0.5 * gas:
                size = radius * generator.uniform(0.55, 0.85)
                centre = (x, y - 0.35 * radius, z)
                bubbles.append(Ellipsoid(_scaled(centre, scale), (size * scale, 0.8 * size * scale, 0.9 * size * scale)))
    for _ in range(int(9 * gas)):
        centre = (generator.uniform(-75, 75), generator.uniform(-65, -30), generator.uniform(70, 200))
        radii = generator.uniform(5, 13, 3) * scale
        bubbles.append(Ellipsoid(_scaled(centre, scale), (float(radii[0]), float(radii[1]), float(radii[2]))))
    return bubbles


def _haustra(path: np.ndarray, generator: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """Return (x, y, z, radius) of the haustra along a part of the colon, each with a random fill level from 0 to 1."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1))])
    positions = np.arange(6, lengths[-1], 17.0)
    knots = np.stack([np.interp(positions, lengths, column) for column in path.T], axis=-1)
    fill = np.convolve(generator.random(len(positions) + 2), [0.5, 0.3, 0.2], mode="valid")
    return list(zip(knots, (fill - fill.min()) / max(float(np.ptp(fill)), 1e-6), strict=True))


def _fill(
    hu: np.ndarray,
    grid: SampleGrid,
    solids: Sequence[AbstractSolid],
    value: np.ndarray | float,
    ripple_mm: np.ndarray | float = 0.0,
) -> None:
    """Fill solids with a density, inside the body only; `ripple_mm` displaces their surfaces."""
    voxel, margin = float(grid.x[1] - grid.x[0]), 2.0 * float(np.max(ripple_mm))
    ripple, values = np.broadcast_to(ripple_mm, hu.shape), np.broadcast_to(value, hu.shape)
    for solid in solids:
        window = grid.window(solid.box(), voxel + margin)
        if hu[window].size:
            distance = solid.distance(grid.crop(window)) + ripple[window]
            _blend(hu[window], _coverage(distance, voxel) * (hu[window] > _BODY_THRESHOLD_HU), values[window])


def _blend(hu: np.ndarray, weight: np.ndarray, value: np.ndarray | float) -> None:
    hu += weight * (value - hu)


def _coverage(distance: np.ndarray, voxel: float) -> np.ndarray:
    """Return the fraction of a voxel that lies inside a surface at a signed distance."""
    return np.clip(0.5 - distance / voxel, 0, 1)


def _ramp(value: np.ndarray, width: float) -> np.ndarray:
    """Return a linear transition from 0 at -width to 1 at +width."""
    return np.clip(0.5 + value / (2 * width), 0, 1)


def _scaled(point: tuple[float, ...], scale: float) -> Point:
    x, y, z = (float(c) * scale for c in point)
    return x, y, z
