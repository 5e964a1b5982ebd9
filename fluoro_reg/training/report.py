"""The picture of a training: its curves and, of a regressor, held-back views beside what the CT looks like at its poses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from fluoro_reg.training.similarity import SimilarityRecord
from fluoro_reg.training.state import AbstractRecord
from fluoro_reg.training.trainer import RegressorTraining
from fluoro_reg.training.validation import Record

_EXAMPLES = 6


def write_report(path: Path, training: RegressorTraining) -> None:
    """A PNG; the views are the first that were held back, not the best.

    Raises:
        OSError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    curves, views = figure.subfigures(2, 1, height_ratios=(2, 3))
    _curves(curves.subplots(1, 3), training.state.history)
    shown = min(_EXAMPLES, len(training.held_back[0].chunks[0].inputs))
    _views(views.subplots(2, shown, squeeze=False), training)
    figure.savefig(path, dpi=100)


def write_similarity_report(path: Path, history: Sequence[SimilarityRecord]) -> None:
    """A PNG of the curves of a learned similarity.

    Raises:
        OSError: the file cannot be written.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    cosines = {
        "held-back pairs, rotation": [record.rotation_cosine for record in history],
        "held-back pairs, translation": [record.translation_cosine for record in history],
        "share of pairs whose gradient leads to the truth": [record.towards_truth for record in history],
    }
    loss = {
        "training pairs": [record.loss for record in history],
        "held-back pairs": [record.error for record in history],
    }
    _lines(
        figure.subplots(1, 2),
        history,
        (("directions 0 to 8, chance 4; of training with its other terms", loss), ("cosine of the gradients, share", cosines)),
    )
    figure.savefig(path, dpi=100)


def _curves(axes: np.ndarray, history: Sequence[Record]) -> None:
    lines = (
        ("loss", {"training views": [record.loss for record in history]}),
        (
            "median error, mm",
            {
                "held-back views, 3-D (mTRE)": [r.mtre_mm for r in history],
                "held-back views, in the image plane": [r.in_plane_mm for r in history],
            },
        ),
        ("median turn, deg", {"held-back views": [record.rotation_deg for record in history]}),
    )
    _lines(axes, history, lines)


def _lines(
    axes: np.ndarray, history: Sequence[AbstractRecord], lines: Sequence[tuple[str, Mapping[str, Sequence[float]]]]
) -> None:
    steps = [record.step for record in history]
    for ax, (label, curves) in zip(axes, lines, strict=True):
        for name, values in curves.items():
            ax.plot(steps, values, "o-", ms=3, label=name)
        ax.set(xlabel="step", ylabel=label)
        ax.set_ylim(bottom=min(0, np.nanmin([min(values) for values in curves.values()])))
        ax.legend(frameon=False)


@torch.no_grad()
def _views(axes: np.ndarray, training: RegressorTraining) -> None:
    held_back, subject = training.held_back[0], training.subjects[0]
    samples = held_back.chunks[0]
    found = training.state.average(samples.inputs, subject.reference).camera_from_patient
    errors, _ = held_back.target_errors(found, samples.camera_from_patient)
    rendered = subject.maker.project(found.to("cpu", torch.float64), samples.bone_contrast)
    for n, (above, below) in enumerate(axes.T):
        above.imshow(samples.inputs[n, 0].cpu(), cmap="gray_r")
        below.imshow(rendered[n].cpu(), cmap="gray_r")
        above.set_title("what the network sees" if n == 0 else "")
        below.set_title(f"the CT at its pose, {errors[n]:.0f} mm off", fontsize=9)
        for ax in (above, below):
            ax.set_axis_off()
