"""The rows of the comparison, and its entries: one row for one contender and one batch size.

    forward            images, no graph
    forward+backward   images, and the gradient of one weighted sum of their pixels with respect to each pose
    image+jacobian     images, and all six derivatives of every pixel; the peers do not have this

An entry is named contender/row/batchN. Where a peer does forward+backward, this project is charged with image+jacobian, which
is more work: its gradient is a sum over the result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fluoro_reg.geometry import retract
from render_bench.contenders import Contender, Ours

BATCHES = (1, 8)
_CHARGED = {"forward": "forward", "forward+backward": "image+jacobian", "image+jacobian": "image+jacobian"}


@dataclass(frozen=True)
class Entry:
    """One cell of the comparison."""

    contender: str
    row: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.contender}/{self.row}/batch{self.batch}"

    @staticmethod
    def parse(name: str) -> "Entry":
        contender, row, batch = name.split("/")
        return Entry(contender, row, int(batch.removeprefix("batch")))


def entries_of(name: str, contender: Contender) -> list[Entry]:
    rows = [row for row in _CHARGED if row != "image+jacobian" or contender.has_jacobian]
    return [Entry(name, row, batch) for row in rows for batch in BATCHES]


def work_of(entry: Entry, contender: Contender) -> Callable[[], object]:
    """Return the work of an entry as a function to be timed."""
    scene = contender.scene
    poses = scene.poses(entry.batch)
    if entry.row == "image+jacobian":
        assert isinstance(contender, Ours)
        return lambda: contender.images_and_jacobians(poses)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return contender.images(poses)

    if entry.row == "forward":
        return forward
    shape = (entry.batch, scene.camera.height, scene.camera.width)
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(contender.device)

    def forward_and_backward() -> torch.Tensor | None:
        twists = torch.zeros(entry.batch, 6, dtype=torch.float64, requires_grad=True)
        (contender.images(retract(poses, twists, scene.pivot)) * weights).sum().backward()
        return twists.grad

    return forward_and_backward


def ratios_to_ours(seconds: dict[str, float]) -> dict[str, float]:
    """Return each entry's time relative to that of our fastest backend on the row it is charged with."""
    ours: dict[tuple[str, int], float] = {}
    for name, value in seconds.items():
        entry = Entry.parse(name)
        if entry.contender.startswith("ours-"):
            key = entry.row, entry.batch
            ours[key] = min(value, ours.get(key, math.inf))
    entries = {name: Entry.parse(name) for name in seconds}
    keys = {name: (_CHARGED[entry.row], entry.batch) for name, entry in entries.items()}
    return {name: value / ours[keys[name]] for name, value in seconds.items() if keys[name] in ours}
