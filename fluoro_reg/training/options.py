"""Settings of trainings, with their defaults."""

import math
from dataclasses import dataclass

from fluoro_reg.config import option, section
from fluoro_reg.regressor import RegressorOptions
from fluoro_reg.training.degradations import DegradationOptions
from fluoro_reg.training.losses import LossOptions

DEFAULT_BUDGET_S = 300.0


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Settings of the training loop.

    The training ends after `steps` or `budget_s`, whichever comes first, or after five minutes if neither is given. The
    learning rate falls to zero by then. Only a training with a number of steps and without a budget is reproducible bit by bit.
    """

    steps: int = option(0, "number of batches; 0: limited by time only", minimum=0)
    budget_s: float = option(
        0.0, "time to train; 0: no limit, or five minutes if there is no number of steps", unit="s", minimum=0, maximum=1e7
    )
    batch: int = option(16, "images in a batch", minimum=1, maximum=4096)
    ahead: int = option(1, "steps whose images are made at once", minimum=1, maximum=1024)
    learning_rate: float = option(1.5e-3, "maximum learning rate, after warm-up", minimum=1e-7, maximum=1)
    warm_up: float = option(0.04, "fraction of the training until the maximum learning rate", minimum=0, maximum=0.5)
    weight_decay: float = option(1e-4, "weight decay of AdamW", minimum=0, maximum=1)
    clip: float = option(1.0, "maximum norm of the gradient", minimum=1e-6)
    average: float = option(0.998, "decay of the running average of the weights, per step", minimum=0, maximum=0.99999)
    validations: int = option(12, "number of validations on the validation views", minimum=1, maximum=1000)
    validation_images: int = option(96, "number of validation views, X-rays of the simulator", minimum=8, maximum=100_000)
    patience: int = option(6, "stop after this many validations without improvement", minimum=1, maximum=1000)
    seed: int = option(0, "seed of all random values", minimum=0, maximum=2**31 - 1)
    degradations: DegradationOptions = section(DegradationOptions)

    @property
    def is_timed(self) -> bool:
        """Whether time may end the training."""
        return bool(self.budget_s) or not self.steps

    def fraction_done(self, step: int, elapsed_s: float) -> float:
        """Return the fraction of the training that is done, 0 to 1."""
        budget_s = self.budget_s or (math.inf if self.steps else DEFAULT_BUDGET_S)
        by_steps = step / self.steps if self.steps else 0.0
        return min(1.0, max(by_steps, elapsed_s / budget_s))


@dataclass(frozen=True, slots=True)
class TrainingOptions(LoopOptions):
    """Settings of the training of a pose regressor."""

    network: RegressorOptions = section(RegressorOptions)
    losses: LossOptions = section(LossOptions)
