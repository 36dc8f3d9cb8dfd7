"""Draw ``docs/architecture.png``: the folders of the package, their floors, files and imports.

    python bench/studies/architecture.py docs/architecture.png

Everything is read from the sources. A folder stands on the lowest floor from which all that it
imports lies below it. An arrow is an import by something above; arrows that other arrows imply
are left out.
"""

import ast
import sys
from functools import cache
from pathlib import Path

import matplotlib

ROOT = Path(__file__).resolve().parents[2] / "suspalign_fast"
#: Letters of a line of file names in a box.
WIDTH = 32


def folders():
    """Return the files of every folder, and of its folders, by name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        if len(place.parts) > 1:
            found.setdefault(place.parts[0], []).append(path)
    return found


def imported_folders(path):
    """Yield the folders that a file imports from."""
    place = path.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = place[: len(place) - node.level]
            whole = [*base, *(node.module or "").split(".")]
            names = [whole] if any(whole) and node.module else [[*base, a.name] for a in node.names]
            yield from (name[0] for name in names if name)


def graph():
    """Return the folders that each folder imports from."""
    files = folders()
    return {
        name: {other for path in paths for other in imported_folders(path)} & set(files) - {name}
        for name, paths in files.items()
    }


def floors(below):
    """Return the floor of every folder, from 0."""

    @cache
    def floor(name):
        return max((floor(other) + 1 for other in below[name]), default=0)

    return {name: floor(name) for name in below}


def needed(below):
    """Return the imports that no chain of other imports implies."""

    @cache
    def reached(name):
        return below[name].union(*(reached(other) for other in below[name]))

    return {
        name: {o for o in others if not any(o in reached(p) for p in others - {o})}
        for name, others in below.items()
    }


def words_of(paths):
    """Return the names of the files of a folder, in short lines."""
    names = [
        path.relative_to(ROOT).with_suffix("").as_posix().partition("/")[2]
        for path in paths
        if path.stem != "__init__"
    ]
    tops = [name for name in names if "/" not in name]
    inner = sorted({name.partition("/")[0] + "/" for name in names if "/" in name})
    lines = [""]
    for name in [*tops, *inner]:
        if lines[-1] and len(lines[-1]) + len(name) > WIDTH:
            lines.append("")
        lines[-1] += f"{name}  "
    return "\n".join(line.strip() for line in lines)


def draw(path):
    """Draw the picture."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    files, below = folders(), graph()
    floor = floors(below)
    rows = {}
    for name in sorted(floor):
        rows.setdefault(floor[name], []).append(name)
    texts = {name: words_of(files[name]) for name in files}
    figure, axes = plt.subplots(figsize=(10.5, 12.0))
    places, y = {}, 0.0
    for level in sorted(rows):
        height = max(texts[name].count("\n") for name in rows[level]) * 0.17 + 0.85
        for at, name in enumerate(rows[level]):
            places[name] = ((at + 0.5) / len(rows[level]) * 10.0, y + height / 2.0, height)
        y += height + 0.38
    for name, others in needed(below).items():
        x, middle, height = places[name]
        for other in others:
            x2, middle2, height2 = places[other]
            hidden = floor[name] > floor[other] + 1 and abs(x - x2) < 1.0
            axes.annotate(
                "",
                (x2 + 0.1 * (x - x2), middle2 + height2 / 2.0),
                (x, middle - height / 2.0),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "0.55",
                    "lw": 1.0,
                    # Around a box that stands between the two.
                    "connectionstyle": f"arc3,rad={-0.9 if hidden else 0.0}",
                },
                zorder=1,
            )
    for name, (x, middle, height) in places.items():
        axes.add_patch(
            matplotlib.patches.FancyBboxPatch(
                (x - 1.55, middle - height / 2.0 + 0.02), 3.1, height - 0.04,
                boxstyle="round,pad=0,rounding_size=0.08", fc="#f3f6fa", ec="#0072b2", zorder=2,
            )
        )  # fmt: skip
        top = middle + height / 2.0
        axes.text(x, top - 0.09, name, ha="center", va="top", weight="bold", size=10, zorder=3)
        axes.text(x, top - 0.37, texts[name], ha="center", va="top", size=7.2, zorder=3)
    axes.set_xlim(-0.1, 10.1)
    axes.set_ylim(-0.1, y)
    axes.axis("off")
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    draw(sys.argv[1])
