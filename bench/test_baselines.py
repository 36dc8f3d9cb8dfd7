"""Every baseline simulates the same model: its loss and alignment against the exact means."""

import libraries
import machine
import numpy as np
import pytest

import suspalign_fast as sa

STEP_SIZE = 0.01
#: What libraries say that are installed without support for a GPU.
NO_SUPPORT = ("Unknown backend", "not compiled with CUDA")


@pytest.mark.parametrize("name", [*libraries.EIGENBASIS, *libraries.DENSE])
def test_against_theory(name):
    """Half of the loss is noise at the end, so that its size is tested, too."""
    check(name)


@pytest.mark.parametrize("name", libraries.GPU)
def test_on_gpu(name):
    """The same where there is a GPU."""
    if why := machine.no_gpu():
        pytest.skip(why)
    check(name)


@pytest.mark.parametrize(
    "name", [name for name, (module, *_) in libraries.GPU.items() if module in libraries.ON_CPU]
)
def test_gpu_baseline_on_cpu(name):
    """The same on a CPU for those that run there; graphs are left out."""
    check(name, on_cpu=True)


def check(name, **options):
    """Compare two stretches of a baseline with the exact means."""
    dim, steps = (500, 400) if name in libraries.DENSE else (20_000, 60)
    spectrum = sa.Spectrum.linear_bands(dim, dim // 10, dominant=(100.0, 80.0), bulk=(10.0, 5.0))
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(5.0), initial=1.0)
    try:
        simulation = libraries.build(name, problem, STEP_SIZE, **options)
    except Exception as error:
        # A missing library, or one that finds no compiler; anything else is a broken baseline.
        missing = isinstance(error, ImportError) or any(text in str(error) for text in NO_SUPPORT)
        if not missing and "compiled" not in name:
            raise
        pytest.skip(libraries.reason(error))
    # Two calls: the second has to go on where the first ended.
    halves = [simulation.run(steps // 2) for _ in range(2)]
    loss, alignment = (np.concatenate(column) for column in zip(*halves, strict=True))
    exact = sa.theory.expected(problem, STEP_SIZE, range(steps))
    late = slice(steps // 4, None)
    assert loss[0] == pytest.approx(exact.loss_mean[0], abs=4 * exact.loss_std[0])
    assert loss[late].mean() == pytest.approx(exact.loss_mean[late].mean(), rel=0.04)
    assert alignment[late].mean() == pytest.approx(exact.alignment_mean[late].mean(), rel=0.02)
    assert loss[late].std() > 0.0
