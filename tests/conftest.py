import signal

import numpy as np
import pytest

import suspalign_fast as sa

# Whoever runs the tests in the background may have these ignored, and a run respects that.
for _name, _handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), _handler)

NOISES = {
    "isotropic": lambda dim: sa.IsotropicNoise(0.5),
    "hessian": lambda dim: sa.HessianNoise(0.3),
    "diagonal": lambda dim: sa.DiagonalNoise(np.linspace(0.2, 1.4, dim)),
}


@pytest.fixture(params=NOISES)
def noise(request):
    """A function of the dimension that makes a noise model: one test for each model."""
    return NOISES[request.param]


def assert_same_bits(actual, expected, rows=slice(None)):
    """Every column of ``actual`` equals the chosen rows of ``expected`` bit for bit."""
    for name, values in expected.columns().items():
        np.testing.assert_array_equal(
            actual[name].view(np.int64), values[rows].view(np.int64), err_msg=name
        )
