"""The quadratic that a network is at one state: spectrum, noise and coefficients in few levels."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..base import checks, reports
from ..model.noise import DiagonalNoise
from ..model.problem import Quadratic
from ..model.spectrum.spectrum import Spectrum
from .curvature import Curvature, top
from .lanczos import measure
from .loss import Loss
from .probe import Probe
from .row import Settings

Array = NDArray[np.float64]
#: Smaller eigenvalues, negative ones among them, become this share of the largest.
FLOOR = 1e-8
#: Lanczos steps of the noise of one batch, of which many are averaged.
NOISE_STEPS = 20


class Measure(NamedTuple):
    """How much of something lies along the bulk's eigenvectors of which eigenvalues."""

    nodes: Array
    weights: Array

    @classmethod
    def mean(cls, parts: list[tuple[Array, Array]]) -> "Measure":
        """Return the mean of several."""
        nodes, weights = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return cls(nodes, weights / len(parts))

    def in_bins(self, edges: Array) -> Array:
        """Return the weight between edges, what lies outside in the first and the last bin."""
        at = np.clip(np.searchsorted(edges, self.nodes) - 1, 0, len(edges) - 2)
        weights: Array = np.bincount(at, self.weights, len(edges) - 1).astype(np.float64)
        return weights


def surrogate(
    probe: Probe,
    *,
    state: Any = None,
    steps: int = 60,
    num_vectors: int = 4,
    num_levels: int = 80,
    noise_batches: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Quadratic:
    """Return the quadratic with the curvature, gradient and noise of a network's state.

    The dominant directions have levels of their own, with the network's eigenvalues, coefficients
    and noise. The bulk's are levels of many directions, found by stochastic Lanczos quadrature: of
    random vectors for how many directions there are, of the gradient for the coefficients, of
    mini-batches for the noise. `simulate` then runs it beside the network.

    Parameters
    ----------
    probe : Probe
        What is measured, and with which mini-batches.
    state : state dict, optional
        By default the state that the model is in; one given is loaded into a copy.
    steps : int
        Lanczos steps for each random vector and for the gradient.
    num_vectors : int
        Random vectors.
    num_levels : int
        Most levels of the bulk, evenly spaced in the logarithm.
    noise_batches : int
        Mini-batches, where the probe draws them.
    seed : int
        Of the random vectors.
    progress : bool
        Show a bar of products on standard error.

    Returns
    -------
    Quadratic
        With `DiagonalNoise`.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Warns
    -----
    RuntimeWarning
        Where the curvature has negative eigenvalues, that become almost zero: what share of the
        gradient is along them.

    Notes
    -----
    docs/networks.md says how far it follows a network.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> problem = sa.network.surrogate(probe)  # doctest: +SKIP
    >>> trace = sa.simulate(problem, 0.1, 1_000, engine="levels")  # doctest: +SKIP
    """
    if not isinstance(probe, Probe):
        raise checks.wrong("probe", probe, "a Probe")
    steps = checks.integer("steps", steps, 2)
    num_vectors = checks.integer("num_vectors", num_vectors, 1)
    num_levels = checks.integer("num_levels", num_levels, 2)
    count = checks.integer("noise_batches", noise_batches, 2)
    seed = checks.integer("seed", seed, 0)
    settings = probe.settings if state is None else _of_state(probe.settings, state)
    total = (num_vectors + 1) * steps + count * NOISE_STEPS
    with reports.bar(total, "product", visible=progress, leave=False) as bar:
        found = _Found.of(settings, list(probe.batches(0, count)), steps, num_vectors, seed, bar)
    return found.quadratic(num_levels)


def _of_state(settings: Settings, state: Any) -> Settings:
    loss = settings.loss
    if not isinstance(state, Mapping):
        raise checks.wrong("state", type(state).__name__, "a state dict")
    there = loss.apart()
    there.model.load_state_dict(state)
    return Settings(there, settings.num_dominant, settings.curvature, settings.tolerance)


class _Found(NamedTuple):
    """What was measured: of each dominant direction, and of the bulk as measures."""

    dominant: Array
    coefficients: Array
    variances: Array
    directions: Measure
    gradient: Measure
    noise: Measure
    dim: int

    @classmethod
    def of(
        cls,
        settings: Settings,
        batches: list[Any],
        steps: int,
        num_vectors: int,
        seed: int,
        bar: Any,
    ) -> "_Found":
        """Measure."""
        loss = settings.loss
        with loss.evaluating():
            loss.checked(batches)
            matrix = Curvature(loss, settings.curvature, bar.update)
            values, vectors, residual = top(matrix, loss, settings.num_dominant, settings.tolerance)
            settings.check_residual(residual)
            k = settings.num_dominant
            if not values[k - 1] > 0.0:
                raise ValueError(
                    f"num_dominant must be at most the number of positive eigenvalues, got {k}: "
                    f"lambda_{k} = {values[k - 1]:.6g}"
                )

            def bulk(vector: Tensor) -> Tensor:
                return vector - vectors @ (vectors.T @ vector)

            def times(vector: Tensor) -> Tensor:
                return bulk(matrix.times(bulk(vector)))

            gradient = loss.gradient()
            noises = [loss.gradient([batch]) - gradient for batch in batches]
            inside = torch.stack([vectors.T @ noise for noise in noises])
            return cls(
                values[:k],
                (vectors.T @ gradient).cpu().numpy() / values[:k],
                (inside**2).mean(0).cpu().numpy(),
                _directions(times, bulk, loss, k, steps, num_vectors, seed),
                Measure(*measure(times, bulk(gradient), steps)),
                Measure.mean([measure(times, bulk(noise), NOISE_STEPS) for noise in noises]),
                loss.dim,
            )

    def quadratic(self, num_levels: int) -> Quadratic:
        """Return the problem of at most so many levels of the bulk."""
        floor, k = FLOOR * self.dominant[0], len(self.dominant)
        self._warn_of_negative(floor)
        highest = min(self.directions.nodes.max(), self.dominant[-1] * (1.0 - 1e-9))
        inner = np.geomspace(max(highest, 2.0 * floor), floor, num_levels)[::-1]
        edges = np.concatenate([[-np.inf], inner])
        counts = _whole(self.directions.in_bins(edges), self.dim - k)
        lam = np.concatenate([[floor], np.sqrt(inner[1:] * inner[:-1])])
        gradient, noise = self.gradient.in_bins(edges), self.noise.in_bins(edges)
        kept = np.flatnonzero(counts)[::-1]
        nearest = np.abs(np.log(lam[:, None] / lam[kept])).argmin(1)
        gradient, noise = (
            np.bincount(nearest, w, len(kept)).astype(np.float64) for w in (gradient, noise)
        )
        counts, lam = counts[kept], lam[kept]
        spectrum = Spectrum(
            np.concatenate([self.dominant, lam]), k, np.concatenate([np.ones(k, np.int64), counts])
        )
        stds = np.sqrt(np.concatenate([self.variances, noise / counts]))
        start = np.concatenate([self.coefficients, np.sqrt(gradient / counts) / lam])
        return Quadratic(spectrum, DiagonalNoise(stds), start)

    def _warn_of_negative(self, floor: float) -> None:
        below = [m.weights[m.nodes < -floor].sum() for m in (self.directions, self.gradient)]
        if below[0] > 0.5:
            whole = self.gradient.weights.sum() + float((self.coefficients * self.dominant) @ (
                self.coefficients * self.dominant
            ))  # fmt: skip
            warnings.warn(
                f"about {below[0]:,.0f} of {self.dim:,} eigenvalues are negative, down to "
                f"{self.directions.nodes.min():.3g}, and become {floor:.3g}: "
                f"{below[1] / whole:.1%} of |g|^2 are along them",
                RuntimeWarning,
                stacklevel=4,
            )


def _directions(
    times: Callable[[Tensor], Tensor],
    bulk: Callable[[Tensor], Tensor],
    loss: Loss,
    k: int,
    steps: int,
    num_vectors: int,
    seed: int,
) -> Measure:
    """How many directions of the bulk have which eigenvalues, by random vectors."""
    generator = torch.Generator("cpu").manual_seed(seed)
    parts = []
    for _ in range(num_vectors):
        drawn = torch.randn(loss.dim, generator=generator, dtype=torch.float64, device="cpu")
        nodes, weights = measure(times, bulk(drawn.to(loss.device)), steps)
        parts.append((nodes, weights / weights.sum() * (loss.dim - k)))
    return Measure.mean(parts)


def _whole(counts: Array, total: int) -> NDArray[np.int64]:
    """Round counts so that every sum from the largest eigenvalue on is rounded, too."""
    sums = np.rint(np.cumsum(counts[::-1]) * (total / counts.sum())).astype(np.int64)
    return np.diff(sums, prepend=0)[::-1]
