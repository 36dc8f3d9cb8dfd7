"""How a problem is cut: into blocks and parts for the kernels, and into shards for workers.

A shard is the problem of some directions that follow each other.
"""

import functools
from collections.abc import Callable
from functools import partial
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from ..base.checks import read_only
from ..kernels.blocks import (
    BLOCK,
    DIRECT,
    EDGE,
    EQUAL,
    KIND,
    LAM,
    NARROW,
    NARROW_RATIO,
    NUM_MOMENTS,
    OFFSET,
    SCALE,
    START,
    STD,
    STOP,
    WEIGHTS,
    Plan,
    part_length,
)
from ..kernels.normals import GROUP, MAX_COORDINATES
from ..model.noise import DiagonalNoise, HessianNoise, IsotropicNoise, Noise, Scaling
from ..model.problem import Quadratic
from ..model.run import Run
from ..model.spectrum.spectrum import Spectrum
from ..model.spectrum.spectrum import shard_of as shard_of_spectrum
from ..physics.layout import ROW_SIZE, SUM_POWERS


class Shard(NamedTuple):
    """Which directions of a problem a shard has.

    Attributes
    ----------
    first, stop : int
        Directions ``first ... stop - 1``.
    dim : int
        Directions of the whole problem.
    """

    first: int
    stop: int
    dim: int


def shard_of(problem: Quadratic, shard: Shard, state: NDArray[Any] | None = None) -> Quadratic:
    """Return the problem of some directions, one of whose bands may be empty.

    Parameters
    ----------
    problem : Quadratic
        With noise that does not depend on the state, and a spectrum that is not compressed.
    shard : Shard
    state : ndarray, optional
        Coefficients of these directions to start from, instead of the initial ones.
    """
    spectrum, levels = shard_of_spectrum(problem.spectrum, shard.first, shard.stop)
    initial: Any = problem.initial if state is None else state
    if state is None and not isinstance(initial, float):
        per_level = initial.size == problem.spectrum.num_levels
        initial = initial[levels if per_level else slice(shard.first, shard.stop)]
    return problem.with_parts(spectrum, _noise_of(problem, levels), initial)


def _noise_of(problem: Quadratic, levels: slice) -> Noise:
    """Return the noise of some levels, which follows the whole problem's law where it has one.

    A model of a user's own may depend on all levels, so that only its numbers serve.
    """
    law = problem.noise_law
    if law is not None and type(problem.noise).stds is Noise.stds:
        if law.power == 0:
            return IsotropicNoise(law.sigma)
        if law.power == 1:
            return HessianNoise(law.sigma)
    return DiagonalNoise(problem.stds[levels])


# --- How a problem is cut for the kernels (`suspalign_fast.kernels.blocks`), and shards of it ----


def make_plan(problem: Quadratic, shard: Shard | None = None) -> Plan:
    """Cut a problem into blocks and parts, for one thread.

    Parameters
    ----------
    problem : Quadratic
    shard : Shard, optional
        Which directions of a whole problem these are; it starts where a part does.
    """
    spectrum = problem.spectrum
    blocks = _cut(spectrum.dim, spectrum.num_dominant)
    levels = None if spectrum.is_simple else np.cumsum(spectrum.multiplicities)
    stds = problem.stds
    law = problem.noise_law  # without one nothing is known of the noise, not even an order
    isotropic = law is not None and law.power == 0
    empty = np.empty(0)
    lam_all = spectrum.eigenvalues if levels is None else empty
    std_all = stds if levels is None and not isotropic else empty
    pool = _Pool()
    blocks[:, LAM] = pool.place(
        blocks, spectrum.eigenvalues, levels, in_place=lam_all.size > 0, sorted_values=True
    )
    blocks[:, STD] = pool.place(
        blocks, stds, levels, in_place=std_all.size > 0, sorted_values=law is not None
    )
    largest = _values_at(blocks[:, START], spectrum.eigenvalues, levels)
    smallest = _values_at(blocks[:, STOP] - 1, spectrum.eigenvalues, levels)
    center, half_width = (largest + smallest) / 2.0, (largest - smallest) / 2.0
    blocks[:, KIND] = np.where(half_width <= NARROW_RATIO * center, NARROW, DIRECT)
    blocks[half_width == 0.0, KIND] = EQUAL
    if law is None:
        blocks[:, KIND] = DIRECT
    return Plan(
        blocks,
        np.flatnonzero(blocks[:, EDGE]),
        _parts(blocks, part_length(shard.dim if shard else spectrum.dim), spectrum.num_dominant),
        read_only(lam_all),
        read_only(std_all),
        read_only(pool.values()),
        _moment_weights(center, half_width, law),
        1,
        shard.first // GROUP if shard else 0,
    )


def _cut(dim: int, num_dominant: int) -> NDArray[np.int64]:
    """Return blocks with START, STOP and EDGE set."""
    cuts = np.arange(0, dim, BLOCK)
    cuts = np.unique(np.concatenate([cuts, [num_dominant, dim]]))
    blocks = np.zeros((cuts.size - 1, 6), dtype=np.int64)
    blocks[:, START], blocks[:, STOP] = cuts[:-1], cuts[1:]
    is_edge = np.diff(cuts) < BLOCK
    blocks[:, EDGE] = np.where(is_edge, np.cumsum(is_edge), 0)
    return blocks


