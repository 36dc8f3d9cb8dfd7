"""The critical step size from mini-batches alone, without bias in its sums."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..base import checks, reports
from ..physics import formulas as physics
from .curvature import Curvature
from .data import Batch
from .loss import Batches, Loss
from .probe import Probe
from .row import of_bands

Array = NDArray[np.float64]


class OnlineEstimate(NamedTuple):
    """What mini-batches tell of a critical step size.

    Attributes
    ----------
    critical_step_size : float
        From the means of the sums; the jackknife takes most of the bias of their ratio away.
    standard_error : float
        By the jackknife.
    sums : ndarray of float64, shape (groups, 2, 3)
        S_2, S_3 and ``S_4 + N_2`` of both bands, of each group of batches: each has the right mean.
    """

    critical_step_size: float
    standard_error: float
    sums: Array

    def __repr__(self) -> str:
        value, error = self.critical_step_size, self.standard_error
        return f"OnlineEstimate({value:.4g} +- {error:.2g}, {len(self.sums)} groups)"


def estimate_online(
    probe: Probe,
    *,
    batch_size: int,
    groups: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> OnlineEstimate:
    """Estimate the critical step size without a gradient or a product of all data.

    With h_1, h_2, h_3 the gradients and H_1, H_2, H_3 the curvatures of independent mini-batches,
    and h that of a batch of the training, ``(P h_1)' P h_2`` has the mean S_2,
    ``(P h_1)' H_3 h_2`` the mean S_3 and ``(P H_1 h)' P H_2 h`` the mean ``S_4 + N_2``. Squares of
    one batch's gradient have not: they hold its noise, too.

    Parameters
    ----------
    probe : Probe
        With a row, whose eigenvectors say what the bands are, and batches drawn from the data.
    batch_size : int
        Samples of the independent batches; those of the training have the probe's size.
    groups : int
        Groups of four batches, at least 3.
    seed : int
        Of the draws.
    progress : bool
        Show a bar of groups on standard error.

    Returns
    -------
    OnlineEstimate

    Raises
    ------
    ValueError
        If an argument is not as described, or the probe has no row yet.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> found = sa.network.estimate_online(probe, batch_size=512)  # doctest: +SKIP
    >>> found.critical_step_size, found.standard_error  # doctest: +SKIP
    """
    if not isinstance(probe, Probe):
        raise checks.wrong("probe", probe, "a Probe")
    if not probe.rows:
        raise ValueError("probe must have a row, whose eigenvectors say what the bands are")
    if probe.batches.batch_size is None:
        raise ValueError(
            "probe must draw its mini-batches from one pair of tensors (batch_size=...), and was "
            "given them"
        )
    count = checks.integer("groups", groups, 3)
    loss, vectors = probe.settings.loss, probe.rows[-1].vectors
    large = Batches(loss, batch_size, 3, seed)
    small = Batches(loss, probe.batches.batch_size, 2, seed + 1)
    with loss.evaluating():
        numbers = reports.over(range(count), "group", visible=progress)
        sums = np.array([
            _of_group(loss, probe.settings.curvature, vectors, list(large(j)), next(small(j)))
            for j in numbers
        ])  # fmt: skip
    whole = _critical(sums.mean(0))
    without = np.array([_critical(np.delete(sums, j, 0).mean(0)) for j in range(count)])
    value = count * whole - (count - 1) * without.mean()
    return OnlineEstimate(float(value), float(np.sqrt((count - 1) * without.var())), sums)


def _of_group(
    loss: Loss, kind: str, vectors: Tensor, batches: list[Batch], of_training: Batch
) -> Array:
    """S_2, S_3 and ``S_4 + N_2`` of both bands by one group of batches."""
    one, other = (loss.gradient([batch])[:, None] for batch in batches[:2])
    kick = loss.gradient([of_training])
    pulled = Curvature(loss, kind, data=[batches[2]]).times(other)
    kicks = [Curvature(loss, kind, data=[batch]).times(kick)[:, None] for batch in batches[:2]]
    pairs = ((one, other), (one, pulled), (kicks[0], kicks[1]))
    found: Iterator[Array] = (of_bands(a, b, vectors)[:, 0].cpu().numpy() for a, b in pairs)
    return np.stack(list(found), axis=1)


def _critical(sums: Array) -> float:
    """The critical step size of means; NaN where these have none that is positive."""
    s2 = sums[:, 0]
    rows = np.concatenate([np.full((2, 1), np.nan), sums], axis=1)
    if not (s2 > 0.0).all():
        return float("nan")
    value = float(physics.critical_step_size(rows, np.zeros((2, 3))))
    return value if np.isfinite(value) and value > 0.0 else float("nan")
