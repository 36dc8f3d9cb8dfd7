"""Shards: the problem of some directions that follow each other, cut out of a whole one."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from .noise import DiagonalNoise, HessianNoise, IsotropicNoise, Noise
from .problem import Quadratic
from .spectrum import shard_of as shard_of_spectrum


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
