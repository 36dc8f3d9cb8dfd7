"""Mini-batches, as a user's training takes them: drawn from the data, or given."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from .. import _checks
from .loss import Batch, Loss


class Batches:
    """Where mini-batches come from.

    Parameters
    ----------
    loss : Loss
    batch_size : int or None
        Samples of a batch that is drawn; None where batches are given.
    noise_batches : int or iterable
        How many are drawn for a row, or the batches themselves.
    seed : int
        Of the draws; torch's own generator is left alone.

    Attributes
    ----------
    batch_size : int or None
        None where batches are given.
    """

    def __init__(self, loss: Loss, batch_size: Any, noise_batches: Any, seed: int) -> None:
        self._loss, self._seed = loss, _checks.integer("seed", seed, 0)
        self._given: Iterable[Batch] | None = None
        self.batch_size: int | None = None
        if isinstance(noise_batches, Iterable) and not isinstance(noise_batches, str | bytes):
            if iter(noise_batches) is noise_batches:
                expected = "batches that can be gone through more than once"
                raise _checks.wrong("noise_batches", noise_batches, expected)
            self._given = noise_batches
            return
        self.count = _checks.integer("noise_batches", noise_batches, 2)
        whole = list(loss.data) if isinstance(loss.data, list) else []
        if len(whole) != 1 or not isinstance(whole[0][0], torch.Tensor):
            raise ValueError(
                "noise_batches must be the mini-batches themselves where data is not one pair of "
                f"tensors, got {noise_batches!r}"
            )
        self._inputs, self._targets = whole[0]
        if batch_size is None:
            raise ValueError("batch_size must be given where mini-batches are drawn from the data")
        self.batch_size = _checks.integer("batch_size", batch_size, 1, len(self._targets))

    def __call__(self, row: int, count: int | None = None) -> Iterator[Batch]:
        """Yield the batches of a row; `count` of them where they are drawn."""
        if self._given is not None:
            yield from self._given
            return
        rng = np.random.default_rng([self._seed, row])
        for _ in range(self.count if count is None else count):
            drawn = rng.choice(len(self._targets), self.batch_size, replace=False)
            chosen = torch.from_numpy(drawn).to(self._targets.device)
            yield self._inputs[chosen.to(self._inputs.device)], self._targets[chosen]
