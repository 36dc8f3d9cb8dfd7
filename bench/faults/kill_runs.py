"""Kill runs with SIGKILL at random moments, resume them, and count what is lost.

Runs are reached through links, fork children, are ended by handlers that raise, or go on from old
copies of their files, in turn.

python bench/faults/kill_runs.py --kills 1000
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers import kills


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    tally = kills.Tally()
    seed = 0
    with tempfile.TemporaryDirectory() as folder:
        while tally.kills < options.kills:
            kind = list(kills.RUNS)[seed % len(kills.RUNS)]
            twist = kills.TWISTS[seed % len(kills.TWISTS)]
            kills.kill_at_random(Path(folder), kind, seed, 15, tally, rng, twist)
            seed += 1
            print(f"after {seed} runs: {tally}", flush=True)


if __name__ == "__main__":
    main()
