"""Batches as frozen dataclasses and tuples of tensors, nested freely, and functions that select or replace elements."""

import dataclasses
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

BatchT = TypeVar("BatchT")


def take(batch: BatchT, rows: Int[Tensor, "m"]) -> BatchT:
    """Return the elements `rows` of every tensor in `batch`."""
    return _map_tensors(lambda tensor: tensor[rows], batch)


def put(batch: BatchT, rows: Int[Tensor, "m"], new: BatchT) -> BatchT:
    """Return `batch` with the elements `rows` replaced by those of `new`."""
    return _map_tensors(lambda tensor, new_tensor: tensor.index_copy(0, rows.to(tensor.device), new_tensor), batch, new)


def size(batch: Any) -> int:
    """Return the number of elements of `batch`."""
    while not isinstance(batch, Tensor):
        batch = getattr(batch, dataclasses.fields(batch)[0].name)
    return batch.shape[0]


def where(mask: Bool[Tensor, "batch"], new: BatchT, old: BatchT) -> BatchT:
    """Return the elements of `new` where the mask is true, else those of `old`."""
    return _map_tensors(
        lambda new_tensor, tensor: torch.where(mask.reshape(-1, *[1] * (tensor.dim() - 1)), new_tensor, tensor), new, old
    )


def overwrite(batch: BatchT, new: BatchT) -> None:
    """Copy the tensors of `new` into the memory of those in `batch`."""
    _map_tensors(lambda tensor, new_tensor: tensor.copy_(new_tensor), batch, new)


def _map_tensors(function: Any, *batches: Any) -> Any:
    if isinstance(batches[0], Tensor):
        return function(*batches)
    if isinstance(batches[0], tuple):
        return tuple(_map_tensors(function, *parts) for parts in zip(*batches, strict=True))
    names = [field.name for field in dataclasses.fields(batches[0])]
    return type(batches[0])(*(_map_tensors(function, *(getattr(batch, name) for batch in batches)) for name in names))
