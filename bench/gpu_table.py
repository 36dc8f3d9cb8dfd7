"""The kept table of what the compilers make of the GPU's kernels, and what is worse than in it."""

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from gpu_counts import LOOP, UNITS

PATH = Path(__file__).parent / "results" / "gpu_code.md"
#: How far a count of instructions may be above the kept one.
TOLERANCE = 0.03
#: Packages whose versions, with Python's, decide what code there is: figures of others are not
#: compared, for even another Python has been seen to change what spills.
PACKAGES = ("numba", "numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc")
REWRITE = "python bench/gpu_code.py --write"
SECTION = "## Compute capability "
HEAD = f"""\
# What the compilers make of the GPU's kernels

Kept by `{REWRITE}`, compared with by `python bench/gpu_code.py --check`
([docs/gpu.md](../../docs/gpu.md)). Bytes are those of a thread; `limit` is how many registers leave
room for the blocks that a kernel is launched with. From `{LOOP}` on: instructions of the loop that
makes the normals, a coordinate and step.

"""


def installed():
    """Versions of the compilers, ``none`` where a package is not there."""
    versions = {"python": "{}.{}".format(*sys.version_info)}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "none"
    return versions


@dataclass
class Table:
    """Figures of kernels.

    Attributes
    ----------
    compilers : dict of str
        Versions of Python and of PACKAGES.
    rows : dict of dict
        Figures by their names, for (compute capability, kernel, type of state).
    """

    compilers: dict[str, str]
    rows: dict[tuple[str, str, str], dict[str, float]]

    def text(self):
        """Return the table in Markdown, a line a kernel."""
        made = ", ".join(f"{name} {version}" for name, version in self.compilers.items())
        parts = [f"{HEAD}Made with {made}.\n"]
        for capability in dict.fromkeys(key[0] for key in self.rows):
            rows = {key[1:]: row for key, row in self.rows.items() if key[0] == capability}
            names = list(max(rows.values(), key=len))
            parts.append(f"\n{SECTION}{capability}\n\n")
            parts.append(_line("kernel", "state", *names))
            parts.append(_line("---", "---", *("---:" for _ in names)))
            for key, row in rows.items():
                parts.append(_line(*key, *(f"{row[n]:.4g}" if n in row else "" for n in names)))
        return "".join(parts)


def _line(*cells):
    return f"| {' | '.join(cells)} |\n"


def parse(text):
    """Return the table of a text."""
    compilers, rows, capability, names = {}, {}, "", []
    for line in text.splitlines():
        if line.startswith("Made with "):
            made = line.removeprefix("Made with ").rstrip(".").split(", ")
            compilers = dict(pair.split(" ") for pair in made)
        elif line.startswith(SECTION):
            capability = line.removeprefix(SECTION)
        elif line.startswith("| kernel |"):
            names = line.strip("| ").split(" | ")[2:]
        elif line.startswith("| ") and "---" not in line:
            kernel, state, *cells = (cell.strip() for cell in line.split("|")[1:-1])
            figures = {name: float(c) for name, c in zip(names, cells, strict=True) if c}
            rows[capability, kernel, state] = figures
    return Table(compilers, rows)


def other_compilers(kept, found):
    """Say which versions are not those of a kept table, nothing if all are."""
    return ", ".join(
        f"{name} {version} in place of {kept.get(name, 'none')}"
        for name, version in found.items()
        if version != kept.get(name)
    )


def worse(kept, found):
    """Say what is worse than in the kept table, a line each."""
    faults = []
    for key in kept.rows | found.rows:
        name = _name(key)
        if key not in found.rows:
            faults.append(f"{name}: in the kept table, but not compiled")
        elif key not in kept.rows:
            faults.append(f"{name}: compiled, but not in the kept table")
        else:
            pair = kept.rows[key], found.rows[key]
            words = [*_memory(*pair), *_registers(*pair), *_counts(*pair)]
            faults += [f"{name}: {said}" for said in words]
    return faults


def _name(key):
    return "{1}, {2} state, compute capability {0}".format(*key)


def _said(words, kept, found, why=""):
    return f"{words}: {kept:.4g} in the kept table, found {found:.4g}{why}"


def _memory(kept, found):
    return [
        _said(name, kept[name], found[name])
        for name in ("spilled bytes", "stack bytes")
        if found[name] > kept[name]
    ]


def _registers(kept, found):
    before, now, limit = kept["registers"], found["registers"], kept["limit"]
    why = f", and the launch bounds leave {limit:g}"
    return [_said("registers", before, now, why)] if now > max(before, limit) else []


def counted(row):
    """Names of the counts of a row that are compared, and what they are called.

    Those of the main loop; of all instructions where there is none.
    """
    if LOOP in row:
        words = "instructions of the main loop, a coordinate and step"
        return {LOOP: words} | {unit: f"{words} ({unit})" for unit in UNITS}
    return {"instructions": "instructions in all"} if "instructions" in row else {}


def _counts(kept, found):
    if LOOP in kept and LOOP not in found:
        return ["no loop that makes normals was found"]
    why = f", more than {TOLERANCE:.0%} above"
    return [
        _said(words, kept[name], found[name], why)
        for name, words in counted(kept).items()
        if found[name] > kept[name] * (1 + TOLERANCE)
    ]


def better(kept, found):
    """Say which counts fell by more than the tolerance: the table should know."""
    return [
        f"{_name(key)}: {_said(words, row[name], found.rows[key][name])}"
        for key, row in kept.rows.items()
        for name, words in counted(row).items()
        if found.rows.get(key, row).get(name, row[name]) < row[name] * (1 - TOLERANCE)
    ]