def _parts(blocks: NDArray[np.int64], length: int, num_dominant: int) -> NDArray[np.int64]:
    """Group blocks of one band into parts that end at multiples of a fixed length."""
    band = blocks[:, START] >= num_dominant
    stretch = 2 * (blocks[:, START] // length) + band
    first = np.flatnonzero(np.diff(stretch, prepend=-1))
    last = np.append(first[1:], len(blocks))
    return np.stack([band[first].astype(np.int64), first, last], axis=1)


def _values_at(
    coordinates: NDArray[np.int64], values: NDArray[np.float64], levels: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Values of the levels that coordinates belong to; `levels` are the levels' ends."""
    at = coordinates if levels is None else np.searchsorted(levels, coordinates, side="right")
    return values[at]


class _Pool:
    """Buffers of BLOCK values, each kept once, made when all are known."""

    def __init__(self) -> None:
        self._buffers: list[Callable[[NDArray[np.float64]], None]] = []
        self._seen: dict[Any, int] = {}

    def place(
        self,
        blocks: NDArray[np.int64],
        values: NDArray[np.float64],
        levels: NDArray[np.int64] | None,
        *,
        in_place: bool,
        sorted_values: bool,
    ) -> NDArray[np.int64]:
        """Return where each block finds its values: in place, or ``-1 - offset`` in the pool."""
        where = blocks[:, START].copy()
        first = _values_at(blocks[:, START], values, levels)
        constant = first == _values_at(blocks[:, STOP] - 1, values, levels)
        constant &= sorted_values & (blocks[:, EDGE] == 0)
        if not in_place:
            for value in np.unique(first[constant]):
                if value not in self._seen:
                    self._seen[value] = self._add(partial(_fill, value))
                where[constant & (first == value)] = -1 - self._seen[value]
        own = (blocks[:, EDGE] != 0) if in_place else ~constant
        for b in np.flatnonzero(own):
            start, stop = map(int, blocks[b, :2])
            where[b] = -1 - self._add(partial(_fill_block, start, stop, values, levels))
        return where

    def _add(self, fill: Callable[[NDArray[np.float64]], None]) -> int:
        self._buffers.append(fill)
        return BLOCK * (len(self._buffers) - 1)

    def values(self) -> NDArray[np.float64]:
        """All buffers, one after the other."""
        out = np.zeros((len(self._buffers), BLOCK))
        for fill, buffer in zip(self._buffers, out, strict=True):
            fill(buffer)
        return out.reshape(-1)


def _fill(value: float, buffer: NDArray[np.float64]) -> None:
    buffer[:] = value


def _fill_block(
    start: int,
    stop: int,
    values: NDArray[np.float64],
    levels: NDArray[np.int64] | None,
    buffer: NDArray[np.float64],
) -> None:
    lane = start % GROUP
    buffer[lane : lane + stop - start] = _values_at(np.arange(start, stop), values, levels)


def _moment_weights(
    center: NDArray[np.float64], half_width: NDArray[np.float64], law: Scaling | None
) -> NDArray[np.float64]:
    """Weights of moments m_0 ... m_3 in the sums of every block; without a law none uses them."""
    weights = np.zeros((center.size, WEIGHTS))
    moments = weights[:, :SCALE].reshape(-1, NUM_MOMENTS, ROW_SIZE)
    sigma, noise_power = (0.0, 0) if law is None else law
    for column, (power, takes_noise) in enumerate(SUM_POWERS):
        power += noise_power if takes_noise else 0
        for j in range(power + 1):
            with np.errstate(over="ignore", invalid="ignore"):
                term = comb(power, j) * center ** (power - j) * half_width**j
                term = term * (sigma * sigma) if takes_noise else term
            for target, share in _degree_three(j):
                moments[:, target, column] += share * term
    with np.errstate(divide="ignore", invalid="ignore"):
        weights[:, SCALE] = np.where(half_width > 0.0, 1.0 / half_width, 0.0)
        weights[:, OFFSET] = -center * weights[:, SCALE]
    return weights


@functools.cache
def _degree_three(j: int) -> list[tuple[int, float]]:
    """x^j as the terms up to x^3 of its Chebyshev series: powers and factors that are not zero."""
    series = chebyshev.poly2cheb([0.0] * j + [1.0])[:NUM_MOMENTS]
    return [(i, float(c)) for i, c in enumerate(chebyshev.cheb2poly(series)) if c != 0.0][::-1]


# --- What engines with a coefficient for every direction share -----------------------------------


def check_directions(run: Run, most: int = MAX_COORDINATES) -> None:
    """Raise ValueError if directions are not listed, or are more than there are counters for."""
    if run.problem.spectrum.is_compressed:
        raise ValueError(
            f"engine {run.engine!r} needs every direction, and a compressed spectrum has none; "
            "take engine 'levels', or the spectrum before it was compressed"
        )
    dim = run.problem.spectrum.dim
    if dim > most:
        raise ValueError(
            f"engine {run.engine!r} takes at most {most} dimensions, got {dim}; "
            "engine 'levels' takes any number"
        )


def given_coefficients(run: Run) -> NDArray[Any] | None:
    """Return the initial coefficients of all directions, None where they are to be drawn."""
    problem = run.problem
    if not isinstance(problem.initial, np.ndarray):
        return None
    values = problem.initial.astype(run.dtype)
    if values.size == problem.spectrum.dim:
        return values
    return np.repeat(values, problem.spectrum.multiplicities)


def level_ends(spectrum: Spectrum) -> NDArray[np.int64]:
    """Return the coordinates at which levels end; empty where every level is one coordinate."""
    return np.empty(0, np.int64) if spectrum.is_simple else np.cumsum(spectrum.multiplicities)
