"""Fewer cases than a product of axes: every two values of two axes still meet."""

import itertools

import pytest


def all_pairs(**axes):
    """Parametrize a test by cases in which every pair of values of different axes occurs.

    Faults that take three values at once are for `tests/engines/test_matrix.py`, which runs whole
    products on small problems.
    """
    return pytest.mark.parametrize(tuple(axes), cases_of(*map(list, axes.values())))


def cases_of(*axes):
    """Return few cases, shape (cases, axes), with every pair of values of different axes."""
    whole = list(itertools.product(*map(range, map(len, axes))))
    pairs = {case: set(itertools.combinations(enumerate(case), 2)) for case in whole}
    missing, chosen = set().union(*pairs.values()), []
    while missing:
        best = max(whole, key=lambda case: len(pairs[case] & missing))
        missing -= pairs[best]
        chosen.append(tuple(axis[i] for axis, i in zip(axes, best, strict=True)))
    return chosen
