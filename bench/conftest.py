"""One table of ratios after pytest-benchmark's own; ``--report`` keeps it as files."""

import machine
import pytest
import report
from comparison import comparisons_of


def pytest_addoption(parser):
    """Add ``--report``."""
    parser.addoption(
        "--report",
        action="store_true",
        help="write bench/results (JSON and table, those of a GPU apart) and docs/benchmarks.png",
    )


def pytest_configure(config):
    """Other libraries' warnings, errors elsewhere, must not end a benchmark."""
    config.addinivalue_line("filterwarnings", "default")


def pytest_benchmark_update_machine_info(config, machine_info):
    """Record processor, GPU and versions in the JSON."""
    machine_info.update(machine.description())


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    """Print every comparison: medians, ratios and what was asked."""
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return
    results = {
        "machine_info": machine.description(),
        "benchmarks": [
            {"name": bench.fullname, "extra_info": bench.extra_info} for bench in session.benchmarks
        ],
    }
    comparisons = comparisons_of(results)
    if not comparisons:
        return
    write = terminalreporter.write_line
    terminalreporter.section("medians, measured in turn, and ratios")
    write(machine.sentence(results["machine_info"]))
    for comparison in comparisons:
        write(f"\n{comparison.title()}")
        for member, value, ratio, asked in comparison.rows():
            write(f"  {member:<46} {value:>26} {ratio:>9}   {asked}".rstrip())
    if config.getoption("report"):
        for path in report.write(results):
            write(f"wrote {path}")
