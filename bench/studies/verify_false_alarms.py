"""How often `verify` says that a true claim fails, on random problems of every kind.

Each claim may fail in 1 of 10^4 cases; two failures or more in a thousand problems of five claims
would be a surprise (chance 0.09). Kinds take turns: additive noise, mini-batches of data, each with
momentum and without, and wide spectra. Also printed: how many p-values of claims with evidence are
small, which at most their own number may be.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from suspalign_fast.claims.evidence import FALSE_ALARM

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.helpers.random_problems import KINDS, verified


def failures(numbers, kinds):
    """Return what fails among random problems, p-values of claims with evidence, and verdicts."""
    failed, values, verdicts = [], {}, Counter()
    for number in numbers:
        kind = kinds[number % len(kinds)]
        how, report = verified(number, KINDS[kind])
        for claim in report.claims:
            verdicts[claim.name, claim.verdict] += 1
            if claim.right + claim.wrong:
                values.setdefault(claim.name, []).append(claim.p_value)
            if claim.verdict == "fails":
                wrong = claim.p_value, claim.wrong
                failed.append((number, kind, claim.name, *wrong, how, claim.detail))
    return failed, values, verdicts


def main():
    """Print the failures and how small p-values are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append", help="by default all, in turn")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.problems)
    failed, values, verdicts = failures(numbers, options.kind or list(KINDS))
    judged = sum(map(len, values.values()))
    print(
        f"false alarm rate of a claim: {FALSE_ALARM:g}; {options.problems} problems, {judged} "
        f"claims with evidence, {len(failed)} failures"
    )
    for failure in failed:
        print("  ", *failure)
    for name, found in values.items():
        small = [int((np.array(found) < level).sum()) for level in (0.1, 0.01, 1e-3, 1e-4)]
        opened = verdicts[name, "open"]
        print(f"{name}: {len(found)} with evidence, {opened} open, below .1 .01 .001 1e-4: {small}")


if __name__ == "__main__":
    main()
