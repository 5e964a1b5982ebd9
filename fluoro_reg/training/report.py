"""Figures of a training: its curves and, for a regressor, validation views beside projections at the estimated poses."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from fluoro_reg.training.similarity import SimilarityRecord
from fluoro_reg.training.state import AbstractRecord
from fluoro_reg.training.trainer import RegressorTraining
from fluoro_reg.training.validation import RegressorRecord

_EXAMPLES = 6


def write_regressor_report(path: Path, training: RegressorTraining) -> None:
    """Write a PNG with the curves of a regressor's training and its first validation views.

    Raises:
        OSError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    curves, views = figure.subfigures(2, 1, height_ratios=(2, 3))
    _plot_curves(curves.subplots(1, 3), training.state.history)
    n_examples = min(_EXAMPLES, len(training.validation_views[0].chunks[0].inputs))
    _plot_views(views.subplots(2, n_examples, squeeze=False), training)
    figure.savefig(path, dpi=100)


def write_similarity_report(path: Path, history: Sequence[SimilarityRecord]) -> None:
    """Write a PNG with the curves of a learned similarity's training.

    Raises:
        OSError: the file cannot be written.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    cosines = {
        "cosine of rotation": [record.rotation_cosine for record in history],
        "cosine of translation": [record.translation_cosine for record in history],
        "fraction led towards the truth": [record.towards_truth for record in history],
    }
    loss = {
        "training pairs": [record.loss for record in history],
        "validation pairs": [record.error for record in history],
    }
    _plot_lines(
        figure.subplots(1, 2),
        history,
        (
            ("loss of directions, 0 to 8, chance 4\n(for training, with its other terms)", loss),
            ("over validation pairs", cosines),
        ),
    )
    figure.savefig(path, dpi=100)


def _plot_curves(axes: np.ndarray, history: Sequence[RegressorRecord]) -> None:
    lines = (
        ("loss", {"training views": [record.loss for record in history]}),
        (
            "median error, mm",
            {
                "validation views, 3-D (mTRE)": [r.mtre_mm for r in history],
                "validation views, in the image plane": [r.in_plane_mm for r in history],
            },
        ),
        ("median rotation error, deg", {"validation views": [record.rotation_deg for record in history]}),
    )
    _plot_lines(axes, history, lines)


def _plot_lines(
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
def _plot_views(axes: np.ndarray, training: RegressorTraining) -> None:
    validation_views, subject = training.validation_views[0], training.subjects[0]
    samples = validation_views.chunks[0]
    estimated = training.state.average(samples.inputs, subject.view).camera_from_patient
    errors, _ = validation_views.target_errors(estimated, samples.camera_from_patient)
    rendered = subject.maker.project(estimated.to("cpu", torch.float64), samples.projections.bone_contrast)
    for n, (above, below) in enumerate(axes.T):
        above.imshow(samples.inputs[n, 0].cpu(), cmap="gray_r")
        below.imshow(rendered[n].cpu(), cmap="gray_r")
        above.set_title("input of the network" if n == 0 else "")
        below.set_title(f"CT at the estimated pose, {errors[n]:.0f} mm off", fontsize=9)
        for ax in (above, below):
            ax.set_axis_off()
