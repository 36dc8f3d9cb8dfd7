"""Least-squares problems as quadratics: random features of a power law, and data with labels.

Both reduce exactly to what a `Quadratic` needs: the spectrum of the Hessian, the coefficients of
``theta_0 - theta*`` along its eigenvectors, and the deviation of what no parameters can fit, which
acts as noise of labels.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import checks, memory
from .noise import DataNoise
from .problem import Quadratic
from .spectrum.spectrum import Spectrum

Array = NDArray[np.float64]
#: Eigenvalues below this share of the largest are rounding errors of zero.
RANK_TOLERANCE = 1e-14
#: Rows and columns, at most.
MOST = 2**31


class LeastSquares(NamedTuple):
    """A least-squares problem in its eigenbasis, started at theta = 0.

    Attributes
    ----------
    spectrum : Spectrum
        Of the Hessian.
    initial : ndarray of float64, shape (d,)
        Coefficients of ``-theta*``, ``d`` the number of parameters.
    label_std : float
        Deviation of labels from the best prediction.
    vectors : ndarray of float64, shape (d, d)
        Eigenvectors of the Hessian, one a column, in the order of the eigenvalues.
    """

    spectrum: Spectrum
    initial: Array
    label_std: float
    vectors: Array

    def quadratic(self, batch_size: int) -> Quadratic:
        """Return the problem of SGD with mini-batches of so many samples, started at theta = 0.

        Examples
        --------
        >>> import suspalign_fast as sa
        >>> from suspalign_fast.model.least_squares import random_features
        >>> features = random_features(400, 100, alpha=1.0, beta=0.5, num_dominant=3)
        >>> trace = sa.simulate(features.quadratic(batch_size=8), 0.1, 50)
        >>> bool(trace.loss[-1] < trace.loss[0])
        True
        """
        return Quadratic(self.spectrum, DataNoise(batch_size, self.label_std), self.initial)

    @property
    def optimum(self) -> Array:
        """Parameters of the smallest loss and norm, shape (d,)."""
        best: Array = -(self.vectors @ self.initial)
        return best


def random_features(
    num_inputs: int,
    num_features: int,
    alpha: float,
    beta: float,
    *,
    num_dominant: int = 1,
    seed: int = 0,
    matrix: ArrayLike | None = None,
) -> LeastSquares:
    """Return the power-law random features problem.

    Inputs ``x ~ N(0, diag(j^(-2 alpha)))``, j = 1 ... v, have labels ``sum_j j^(-beta) x_j`` and
    are seen through d features ``W' x``. What the features cannot tell of a label is independent of
    them, as all is Gaussian: the problem is one of streaming least squares with noise of labels.

    Parameters
    ----------
    num_inputs, num_features : int
        v and d.
    alpha, beta : float
        Exponents of inputs and target.
    num_dominant : int
        Directions of the dominant band.
    seed : int
        Of the entries of W, normals of variance 1 / d.
    matrix : array_like, shape (v, d), optional
        W itself.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Notes
    -----
    Model: Maloney, Roberts and Sully, arXiv 2210.16859; Paquette et al., arXiv 2405.15074.

    Examples
    --------
    >>> from suspalign_fast.model.least_squares import random_features
    >>> problem = random_features(400, 100, alpha=1.0, beta=0.5, num_dominant=3)
    >>> problem.spectrum.dim, problem.initial.shape, problem.label_std > 0.0
    (100, (100,), True)
    """
    v = checks.integer("num_inputs", num_inputs, 2, MOST)
    d = checks.integer("num_features", num_features, 2, MOST)
    memory.check(f"a matrix of {v:,} x {d:,} numbers", 8 * v * d)
    j = np.arange(1.0, v + 1.0)
    variance = j ** (-2.0 * checks.real("alpha", alpha))
    target = j ** -checks.real("beta", beta)
    if matrix is None:
        rng = np.random.default_rng(checks.integer("seed", seed, 0, 2**64 - 1))
        w = rng.standard_normal((v, d)) / np.sqrt(d)
    else:
        w = _matrix("matrix", matrix)
        if w.shape != (v, d):
            raise ValueError(f"matrix must have shape ({v}, {d}), got {w.shape}")
    root = np.sqrt(variance)
    return _reduced(root[:, None] * w, root * target, num_dominant)


def of_data(inputs: ArrayLike, labels: ArrayLike, *, num_dominant: int = 1) -> LeastSquares:
    """Return the problem of fitting labels by a linear function of inputs.

    The loss is ``|X theta - y|^2 / (2 n)``, less its smallest value. Mini-batches of the data have
    the first two moments of the streaming problem; its fourth ones where the data are Gaussian.

    Parameters
    ----------
    inputs : array_like, shape (n, d)
    labels : array_like, shape (n,)
    num_dominant : int
        Directions of the dominant band.

    Raises
    ------
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast.model.least_squares import of_data
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((50, 4)) * [3.0, 1.0, 0.5, 0.1]
    >>> of_data(x, x @ np.ones(4)).optimum.round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    x = _matrix("inputs", inputs)
    y = _numbers("labels", labels, f"{x.shape[0]} finite numbers")
    if y.shape != x.shape[:1]:
        raise ValueError(f"labels must be {x.shape[0]} finite numbers, got shape {y.shape}")
    scale = np.sqrt(x.shape[0])
    return _reduced(x / scale, y / scale, num_dominant)


def _matrix(name: str, values: Any) -> Array:
    expected = "a matrix of finite numbers with at least 2 columns"
    matrix = _numbers(name, values, expected)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise ValueError(f"{name} must be {expected}, got shape {matrix.shape}")
    return matrix


def _numbers(name: str, values: Any, expected: str) -> Array:
    """Return an array of finite numbers of any shape."""
    given = checks.array(name, values, expected)
    if given.dtype.kind not in "biuf":
        raise checks.wrong(name, values, expected)
    numbers = given.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be {expected}, got some that are not finite")
    return numbers


def _reduced(a: Array, y: Array, num_dominant: int) -> LeastSquares:
    """The problem ``|a theta - y|^2 / 2`` by the singular values of a."""
    left, singular, right = np.linalg.svd(a, full_matrices=False)
    d = a.shape[1]
    known = singular**2 > RANK_TOLERANCE * singular[0] ** 2
    explained = left[:, known].T @ y
    lam, initial = np.zeros(d), np.zeros(d)
    count = int(known.sum())
    lam[:count] = singular[known] ** 2
    initial[:count] = -explained / singular[known]
    rest = y - left[:, known] @ explained
    vectors = np.linalg.qr(right.T, mode="complete")[0] if right.shape[0] < d else right.T.copy()
    vectors[:, : right.shape[0]] = right.T
    spectrum = Spectrum(lam, num_dominant)
    return LeastSquares(spectrum, initial, float(np.sqrt(rest @ rest)), vectors)
