"""The score that `benchmarks/gates.py` learns over the evidence is judged on answers that it has not seen."""

import numpy as np
import pytest
from gate_score import compared, features, logistic, margins

RIGHT = {"similarity": 0.9, "patch_similarity": 0.92, "pixels": 9000.0, "overlap": 0.8, "depth_sd_mm": 1.0, "turn_sd_deg": 0.1}
WRONG = {**RIGHT, "similarity": 0.4, "patch_similarity": 0.5}


@pytest.fixture
def answers():
    """Answers of two runs: evidence in two clouds, of which the gates accept half of the right ones."""
    random = np.random.default_rng(0)

    def answer(scores, n):
        noisy = {name: value * (1 + 0.02 * random.standard_normal()) for name, value in scores.items()}
        return {"scores": noisy, "run": f"run {n % 2}", "ct": "phantom", "accepted": scores is RIGHT and n % 4 < 2}

    return [answer(WRONG, n) for n in range(60)], [answer(RIGHT, n) for n in range(100)]


def test_a_score_separates_what_can_be_separated(answers):
    gates, _, learned = compared(*answers)  # one CT: none to learn on others
    assert gates == ["all gates", "-", "0", "50.0%"]
    assert learned == ["logistic, learned on other runs", "20%", "0", "100.0%"]


def test_what_a_group_is_cannot_influence_its_own_margins(answers):
    everyone = [*answers[0], *answers[1]]
    x = np.array([features(answer["scores"]) for answer in everyone])
    groups = np.array([answer["run"] for answer in everyone])
    right, first = np.arange(len(x)) >= 60, groups == "run 0"
    flipped = np.where(first, ~right, right)
    before, after = margins(x, right, groups), margins(x, flipped, groups)
    np.testing.assert_allclose(after[first], before[first])
    assert not np.allclose(after[~first], before[~first])


def test_the_log_odds_of_a_known_model_are_found():
    random = np.random.default_rng(1)
    x = random.standard_normal((20_000, 2))
    right = random.random(len(x)) < 1 / (1 + np.exp(-(1.5 * x[:, 0] - 0.5 * x[:, 1])))
    score = logistic(x, right)
    slopes = [score(np.eye(2)[k : k + 1])[0] - score(np.zeros((1, 2)))[0] for k in (0, 1)]
    assert slopes == pytest.approx([1.5, -0.5], abs=0.1)
