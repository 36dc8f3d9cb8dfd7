"""Print ratios between the benchmarks of a run, after pytest-benchmark's own table."""

import os
import platform
from pathlib import Path

import numba
import numpy as np
import pytest


def processor():
    """Name of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def pytest_benchmark_update_machine_info(config, machine_info):
    """Record processor and versions in the JSON."""
    machine_info["processor_name"] = processor()
    machine_info["versions"] = {"numba": numba.__version__, "numpy": np.__version__}


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    """Time per step of every benchmark and its ratio to the slowest of its group."""
    session = getattr(config, "_benchmarksession", None)
    if session is None or not session.benchmarks:
        return
    groups = {}
    for bench in session.benchmarks:
        if "steps" in bench.extra_info:
            per_step = bench.stats.median / bench.extra_info["steps"]
            groups.setdefault(bench.group, []).append((bench.name, per_step))
            for label, seconds in bench.extra_info.get("in turn", {}).items():
                groups[bench.group].append((f"{bench.name} {label}", seconds))
    write = terminalreporter.write_line
    terminalreporter.section(
        f"time per step (medians) on {processor()}, {os.cpu_count()} cores, "
        f"numba {numba.__version__}, numpy {np.__version__}"
    )
    for group, rows in groups.items():
        slowest = max(seconds for _, seconds in rows)
        write(f"{group}")
        for name, seconds in sorted(rows, key=lambda row: -row[1]):
            write(f"  {name:<44} {seconds * 1e6:14.4g} us   {slowest / seconds:8.2f} x")
