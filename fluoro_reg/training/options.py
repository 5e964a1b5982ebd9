"""What a user may choose of a training; the one home of these defaults."""

import math
from dataclasses import dataclass

from fluoro_reg.config import option, section
from fluoro_reg.regressor import RegressorOptions
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.losses import LossOptions

DEFAULT_BUDGET_S = 300.0


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """The training ends after `steps` or `budget_s`, whichever comes first (after five minutes where neither is given); the
    learning rate falls to zero until then.

    Only a training of a given number of steps, without a budget, can be repeated to the last bit.
    """

    steps: int = option(0, "number of batches; 0: as many as there is time for", minimum=0)
    budget_s: float = option(0.0, "time to train; 0: no limit, or five minutes without steps", unit="s", minimum=0, maximum=1e7)
    batch: int = option(16, "images in a batch", minimum=1, maximum=4096)
    learning_rate: float = option(1.5e-3, "the highest, after warm-up", minimum=1e-7, maximum=1)
    warm_up: float = option(0.04, "share of the training until the highest learning rate", minimum=0, maximum=0.5)
    weight_decay: float = option(1e-4, "of AdamW", minimum=0, maximum=1)
    clip: float = option(1.0, "longest gradient of a step", minimum=1e-6)
    average: float = option(0.998, "share of the running average of weights that a step keeps", minimum=0, maximum=0.99999)
    validations: int = option(12, "how often the held-back views are looked at", minimum=1, maximum=1000)
    validation_images: int = option(256, "number of held-back views", minimum=8, maximum=100_000)
    patience: int = option(6, "stop after so many validations without a better median error", minimum=1, maximum=1000)
    seed: int = option(0, "seed of everything random", minimum=0, maximum=2**31 - 1)
    degradations: DegradationOptions = section(DegradationOptions)

    def progress(self, step: int, elapsed_s: float) -> float:
        """How much of the training is done, 0 to 1."""
        budget_s = self.budget_s or (math.inf if self.steps else DEFAULT_BUDGET_S)
        by_steps = step / self.steps if self.steps else 0.0
        return min(1.0, max(by_steps, elapsed_s / budget_s))


@dataclass(frozen=True, slots=True)
class TrainingOptions(LoopOptions):
    """Of a pose regressor."""

    network: RegressorOptions = section(RegressorOptions)
    losses: LossOptions = section(LossOptions)
