"""Mini-batches, as a user's training takes them: drawn from the data, or given."""

import numbers
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from .. import _checks
from .data import Batch, batches_of, is_one_pair, loader_hint
from .loss import Loss

#: How many are drawn by default.
USUAL = 16


class Batches:
    """Where mini-batches come from.

    Parameters
    ----------
    loss : Loss
    batch_size : int or None
        Samples of a batch that is drawn; None where batches are given.
    noise_batches : int or iterable, optional
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
        if not (noise_batches is None or isinstance(noise_batches, numbers.Number)):
            self._given = batches_of("noise_batches", noise_batches)
            if isinstance(noise_batches, list | tuple) and len(noise_batches) < 2:
                raise ValueError(
                    f"noise_batches must be at least 2 mini-batches, got {len(noise_batches)}"
                )
            return
        if not is_one_pair(loss.data):
            raise ValueError(
                "noise_batches must be given where the data are not one pair of tensors from which "
                "mini-batches can be drawn: an iterable of (inputs, targets) of the size of the "
                f"training's{loader_hint(loss.data)}"
            )
        count = USUAL if noise_batches is None else noise_batches
        self.count = _checks.integer("noise_batches", count, 2)
        self._inputs, self._targets = next(iter(loss.data))
        if batch_size is None:
            raise ValueError("batch_size must be given where mini-batches are drawn from the data")
        self.batch_size = _checks.integer("batch_size", batch_size, 1, len(self._targets))

    @property
    def given(self) -> Iterable[Batch]:
        """Batches that were given, none where they are drawn."""
        return () if self._given is None else self._given

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
