"""Losses over a batch that several processes share equal those of one process that holds it all.

Data-parallel training averages the gradients of the processes. A mean over the whole batch is therefore the local sum
times the number of processes, divided by the count over all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather  # differentiable, unlike distributed.all_gather

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Within this block losses are those of the local batch: for evaluation, where processes go their own way."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def processes() -> int:
    """How many processes share a batch."""
    if _alone:
        return 1
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """The number of this one among the processes that share a batch."""
    return distributed.get_rank() if processes() > 1 else 0


def mean_where(values: Tensor, wanted: Tensor) -> Tensor:
    """Mean of (B,) values where (B,) ``wanted``, over the batch of all processes; 0 where none is wanted.

    On each process the result is scaled so that its average over the processes is the mean.
    """
    total = torch.where(wanted, values, 0.0).sum()
    count = wanted.sum().to(values.dtype)
    if processes() > 1:
        distributed.all_reduce(count)
    return total * processes() / count.clamp(min=1)


def gather(values: Tensor) -> Tensor:
    """Concatenate (B, ...) tensors of all processes along B; gradients flow back. Their B may differ."""
    if processes() == 1:
        return values
    count = torch.tensor([len(values)], device=values.device)
    counts = [torch.zeros_like(count) for _ in range(processes())]
    distributed.all_gather(counts, count)
    sizes = [int(c) for c in counts]
    padded = values.new_zeros(max(sizes), *values.shape[1:])
    padded = torch.cat([values, padded[len(values) :]])
    return torch.cat([part[:size] for part, size in zip(all_gather(padded), sizes, strict=True)])  # type: ignore[no-untyped-call]
