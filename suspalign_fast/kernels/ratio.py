"""Mean and variance of ``D / (D + B)`` for sums of squares of independent normals.

Exact one-dimensional integrals. With ``T = D + B`` and the tilted law whose
density is that of the g_i times ``exp(-s T) / M(s)``, ``M(s) = E[exp(-s T)]``, every g_i stays
normal, with variance ``v / (1 + 2 s v)`` and mean ``m / (1 + 2 s v)``, and

    E[D / T]             = int M(s) E_s[D] ds,
    Var[D / T]           = int s M(s) E_s[(D - alpha T)^2] ds,    alpha = E[D / T].

All terms are positive, so nothing cancels: neither a ratio near 0 or 1 nor a tiny variance loses
digits. In ``x = ln s`` the integrands decay at both ends and are analytic around the real line,
where the trapezoidal rule converges faster than any power of its step.

Levels too small to matter by themselves (``2 s v`` at most SMALL wherever the integrand counts)
enter through power series, so an integrand costs what its few large levels cost.
"""

import numpy as np

from .jit import kernel

NODE_SPACING = 0.25
#: Integrands this many e-folds below their largest value are zero.
NEGLIGIBLE = 42.0
SMALL = 0.3
ORDER = 34
CHUNK = 512
#: The largest ``ln s`` looked at.
X_MAX = 680.0
#: Up to this many levels no series is used.
FEW_LEVELS = 256


@kernel(fastmath={"reassoc", "contract"})
def _power_moments(v, m_sq, count, limit, scale):
    """Sums of ``count (v / scale)^j`` and of it times ``m^2`` over levels with ``v <= limit``."""
    sums = np.zeros((2, ORDER))
    power = np.empty(CHUNK)
    small_m_sq = np.empty(CHUNK)
    for start in range(0, v.size, CHUNK):
        size = min(CHUNK, v.size - start)
        for i in range(size):
            inside = v[start + i] <= limit
            power[i] = count[start + i] if inside else 0.0
            small_m_sq[i] = m_sq[start + i]
        for j in range(ORDER):
            plain = 0.0
            weighted = 0.0
            for i in range(size):
                plain += power[i]
                weighted += power[i] * small_m_sq[i]
            sums[0, j] += plain
            sums[1, j] += weighted
            for i in range(size):
                power[i] *= v[start + i] / scale
    return sums


@kernel()
def _band_terms(s, v, m_sq, count, large, sums, scale, out):
    """Write ln M, E_s[X] and Var_s[X] of one band's sum of squares X to ``out``."""
    log_m = 0.0
    mean = 0.0
    variance = 0.0
    for index in range(large.size):
        i = large[index]
        shrink = 1.0 / (1.0 + 2.0 * s * v[i])
        tilted_v = v[i] * shrink
        tilted_m_sq = m_sq[i] * shrink * shrink
        log_m -= count[i] * (0.5 * np.log1p(2.0 * s * v[i]) + s * m_sq[i] * shrink)
        mean += count[i] * (tilted_v + tilted_m_sq)
        variance += count[i] * (2.0 * tilted_v * tilted_v + 4.0 * tilted_m_sq * tilted_v)
    if sums[0, 0] > 0.0:
        z = -2.0 * s * scale
        power = 1.0
        for j in range(ORDER - 2):
            if j > 0:
                log_m += 0.5 * power * sums[0, j] / j
            log_m -= s * power * sums[1, j]
            mean += power * (scale * sums[0, j + 1] + (j + 1) * sums[1, j])
            variance += power * (
                2.0 * (j + 1) * scale * scale * sums[0, j + 2]
                + 2.0 * (j + 1) * (j + 2) * scale * sums[1, j + 1]
            )
            power *= z
    out[0] = log_m
    out[1] = mean
    out[2] = variance


@kernel()
def _integrands(x, split, v, m_sq, count, shares, large_d, sums_d, large_b, sums_b, scales, out):
    """Write ln M, and mean and variance of D and of B under the tilted law, at ``s = exp(x)``.

    Those of each band are in units of its share of the expected T.
    """
    s = np.exp(x)
    band = np.empty(3)
    _band_terms(
        s * shares[0], v[:split], m_sq[:split], count[:split], large_d, sums_d, scales[0], band
    )  # fmt: skip
    out[0] = band[0]
    out[1] = band[1]
    out[3] = band[2]
    _band_terms(
        s * shares[1], v[split:], m_sq[split:], count[split:], large_b, sums_b, scales[1], band
    )  # fmt: skip
    out[0] += band[0]
    out[2] = band[1]
    out[4] = band[2]


