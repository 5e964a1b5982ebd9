"""Batches as plain frozen dataclasses and tuples of tensors (nested freely): pick some elements, replace some elements."""

import dataclasses
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

B = TypeVar("B")


def take(batch: B, rows: Int[Tensor, "m"]) -> B:
    """The elements `rows` of every tensor in `batch`."""
    return _map(lambda tensor: tensor[rows], batch)


def put(batch: B, rows: Int[Tensor, "m"], new: B) -> B:
    """`batch` with the elements `rows` replaced by those of `new`."""
    return _map(lambda tensor, fresh: tensor.index_copy(0, rows.to(tensor.device), fresh), batch, new)


def size(batch: Any) -> int:
    """How many elements `batch` has."""
    while not isinstance(batch, Tensor):
        batch = getattr(batch, dataclasses.fields(batch)[0].name)
    return batch.shape[0]


def where(mask: Bool[Tensor, "batch"], new: B, old: B) -> B:
    """Every element of `new` where the mask holds, else of `old`."""
    return _map(lambda fresh, tensor: torch.where(mask.reshape(-1, *[1] * (tensor.dim() - 1)), fresh, tensor), new, old)


def _map(function: Any, *batches: Any) -> Any:
    if isinstance(batches[0], Tensor):
        return function(*batches)
    if isinstance(batches[0], tuple):
        return tuple(_map(function, *parts) for parts in zip(*batches, strict=True))
    names = [field.name for field in dataclasses.fields(batches[0])]
    return type(batches[0])(*(_map(function, *(getattr(batch, name) for batch in batches)) for name in names))
