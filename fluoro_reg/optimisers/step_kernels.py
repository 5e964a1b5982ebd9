"""The steps of Levenberg-Marquardt as numba kernels, for float64 values on the CPU that need no gradient.

In torch, a step is a hundred operations on matrices of 6 x 6, and launching each of them takes longer than computing it. The
methods of `LevenbergMarquardt` are the reference.
"""

from typing import Any, no_type_check

import numpy as np

from fluoro_reg.compiled import jit_cached, jit_inline


@jit_cached
@no_type_check
def damped_steps(hessian: Any, gradient: Any, damping: Any, limit_mm: float, limit_rad: float, steps: Any, solved: Any) -> None:
    """Solve the damped normal equations of each start, and limit the steps.

    Args:
        hessian: [batch, n, n].
        gradient: [batch, n].
        damping: Of the Hessian's diagonal, [batch].
        limit_mm: The longest translation of a body.
        limit_rad: The longest rotation of a body.
        steps: Written, [batch, n]; zero without a solution.
        solved: Written: whether there is a solution, [batch].
    """
    batch, n = gradient.shape
    rows = np.empty((n, n + 1))
    for b in range(batch):
        largest = hessian[b, 0, 0]
        for p in range(1, n):
            largest = max(largest, hessian[b, p, p])
        floor = 1e-9 * largest + 1e-20
        for p in range(n):
            rows[p, :n] = hessian[b, p]
            rows[p, p] += damping[b] * hessian[b, p, p] + floor
            rows[p, n] = -gradient[b, p]
        _eliminate(rows)
        solved[b] = np.isfinite(rows[:, n]).all()
        for p in range(n):
            steps[b, p] = rows[p, n] if solved[b] else 0.0
    limit_steps(steps, limit_mm, limit_rad)


@jit_cached
@no_type_check
def limit_steps(steps: Any, limit_mm: float, limit_rad: float) -> None:
    """Shorten the part of each body, six values of a step, to the longest that is allowed."""
    for b in range(steps.shape[0]):
        for first in range(0, steps.shape[1], 6):
            part = steps[b, first : first + 6]
            mm = np.sqrt(part[0] * part[0] + part[1] * part[1] + part[2] * part[2])
            rad = np.sqrt(part[3] * part[3] + part[4] * part[4] + part[5] * part[5])
            excess = max(mm / limit_mm, rad / limit_rad)
            if excess > 1:
                part /= excess


@jit_cached
@no_type_check
def update_damping(cost: Any, gradient: Any, hessian: Any, step: Any, trial_cost: Any, factors: Any, damping: Any) -> None:
    """Write the damping after a step to a point of cost `trial_cost`; `factors` are easing, tightening and trusted gain."""
    easing, tightening, trusted_gain = factors
    for b in range(len(cost)):
        if not trial_cost[b] < cost[b]:
            damping[b] *= tightening
            continue
        linear, quadratic = _model(gradient[b], hessian[b], step[b])
        if trusted_gain == 0 or cost[b] - trial_cost[b] > -trusted_gain * (2 * linear + quadratic):
            damping[b] = max(damping[b] / easing, 1e-6)


@jit_cached
@no_type_check
def update_stretch(cost: Any, gradient: Any, hessian: Any, step: Any, trial_cost: Any, maximum: float, stretch: Any) -> None:
    """Write the stretch after a step to a point of cost `trial_cost`."""
    for b in range(len(cost)):
        if not trial_cost[b] < cost[b]:
            stretch[b] = 1.0
            continue
        linear, assumed = _model(gradient[b], hessian[b], step[b])
        curvature = trial_cost[b] - cost[b] - 2 * linear
        wanted = assumed / max(max(curvature, assumed / maximum), 1e-30)
        stretch[b] = min(max(min(wanted, 2 * stretch[b]), 1.0), maximum)


@jit_inline
@no_type_check
def _model(gradient: Any, hessian: Any, step: Any) -> tuple[float, float]:
    """`step . gradient` and `step . hessian step`."""
    linear, quadratic = 0.0, 0.0
    for p in range(len(step)):
        linear += step[p] * gradient[p]
        for q in range(len(step)):
            quadratic += step[p] * hessian[p, q] * step[q]
    return linear, quadratic


@jit_inline
@no_type_check
def _eliminate(rows: Any) -> None:
    """Gauss-Jordan elimination of [matrix, right side], without pivots; the solution is left in the last column."""
    n = rows.shape[0]
    for k in range(n):
        pivot = rows[k, k]
        for q in range(n + 1):
            rows[k, q] /= pivot
        for p in range(n):
            if p != k:
                factor = rows[p, k]
                for q in range(n + 1):
                    rows[p, q] -= factor * rows[k, q]