@kernel()
def _normalized(v, m_sq, count):
    """Expected sum of squares of a band; ``v`` and ``m_sq`` are divided by it in place."""
    total = np.sum(count * (v + m_sq))
    if total > 0.0:
        for i in range(v.size):
            v[i] /= total
            m_sq[i] /= total
    return total


@kernel()
def ratio_moments(v, m_sq, count, split):
    """Mean and variance of ``D / (D + B)``.

    Parameters
    ----------
    v, m_sq, count : ndarray of float64, shape (levels,)
        Variance and squared mean of the normals of each level, and how many there are.
    split : int
        Levels below `split` belong to D, the others to B.

    Returns
    -------
    tuple of float
        ``E[D/T]``, ``E[B/T]``, ``Var[D/T]``; NaN where T is zero or not finite. Good for shares
        down to 1e-250; the variance underflows below 1e-150.
    """
    total = np.sum(count * (v + m_sq))
    if not (total > 0.0 and np.isfinite(total)):
        return np.nan, np.nan, np.nan
    v = v / total
    m_sq = m_sq / total
    # Each band in units of its own: squares of a tiny one do not underflow.
    shares = np.empty(2)
    shares[0] = _normalized(v[:split], m_sq[:split], count[:split])
    shares[1] = _normalized(v[split:], m_sq[split:], count[split:])

    # Find where the integrands end, classifying levels by their size there.
    x_end = 4.0
    terms = np.empty(5)
    logs = np.empty(4)
    highest = np.empty(4)
    scales = np.ones(2)
    while True:
        limits = np.full(2, -1.0)
        sums_d = np.zeros((2, ORDER))
        sums_b = np.zeros((2, ORDER))
        if v.size > FEW_LEVELS:
            limits = SMALL / (2.0 * np.exp(x_end) * np.maximum(shares, 1e-300))
            scales = np.minimum(limits, 1.0)
            sums_d = _power_moments(v[:split], m_sq[:split], count[:split], limits[0], scales[0])
            sums_b = _power_moments(v[split:], m_sq[split:], count[split:], limits[1], scales[1])
        large_d = np.flatnonzero(v[:split] > limits[0])
        large_b = np.flatnonzero(v[split:] > limits[1])
        highest[:] = -np.inf
        x = min(-1.0, x_end)
        while x <= x_end:
            _integrands(
                x, split, v, m_sq, count, shares, large_d, sums_d, large_b, sums_b, scales, terms
            )  # fmt: skip
            logs[0] = x + terms[0] + np.log(terms[1])
            logs[1] = x + terms[0] + np.log(terms[2])
            # Of the square of each band by itself: a tiny one lasts longer than that of T.
            logs[2] = 2.0 * x + terms[0] + np.log(terms[1] * terms[1] + terms[3])
            logs[3] = 2.0 * x + terms[0] + np.log(terms[2] * terms[2] + terms[4])
            highest = np.maximum(highest, logs)
            x += 1.0
        # A band without gradient has log integrand -inf throughout: NaN, which ends nothing.
        if not np.any(logs > highest - NEGLIGIBLE) or x_end > X_MAX:
            break
        x_end = x_end + 3.0 if x_end < 16.0 else x_end + 16.0

    nodes = int((x_end + NEGLIGIBLE) / NODE_SPACING) + 1
    table = np.empty((nodes, 5))
    alpha = 0.0
    beta = 0.0
    for node in range(nodes):
        x = x_end - node * NODE_SPACING
        _integrands(
            x, split, v, m_sq, count, shares, large_d, sums_d, large_b, sums_b, scales, table[node]
        )  # fmt: skip
        weight = np.exp(x + table[node, 0])
        alpha += weight * table[node, 1]
        beta += weight * table[node, 2]
    alpha *= NODE_SPACING * shares[0]
    beta *= NODE_SPACING * shares[1]

    # beta D - alpha B over the product of both shares, of which neither term is tiny or huge.
    to_d = beta * shares[0]
    to_b = alpha * shares[1]
    largest = max(to_d, to_b)
    if largest == 0.0:
        return alpha, beta, 0.0
    to_d /= largest
    to_b /= largest
    variance = 0.0
    for node in range(nodes):
        x = x_end - node * NODE_SPACING
        mean = to_d * table[node, 1] - to_b * table[node, 2]
        square = mean * mean + to_d * to_d * table[node, 3] + to_b * to_b * table[node, 4]
        variance += np.exp(2.0 * x + table[node, 0]) * square
    return alpha, beta, variance * NODE_SPACING * largest * largest
