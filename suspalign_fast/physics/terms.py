"""Formulas of a row that step-size rules compile and `formulas` applies to whole traces.

Plain arithmetic, for numbers and arrays alike. Their code ends up inside kernels, so the cache of
kernels depends on this file.
"""

from typing import Any


def critical_terms(
    s2_d: Any, s3_d: Any, s4_d: Any, s2_b: Any, s3_b: Any, s4_b: Any, a_d: Any = 1.0, a_b: Any = 1.0
) -> Any:
    """Numerator and denominator of the critical step size.

    ``s4_d`` and ``s4_b`` are ``S_4 + N_2``, ``a_d`` and ``a_b`` the weights of the update. The
    expected odds change by a positive multiple of ``eta (eta denominator - numerator)``.
    """
    numerator = 2.0 * (a_d * s3_d * s2_b - a_b * s3_b * s2_d)
    return numerator, a_d * a_d * s4_d * s2_b - a_b * a_b * s4_b * s2_d


def loss_bound_terms(s2: Any, s3: Any, n1: Any) -> Any:
    """Numerator and denominator of the step size at which a band's expected loss stands still."""
    return 2.0 * s2, s3 + n1


def pull_term(p: Any, q: Any, s: Any, c: Any) -> Any:
    """What stands in the place of ``S_p`` under momentum: ``p S_p + q C_(p-1)``.

    ``p`` and ``q`` are the factors of gradient and velocity in a step (`optimizer`).
    """
    return p * s + q * c


def push_term(p: Any, q: Any, s: Any, c: Any, v: Any) -> Any:
    """What stands in the place of ``S_p + N``: ``p^2 (S_p + N) + 2 p q C_(p-1) + q^2 V_(p-2)``."""
    return p * p * s + 2.0 * p * q * c + q * q * v
