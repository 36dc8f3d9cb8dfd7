"""Coefficients move as PyTorch's own optimizer moves parameters, given the same noise."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.engines.reference import standard_normals
from suspalign_fast.kernels import domains
from suspalign_fast.model.run import Run

torch = pytest.importorskip("torch", reason="torch is not installed (extra spectra)")

STEPS, ETA = 100, 0.1
OPTIMIZERS = {
    "plain": (sa.SGD(), {}),
    "heavy ball": (sa.Momentum(0.9), {"momentum": 0.9}),
    "Nesterov": (sa.Momentum(0.9, nesterov=True), {"momentum": 0.9, "nesterov": True}),
}
SPECTRUM = sa.Spectrum(np.r_[np.linspace(3.0, 2.0, 5), np.linspace(1.0, 0.1, 30)], 5)
PROBLEMS = {
    "isotropic": sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.3), initial=1.0),
    "Hessian": sa.Quadratic(SPECTRUM, sa.HessianNoise(0.3), initial=np.linspace(-1.0, 1.0, 35)),
}


def of_pytorch(problem, start, options):
    """Yield the parameters after every step of ``torch.optim.SGD``, gradients by its autograd."""
    lam = torch.tensor(problem.spectrum.eigenvalues)
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=ETA, **options)
    for step in range(STEPS):
        noise = problem.stds * standard_normals(0, domains.STEP, step, lam.numel())
        optimizer.zero_grad()
        ((lam * theta**2).sum() / 2.0 + torch.tensor(noise) @ theta).backward()
        optimizer.step()
        yield theta.detach().numpy().copy()


@pytest.mark.parametrize("engine", ["step", "reference"])
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_coefficients_are_the_parameters_of_pytorch(kind, name, engine):
    problem, (optimizer, options) = PROBLEMS[name], OPTIMIZERS[kind]
    made = make_engine(Run(problem, ETA, STEPS, engine=engine, optimizer=optimizer))
    made.initial_row()
    start = made.state.copy()
    assert np.abs(start).max() > 0.5
    for step, theta in enumerate(of_pytorch(problem, start, options), 1):
        made.advance(1)
        np.testing.assert_allclose(made.state, theta, rtol=0.0, atol=1e-12, err_msg=str(step))
