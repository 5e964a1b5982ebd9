"""A score learned over the evidence, for `gates.py`: does one threshold of a logistic regression do better than the gates?

It is judged on answers that it has not seen: those of a run (a file, of one seed), or of a CT. The threshold lies above the
highest score of a wrong pose among the others, by a part of the way to the median of right ones. Features are what every
registration measures, and the gain over decoys, 0 where none was registered.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from fluoro_reg.registration.assessment import gates

RIDGE = 1.0
MARGINS = (0.0, 0.2)  # of the way from the highest wrong score to the median of right ones
NO_SD = {"depth_sd_mm": 1e3, "turn_sd_deg": 1e3, "outline_mm": 10.0}  # where the image leaves it undetermined
LEAST_SIMILARITY = 1e-3
Score = Callable[[np.ndarray], np.ndarray]


def gain(similarity: float) -> float:
    """The evidence of a pixel at a similarity, as in the gates, but never 0, which has no logarithm."""
    return gates.gain(max(similarity, LEAST_SIMILARITY))


def features(scores: dict[str, float]) -> list[float]:
    """The evidence of one answer, on scales on which the gates' thresholds would be linear."""
    ours = math.log(gain(scores["similarity"]))
    theirs = math.log(gain(scores["decoy_similarity"])) if "decoy_similarity" in scores else ours
    spreads = [math.log(scores.get(name, value) + 0.01) for name, value in NO_SD.items()]
    inside = math.log(gain(scores["patch_similarity"]))
    return [ours, inside, math.log(max(scores["pixels"], 1.0)), scores["overlap"], *spreads, ours - theirs]


def logistic(x: np.ndarray, right: np.ndarray) -> Score:
    """The log odds of a pose to be right, fitted with both classes at equal weight."""
    mean, sd = x.mean(0), x.std(0) + 1e-9
    share, sign = np.where(right, 0.5 / right.mean(), 0.5 / (1 - right.mean())), np.where(right, 1.0, -1.0)

    def design(x: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(x)), (x - mean) / sd])

    rows = design(x)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        odds = sign * (rows @ weights)
        pull = RIDGE * np.concatenate([[0.0], weights[1:]])
        gradient = -rows.T @ (share * sign / (1 + np.exp(np.clip(odds, -500, 500))))
        return float((share * np.logaddexp(0, -odds)).sum() + weights @ pull / 2), gradient + pull

    weights = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda x: design(x) @ weights


def margins(x: np.ndarray, right: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Where every answer lies between the highest wrong one (0) and the median right one (1) of the other groups.

    NaN for a group without which no wrong or no right one is left to learn from.
    """
    result = np.full(len(x), np.nan)
    for group in np.unique(groups):
        known = groups != group
        if len(np.unique(right[known])) < 2:
            continue
        score = logistic(x[known], right[known])
        highest, median = score(x[known & ~right]).max(), np.median(score(x[known & right]))
        result[~known] = (score(x[~known]) - highest) / (median - highest)
    return result


def compared(wrong: list[dict[str, Any]], right: list[dict[str, Any]]) -> list[list[str]]:
    """Rows for a table: the gates, and the score on runs and on CTs that it has not seen."""
    answers = wrong + right
    is_right = np.arange(len(answers)) >= len(wrong)
    accepted = np.array([answer["accepted"] for answer in answers])
    x = np.array([features(answer["scores"]) for answer in answers])
    rows = [["all gates", "-", str((accepted & ~is_right).sum()), f"{accepted[is_right].mean():.1%}"]]
    for name, key in (("other runs", "run"), ("other CTs", "ct")):
        groups = np.array([answer[key] for answer in answers])
        above = margins(x, is_right, groups)
        judged = is_right & np.isfinite(above)
        if judged.any():
            for margin in MARGINS:
                n_wrong, share = (above[~is_right] > margin).sum(), (above[judged] > margin).mean()
                rows.append([f"logistic, learned on {name}", f"{margin:.0%}", str(n_wrong), f"{share:.1%}"])
    return rows
