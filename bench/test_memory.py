"""Peak memory of a run at d = 10^8, beyond what the import takes."""

import fresh_process
import pytest
from comparison import Comparison
from in_turn import record

DIM = 10**8
#: The peak of this address space: ``ru_maxrss`` starts from the parent's where a process is forked.
SCRIPT = """
import resource, sys
import suspalign_fast as sa

def peak():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

dim, rule = int(sys.argv[1]), sys.argv[2]
step_size = 3e-3 if rule == "constant" else sa.CriticalStep(0.9)
imported = peak()
spectrum = sa.Spectrum.linear_bands(dim, dim // 1000)
problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
sa.simulate(problem, step_size, 4)
print(peak() - imported)
"""


@pytest.mark.benchmark(group="memory")
def test_memory(benchmark, tmp_path):
    """State and eigenvalues are sixteen bytes a coordinate in float64."""
    comparison = Comparison(
        "memory", "peak memory at d = 10^8 beyond the import, float64", "coordinate",
        unit="bytes",
    )  # fmt: skip

    def one_round():
        for rule in ("constant", "CriticalStep"):
            fresh_process.run(SCRIPT, 1000, rule, cache=tmp_path)  # compiling takes memory, too
            used = float(fresh_process.run(SCRIPT, DIM, rule, cache=tmp_path))
            comparison.values[f"step engine, {rule}"] = used / DIM
            comparison.asked_value[f"step engine, {rule}"] = ("at most", 18.4)

    benchmark.pedantic(one_round, rounds=1)
    record(benchmark, comparison)
