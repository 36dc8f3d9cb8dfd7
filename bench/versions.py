"""Compare the speed of this version with that of another checkout, in turn.

``python bench/versions.py ../before`` starts a worker process for each of the two trees, has them
run the same cases one after the other, round by round, and prints the median of the ratios of a
round, new over old, with the quartiles: what the machine does to one it does to the other.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = (
    "step", "step small", "step file", "step float32", "jump", "levels", "critical",
    "critical small", "levels critical", "own rule", "online", "first result",
)  # fmt: skip


def build(case, folder):
    """Return a function that runs a case once."""
    import numba

    import suspalign_fast as sa

    large = sa.Quadratic(sa.Spectrum.linear_bands(2**20, 1000), sa.IsotropicNoise(0.5))
    small = sa.Quadratic(sa.Spectrum.linear_bands(500, 20), sa.IsotropicNoise(0.5))
    levels = sa.Quadratic(sa.Spectrum.power_law(10**9, 10, 1.0, 30.0, num_levels=400))
    rule = sa.CriticalStep(0.9)

    @numba.njit
    def own(row):
        return 1e-3 if row.power_sums[0, 1] > 0.0 else 2e-3

    path = os.path.join(folder, "trace.h5")
    runs = {
        "step": (large, 1e-3, 400, {}),
        "step small": (small, 1e-3, 300_000, {}),
        "step file": (small, 1e-3, 60_000, {"path": path, "overwrite": True}),
        "step float32": (large, 1e-3, 400, {"dtype": "float32"}),
        "jump": (large, 1e-3, 20_000, {"engine": "jump", "record_every": 100}),
        "levels": (levels, 1e-3, 20_000, {"engine": "levels"}),
        "critical": (large, rule, 300, {}),
        "critical small": (small, rule, 120_000, {}),
        "levels critical": (levels, rule, 20_000, {"engine": "levels"}),
        "own rule": (small, own, 120_000, {}),
        "online": (small, sa.OnlineCriticalStep(0.9), 60_000, {}),
    }
    problem, step_size, steps, options = runs[case]
    return lambda: sa.simulate(problem, step_size, steps, **options)


def first_result():
    """Seconds of a fresh process with warm caches until it has simulated something."""
    code = (
        "import suspalign_fast as sa;"
        "sa.simulate(sa.Quadratic(sa.Spectrum.linear_bands(500, 20)), 1e-3, 10)"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def work(folder):
    """Run the cases named on standard input; answer with seconds."""
    built = {}
    for line in sys.stdin:
        case = line.strip()
        if case == "first result":
            print(first_result(), flush=True)
            continue
        if case not in built:
            built[case] = build(case, folder)
            built[case]()
        started = time.perf_counter()
        built[case]()
        print(time.perf_counter() - started, flush=True)


class Worker:
    """A process that runs cases with the package of a tree."""

    def __init__(self, tree, folder):
        folder.mkdir()
        environment = os.environ | {"PYTHONPATH": str(tree)}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", str(folder)], env=environment, cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def seconds(self, case):
        """Seconds of a case."""
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def main():
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return
    trees = {"old": arguments.before.resolve(), "new": Path(__file__).resolve().parents[1]}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        workers = {name: Worker(tree, Path(folder) / name) for name, tree in trees.items()}
        for case in arguments.cases:
            times = {name: [] for name in workers}
            for turn in range(arguments.rounds + 1):
                for name in sorted(workers, reverse=turn % 2 == 1):
                    times[name].append(workers[name].seconds(case))
            ratios = [n / o for n, o in zip(times["new"][1:], times["old"][1:], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[case] = {name: statistics.median(t[1:]) for name, t in times.items()}
            found[case]["ratio"] = middle
            print(
                f"{case:<16} old {found[case]['old']:.4g} s, new {found[case]['new']:.4g} s, "
                f"new / old {middle:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
