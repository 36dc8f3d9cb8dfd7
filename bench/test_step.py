"""Step engine against plain NumPy: one SGD step with loss and alignment recorded."""

import pytest
from baselines import NumPySimulation

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.kernels.batch import BATCH, only_normals
from suspalign_fast.kernels.normals import GROUP, seed_key
from suspalign_fast.run import Run

DIM = 2**20
STEP_SIZE = 3e-3


@pytest.fixture
def problem():
    spectrum = sa.Spectrum.linear_bands(DIM, 1000)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


@pytest.mark.benchmark(group=f"every step recorded, d = {DIM}")
class TestEveryStepRecorded:
    """Isotropic noise, constant step size, loss and alignment of every step."""

    def test_numpy_float64(self, benchmark, problem):
        """Vectorized NumPy."""
        steps = benchmark.extra_info["steps"] = 5
        simulation = NumPySimulation(problem, STEP_SIZE)
        benchmark.pedantic(simulation.run, args=(steps,), rounds=11, warmup_rounds=1)

    def test_step_engine(self, benchmark, problem):
        """All threads."""
        steps = benchmark.extra_info["steps"] = 128
        engine = make_engine(Run(problem, STEP_SIZE, 10**6))
        benchmark.pedantic(engine.advance, args=(steps,), rounds=15, warmup_rounds=1)

    def test_simulate_with_file(self, benchmark, problem, tmp_path):
        """The whole of ``simulate`` with its file."""
        steps = benchmark.extra_info["steps"] = 1000

        def run():
            path = tmp_path / "trace.h5"
            sa.simulate(problem, STEP_SIZE, steps, path=path, overwrite=True)

        benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group=f"one core, d = {DIM}")
class TestOneCore:
    """What the step engine spends on noise."""

    def test_step_engine(self, benchmark, problem):
        """One thread."""
        steps = benchmark.extra_info["steps"] = 64
        import numba

        before = numba.get_num_threads()
        numba.set_num_threads(1)
        engine = make_engine(Run(problem, STEP_SIZE, 10**6))
        benchmark.pedantic(engine.advance, args=(steps,), rounds=11, warmup_rounds=1)
        numba.set_num_threads(before)

    def test_noise_alone(self, benchmark):
        """The same number of normals, generated and nothing else."""
        steps = benchmark.extra_info["steps"] = 64
        benchmark.pedantic(
            only_normals, args=(DIM // (BATCH * GROUP), steps, *seed_key(0)), rounds=11,
            warmup_rounds=1,
        )  # fmt: skip
