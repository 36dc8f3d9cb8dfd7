"""Measure the members of a comparison in turn: a noisy machine then treats them alike."""

import statistics
import time

#: Seconds between two members. Idle threads of OpenBLAS and OpenMP spin for up to 30 ms before
#: they go to sleep, and would take a core from the next member.
PAUSE = 0.05


class Members:
    """What a comparison measures; members whose construction fails are left out with the reason."""

    def __init__(self):
        self.works = {}
        self.skipped = {}

    def add(self, label, work, units):
        """Add a function without arguments whose call does a number of units."""
        self.works[label] = (work, units)

    def try_add(self, label, build, units):
        """Add the function that `build` returns, unless it raises."""
        try:
            self.add(label, build(), units)
        except Exception as error:  # a library that is missing or cannot run here
            self.skipped[label] = f"{type(error).__name__}: {error}".splitlines()[0][:100]


def measure(benchmark, members, comparison, rounds, warmup_rounds=1, clock=time.perf_counter):
    """Call every member once a round; medians of the rounds, per unit, go into the comparison."""
    times = {label: [] for label in members.works}

    def one_round():
        for label, (work, units) in members.works.items():
            time.sleep(PAUSE)
            started = clock()
            work()
            times[label].append((clock() - started) / units)

    benchmark.pedantic(one_round, rounds=rounds, warmup_rounds=warmup_rounds)
    for label, seconds in times.items():
        comparison.values[label] = statistics.median(seconds[warmup_rounds:] or seconds)
    comparison.notes.update(members.skipped)
    record(benchmark, comparison)


def record(benchmark, comparison):
    """Keep a comparison in the report of the benchmark."""
    benchmark.extra_info["comparison"] = comparison.as_dict()
