"""Kill sweeps into a file with SIGKILL at random moments, call them again, and count what is lost.

Runs go to threads and, with --processes, to spawned processes.

python bench/faults/kill_sweeps.py --kills 200
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers import study_kills


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    tally, expected = study_kills.Tally(), study_kills.sweep()
    print(f"digest of the sweep: {study_kills.digest(expected)[:16]}")
    with tempfile.TemporaryDirectory() as folder:
        while tally.kills < options.kills:
            goal = min(options.kills, tally.kills + 20)
            study_kills.kill_at_random(
                Path(folder), goal, tally, rng, expected, in_processes=options.processes
            )
            print(f"{tally}", flush=True)


if __name__ == "__main__":
    main()
