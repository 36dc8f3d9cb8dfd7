"""Write the comparisons of a run as JSON, as a table and as a picture.

``pytest bench --report`` does it at the end of a run; for a report that was kept with
``--benchmark-json=FILE``: ``python bench/report.py FILE``. What was measured on a GPU goes into
files of its own.
"""

import argparse
import json
from pathlib import Path

import machine
from comparison import comparisons_of, table

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results"
PICTURE = BENCH.parent / "docs" / "benchmarks.png"
OURS, THEIRS = "#D55E00", "0.65"


def write(report, results=RESULTS, picture=PICTURE):
    """Write all three and return their paths; what was not measured is left as it is."""
    machine_info = report["machine_info"]
    machine_info = {name: machine_info[name] for name in machine.FIELDS if name in machine_info}
    entries = {"": [], "gpu_": []}
    for entry in report["benchmarks"]:
        key = entry["extra_info"].get("comparison", {}).get("key", "")
        kept = {"name": entry.get("fullname", entry["name"]), "extra_info": entry["extra_info"]}
        entries["gpu_" if key.startswith("gpu") else ""].append(kept)
    results.mkdir(parents=True, exist_ok=True)
    paths = []
    for prefix, benchmarks in entries.items():
        if benchmarks:
            kept = {"machine_info": machine_info, "benchmarks": benchmarks}
            paths += _write_pair(kept, results, prefix)
    return [*paths, picture] if draw(report, picture) else paths


def _write_pair(kept, results, prefix):
    """Write JSON and table of some benchmarks and return their paths."""
    paths = [results / f"{prefix}comparisons.json", results / f"{prefix}table.md"]
    paths[0].write_text(json.dumps(kept, indent=1) + "\n")
    heading = f"{machine.sentence(kept['machine_info'])}; medians of members measured in turn.\n\n"
    paths[1].write_text(heading + table(comparisons_of(kept)))
    return paths


def draw(report, path):
    """Draw time per step of every library, and throughput against dimension.

    Returns whether both were measured.
    """
    from matplotlib.figure import Figure

    found = {comparison.key: comparison for comparison in comparisons_of(report)}
    if not {"libraries", "dimension"} <= set(found):
        return False
    figure = Figure(figsize=(7.5, 6.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(1.5, 1))
    _bars(top, found["libraries"])
    _throughput(bottom, found["dimension"])
    info = report["machine_info"]
    figure.supxlabel(
        f"{info['processor']}, {info['cores']} cores; medians of members measured in turn",
        fontsize=8, color="0.35",
    )  # fmt: skip
    figure.savefig(path, dpi=150)
    return True


def _bars(axes, comparison):
    """Bars from zero on a linear axis: their lengths compare as the times do."""
    members = sorted(comparison.values, key=comparison.values.get, reverse=True)
    times = [1e3 * comparison.values[member] for member in members]
    colors = [OURS if member == comparison.reference else THEIRS for member in members]
    axes.barh(members, times, color=colors, height=0.7)
    for place, (member, time) in enumerate(zip(members, times, strict=True)):
        label = f"{time:.3g} ms"
        if member != comparison.reference:
            label += f"  ({comparison.ratio(member):.3g} times)"
        axes.text(time + 0.008 * max(times), place, label, va="center", fontsize=8)
    axes.set_xlim(0.0, 1.36 * max(times))
    axes.set_ylim(-0.6, len(members) - 0.4)
    axes.set_xlabel("milliseconds a step", fontsize=9)
    axes.set_title(
        "One SGD step at d = 2$^{20}$, loss and alignment recorded", fontsize=10, loc="left"
    )
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _throughput(axes, comparison):
    members = [member for member in comparison.values if member.startswith("d = ")]
    dims = [int(member[4:].replace(",", "")) for member in members]
    rates = [1e-9 / comparison.values[member] for member in members]
    axes.semilogx(dims, rates, "o-", color=OURS)
    axes.set_ylim(0.0, 1.15 * max(rates))
    axes.set_xlabel("dimension d", fontsize=9)
    axes.set_ylabel("10$^9$ coordinate-steps a second", fontsize=9)
    axes.set_title("Throughput of the step engine", fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, lw=0.5)


def main():
    """Read a pytest-benchmark report and write what is made of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="written by pytest --benchmark-json")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON and table")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    for path in write(json.loads(options.file.read_text()), options.results, options.picture):
        print(path)


if __name__ == "__main__":
    main()
