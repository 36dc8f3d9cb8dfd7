"""Small networks for tests: exactly quadratic ones, and one that is not."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra torch)")

torch.set_num_threads(1)  # workers of pytest share the cores already

from suspalign_fast.network.lanczos import Lanczos, measure  # noqa: E402, F401
from suspalign_fast.network.sign_test import Count, crossing, t_statistic  # noqa: E402, F401


def half_square(outputs, targets):
    """Half the mean square, whose Hessian is that of `least_squares.of_data`."""
    return torch.nn.functional.mse_loss(outputs, targets) / 2.0


def gaussian_data(num_samples, eigenvalues, *, seed=0, label_std=0.5, start=1.0):
    """Inputs of given variances in axes that are mixed, and labels of a linear function."""
    rng = np.random.default_rng(seed)
    d = len(eigenvalues)
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    x = rng.standard_normal((num_samples, d)) * np.sqrt(eigenvalues) @ basis.T
    y = x @ (start * rng.standard_normal(d)) + label_std * rng.standard_normal(num_samples)
    return x, y


def linear(weights):
    """A linear model of one output with given weights."""
    weights = torch.as_tensor(weights)
    model = torch.nn.Linear(len(weights), 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(weights[None])
    return model


def as_tensors(x, y):
    return torch.tensor(x), torch.tensor(y)[:, None]


def perceptron(seed=0, *layers, inputs=6, width=8, outputs=3):
    """A small perceptron in double precision, with modules between its two layers."""
    torch.manual_seed(seed)
    middle = layers or (torch.nn.Tanh(),)
    first, last = torch.nn.Linear(inputs, width), torch.nn.Linear(width, outputs)
    return torch.nn.Sequential(first, *middle, last).double()


def classes(num_samples=60, *, inputs=6, outputs=3, seed=0):
    """Inputs and labels of classes."""
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.standard_normal((num_samples, inputs)))
    return x, torch.tensor(rng.integers(0, outputs, num_samples))
