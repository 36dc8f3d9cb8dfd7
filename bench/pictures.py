"""Draw the pictures of the repository again: all of them, or those named.

``docs/architecture.png`` is drawn by ``studies/architecture.py``,
``docs/two_phases.png`` is what ``suspalign run`` draws, ``docs/engines.png`` what
``studies/engines_plot.py`` does, ``docs/compression.png`` what ``studies/compressed_plot.py`` does,
``docs/mini-batches.png`` what ``studies/mini_batches.py`` does,
``docs/momentum-effects.png`` what ``studies/momentum_effects.py`` does,
``docs/phase-diagram.png`` what ``studies/phase_diagram.py`` does,
``docs/study.png`` what ``suspalign sweep`` and ``suspalign plot`` make of ``docs/published.toml``;
``docs/networks.png`` is what ``studies/networks.py`` makes of the rows in ``data/networks``;
``docs/benchmarks.png`` shows what was last measured.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import report
from studies import (
    architecture,
    compressed_plot,
    engines_plot,
    mini_batches,
    momentum_effects,
    networks,
    phase_diagram,
)

from suspalign_fast import cli

DOCS = report.PICTURE.parent


def command(*arguments):
    """Run a command of the command line, which ends the program only where it fails."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        if end.code:
            raise


def two_phases(path):
    """Run the main job and keep its picture."""
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.h5"
        command("run", "--output", trace, "--quiet")
        shutil.copyfile(trace.with_suffix(".png"), path)


def engines(path):
    """Run every engine on one problem."""
    engines_plot.draw(path)


def compression(path):
    """Run a million eigenvalues and their compressed levels."""
    compressed_plot.draw(path)


def mini_batches_of_data(path):
    """Run mini-batches of data beside additive noise, and random features."""
    mini_batches.draw(path)


def networks_in_training(path):
    """Draw the rows of networks that are in the repository."""
    networks.draw(path)


def study(path):
    """Run the published sweep from the command line and draw it."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "study.nc"
        command("sweep", DOCS / "published.toml", "-o", results, "--quiet")
        command("plot", results, "-o", path, "--size", "7.5x4", "--overwrite")


def benchmarks(path):
    """Draw the kept results; nothing is measured."""
    kept = json.loads((report.RESULTS / "comparisons.json").read_text())
    if not report.draw(kept, path):
        raise SystemExit("the kept results hold no libraries or no dimensions")


PICTURES = {draw.__name__: draw for draw in (two_phases, engines, compression, benchmarks, study)}
PICTURES["architecture"] = architecture.draw
PICTURES["mini-batches"] = mini_batches_of_data
PICTURES["momentum-effects"] = momentum_effects.draw
PICTURES["networks"] = networks_in_training
PICTURES["phase-diagram"] = phase_diagram.draw


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--folder", type=Path, default=DOCS, help="where the pictures go")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PICTURES):
        parser.error(f"no picture {', '.join(sorted(unknown))}; there are {', '.join(PICTURES)}")
    for name in options.names or PICTURES:
        path = options.folder / f"{name}.png"
        PICTURES[name](path)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
