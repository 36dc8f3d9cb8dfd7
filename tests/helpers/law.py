"""Harness: do two engines sample rows with the same law, and is it the exact one?

A problem is run to its stationary state and recorded at rows far enough apart to be nearly
independent, hundreds of thousands of them, which shows a 1 % error in a variance; and from its
initial state with many seeds, which shows the transient.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

import suspalign_fast as sa

COLUMNS = ("loss", "loss_dominant", "loss_bulk", "alignment")
#: Two-sided level of a whole comparison, shared out over its checks.
LEVEL = 1e-3


@dataclass
class Failure:
    """A check that two samples, or a sample and the theory, do not pass."""

    check: str
    z: float

    def __repr__(self):
        return f"{self.check}: {self.z:.1f} standard errors"


def stationary_rows(problem, step_size, engine, *, rows, stride, seed=0, burn_in=200, **how):
    """Rows of one long run after `burn_in` rows."""
    total = (rows + burn_in) * stride
    trace = sa.simulate(
        problem, step_size, total, record_every=stride, engine=engine, seed=seed, **how
    )
    return {name: trace[name][burn_in + 1 :] for name in COLUMNS}


def transient_rows(problem, step_size, engine, *, times, seeds):
    """Rows at given times from the initial state, one run a seed: arrays (seeds, times)."""
    traces = [
        sa.simulate(problem, step_size, times[-1], record_at=times, engine=engine, seed=seed)
        for seed in seeds
    ]
    return {name: np.stack([trace[name][-len(times) :] for trace in traces]) for name in COLUMNS}


def effective_size(values):
    """Number of independent rows worth as much, from the autocorrelation (initial positive sum)."""
    centered = values - values.mean()
    spectrum = np.abs(np.fft.rfft(centered, 2 * values.size)) ** 2
    correlation = np.fft.irfft(spectrum)[:200]
    if correlation[0] <= 0.0:
        return float(values.size)
    correlation = correlation / correlation[0]
    negative = np.flatnonzero(correlation < 0.02)
    end = negative[0] if negative.size else correlation.size
    return values.size / (1.0 + 2.0 * correlation[1:end].sum())


def _score(check, difference, error, failures, limit):
    if error > 0.0 and abs(difference) > limit * error:
        failures.append(Failure(check, difference / error))


def compare_with_theory(rows, exact, *, checks=8):
    """Failures of stationary rows against exact means and standard deviations."""
    failures = []
    limit = stats.norm.isf(LEVEL / (2 * checks))
    for name in COLUMNS:
        values = rows[name]
        mean, std = getattr(exact, f"{name}_mean"), getattr(exact, f"{name}_std")
        if std == 0.0:
            continue
        size = effective_size(values)
        _score(f"mean of {name}", values.mean() - mean, std / np.sqrt(size), failures, limit)
        squares = (values - mean) ** 2
        error = squares.std() / np.sqrt(effective_size(squares))
        _score(f"variance of {name}", squares.mean() - std**2, error, failures, limit)
    return failures


def compare_samples(first, second):
    """Failures of transient rows of two engines against each other.

    Kolmogorov-Smirnov at every time; correlations between times of each column.
    """
    failures = []
    for name in COLUMNS:
        a, b = first[name], second[name]
        for t in range(a.shape[1]):
            if np.ptp(a[:, t]) <= 1e-12 * np.abs(a[:, t]).max():
                continue
            p = stats.ks_2samp(a[:, t], b[:, t]).pvalue
            if p < LEVEL / (a.shape[1] * len(COLUMNS)):
                failures.append(Failure(f"distribution of {name}, time {t}", stats.norm.isf(p / 2)))
        for t in range(a.shape[1] - 1):
            pairs = [np.corrcoef(x[:, t], x[:, t + 1])[0, 1] for x in (a, b)]
            if not np.isfinite(pairs).all():
                continue
            score = np.arctanh(np.clip(pairs, -0.999999, 0.999999))
            error = np.sqrt(1.0 / (len(a) - 3) + 1.0 / (len(b) - 3))
            # Heavy tails widen the error of a correlation; the factor allows for a kurtosis of 12.
            _score(f"correlation of {name}, {t}", score[0] - score[1], 2.0 * error, failures, 4.0)
    return failures
