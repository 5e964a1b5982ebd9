"""The numba kernels behind `masks`: which rays leave the CT within the body, and the pixels near others."""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached


@jit_cached
@no_type_check
def mark_complete_rays(source: Any, direction: Any, low: Any, high: Any, cut_low: Any, cut_high: Any, complete: Any) -> None:
    """Set `complete` [batch, height, width] to whether each ray stays in the CT within the column that the body fills.

    Args:
        source: Of each view, voxels, [batch, 3].
        direction: From homogeneous pixels, [batch, 3, 3].
        low: First voxels of the body, [3].
        high: Last voxels of the body, [3].
        cut_low: Whether the body continues before `low`, [3].
        cut_high: Whether the body continues beyond `high`, [3].
        complete: Written.
    """
    batch, height, width = complete.shape
    for n in range(batch):
        m = direction[n]
        for v in range(height):
            for u in range(width):
                d = (
                    m[0, 0] * u + m[0, 1] * v + m[0, 2],
                    m[1, 0] * u + m[1, 1] * v + m[1, 2],
                    m[2, 0] * u + m[2, 1] * v + m[2, 2],
                )
                is_complete = True
                for axis in range(3):
                    if not (cut_low[axis] or cut_high[axis]):
                        continue
                    begin, end = 0.0, 1e30
                    for other in range(3):
                        if other == axis:
                            continue
                        safe = d[other] if abs(d[other]) >= 1e-12 else 1e-12
                        one = (low[other] - 1 - source[n, other]) / safe  # interpolation reaches one voxel further
                        two = (high[other] + 1 - source[n, other]) / safe
                        begin, end = max(begin, min(one, two)), min(end, max(one, two))
                    if begin >= end:
                        continue
                    first, last = source[n, axis] + begin * d[axis], source[n, axis] + end * d[axis]
                    below = cut_low[axis] and min(first, last) < low[axis]
                    above = cut_high[axis] and max(first, last) > high[axis]
                    is_complete = is_complete and not (below or above)
                complete[n, v, u] = is_complete


@jit_cached
@no_type_check
def mark_near(flags: Any, reach: int, beyond: bool, near: Any) -> None:
    """Set `near` to 1 within a square of `reach` pixels around any set pixel, else to 0; the cost is independent of `reach`.

    Args:
        flags: [batch, height, width].
        reach: To either side, pixels.
        beyond: Whether pixels beyond the border of the image count as set.
        near: Written, [batch, height, width].
    """
    batch, height, width = flags.shape
    far = reach + 1
    above = np.empty(width, np.int64)
    rows = np.empty((height, width), np.bool_)
    for n in range(batch):
        for v in range(height):
            last = -1 if beyond else -far - 1
            for u in range(width):
                last = u if flags[n, v, u] else last
                rows[v, u] = u - last <= reach
            last = width if beyond else width + far
            for u in range(width - 1, -1, -1):
                last = u if flags[n, v, u] else last
                rows[v, u] = rows[v, u] or last - u <= reach
        above[:] = -1 if beyond else -far - 1
        for v in range(height):
            for u in range(width):
                above[u] = v if rows[v, u] else above[u]
                near[n, v, u] = 1 if v - above[u] <= reach else 0
        above[:] = height if beyond else height + far
        for v in range(height - 1, -1, -1):
            for u in range(width):
                above[u] = v if rows[v, u] else above[u]
                if above[u] - v <= reach:
                    near[n, v, u] = 1
