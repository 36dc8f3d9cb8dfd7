"""Tails of differences of two sums of squares of independent normals, by a saddlepoint.

``Y = e_D sum_D g_i^2 + e_B sum_B g_i^2 - offset`` has the cumulant function

    K(s) = sum -1/2 n log(1 - 2 s e v) + s e M / (1 - 2 s e v)  -  s offset

over levels of n normals of variance v and total squared mean M. With K'(s) = 0,
``w = sign(s) sqrt(-2 K(s))`` and ``u = s sqrt(K''(s))``, P(Y > 0) is about
``1 - Phi(w) + phi(w) (1 / u - 1 / w)`` (Lugannani and Rice, 1980, Adv. Appl. Prob. 12; for ratios
of quadratic forms Lieberman, 1994, JASA 89): in the far tails, too, within some percent.
"""

import math

import numpy as np

from .jit import kernel

#: Newton steps and bisections, at most, and the relative step after which they end.
ITERATIONS, PRECISION = 200, 1e-10
#: Below this the saddlepoint is that of the mean, where the formula is 0 / 0.
CENTRAL = 1e-4


@kernel(fastmath={"reassoc", "contract"})
def _slopes(s, e, m_sq, v, count):
    """First and second derivative of a band's cumulant function."""
    first = 0.0
    second = 0.0
    for i in range(v.size):
        a = e * v[i]
        b = e * m_sq[i]
        shrink = 1.0 / (1.0 - 2.0 * s * a)
        na = count[i] * a * shrink
        bb = b * shrink * shrink
        first += na + bb
        second += 2.0 * na * a * shrink + 4.0 * bb * a * shrink
    return first, second


@kernel(fastmath={"reassoc", "contract"})
def _value(s, e, m_sq, v, count):
    """A band's cumulant function."""
    total = 0.0
    for i in range(v.size):
        a = 2.0 * s * e * v[i]
        total += s * e * m_sq[i] / (1.0 - a) - 0.5 * count[i] * np.log1p(-a)
    return total


@kernel()
def _third(e, m_sq, v, count):
    """Third cumulant of a band's term."""
    total = 0.0
    for i in range(v.size):
        a = e * v[i]
        total += 8.0 * count[i] * a * a * a + 24.0 * a * a * e * m_sq[i]
    return total


@kernel()
def tails(e_d, e_b, offset, m_sq, v, count, split):
    """Chances that ``e_D D + e_B B - offset`` is above and below zero.

    Parameters
    ----------
    e_d, e_b, offset : float
        Of order one over the size of D and B.
    m_sq, v, count : ndarray of float64, shape (levels,)
        Of each level the total squared mean, the variance of a normal, and how many there are.
    split : int
        Levels below it belong to D, the others to B.

    Returns
    -------
    above, below : float
        0 and 1 where nothing is random.
    mean, std : float
    """
    m_d, v_d, n_d = m_sq[:split], v[:split], count[:split]
    m_b, v_b, n_b = m_sq[split:], v[split:], count[split:]
    mean_d, var_d = _slopes(0.0, e_d, m_d, v_d, n_d)
    mean_b, var_b = _slopes(0.0, e_b, m_b, v_b, n_b)
    mean = mean_d + mean_b - offset
    std = np.sqrt(var_d + var_b)
    if not std > 0.0:
        return (1.0 if mean > 0.0 else 0.0), (1.0 if mean < 0.0 else 0.0), mean, std
    # Y over its standard deviation, so that s is of the order of the distance in deviations.
    e_d /= std
    e_b /= std
    offset /= std
    low = -np.inf
    high = np.inf
    for e, spread in ((e_d, v_d), (e_b, v_b)):
        edge = 2.0 * e * np.max(spread)
        if edge > 0.0:
            high = min(high, 1.0 / edge)
        elif edge < 0.0:
            low = max(low, 1.0 / edge)
    s = -mean / std
    if not low < s < high:
        s = 0.9 * (low if s <= low else high)
    below, above = low, high  # where the slope is negative and positive
    for _ in range(ITERATIONS):
        first_d, second_d = _slopes(s, e_d, m_d, v_d, n_d)
        first_b, second_b = _slopes(s, e_b, m_b, v_b, n_b)
        first = first_d + first_b - offset
        second = second_d + second_b
        if first == 0.0:
            break
        if first > 0.0:
            above = s
        else:
            below = s
        new = s - first / second
        if not below < new < above:
            if math.isinf(below):
                new = s - abs(s) - 1.0
            elif math.isinf(above):
                new = s + abs(s) + 1.0
            else:
                new = 0.5 * (below + above)
        if abs(new) > 1e30:  # what is random cannot change the sign
            return (0.0 if new > 0.0 else 1.0), (1.0 if new > 0.0 else 0.0), mean, std
        done = abs(new - s) <= PRECISION * abs(new)
        s = new
        if done:
            break
    if abs(s) < CENTRAL:
        third = _third(e_d, m_d, v_d, n_d) + _third(e_b, m_b, v_b, n_b)
        upper = 0.5 - third / 6.0 / np.sqrt(2.0 * np.pi) - s / np.sqrt(2.0 * np.pi)
        return upper, 1.0 - upper, mean, std
    value = _value(s, e_d, m_d, v_d, n_d) + _value(s, e_b, m_b, v_b, n_b) - s * offset
    second = _slopes(s, e_d, m_d, v_d, n_d)[1] + _slopes(s, e_b, m_b, v_b, n_b)[1]
    w = math.copysign(np.sqrt(max(-2.0 * value, 1e-300)), s)
    u = s * np.sqrt(second)
    far = 0.5 * math.erfc(abs(w) / np.sqrt(2.0))
    far += np.exp(-0.5 * w * w) / np.sqrt(2.0 * np.pi) * (1.0 / abs(u) - 1.0 / abs(w))
    far = min(max(far, 0.0), 1.0)
    return (far, 1.0 - far, mean, std) if s > 0.0 else (1.0 - far, far, mean, std)
