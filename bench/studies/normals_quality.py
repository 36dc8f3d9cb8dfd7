"""How Gaussian the normals are: all 2^32 words of the transform, then as many draws as wanted.

Exits with 1 where a statistic is five standard errors from its exact value, or a deviation of the
transform beyond its limit.

python bench/studies/normals_quality.py --draws 1e10 --threads 2
"""

import argparse
import functools
import os
import sys
from pathlib import Path

from scipy import stats
from tables import print_table
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers import gaussian

#: Standard errors beyond which a statistic fails: of 40 statistics, 1 in 40,000 runs by chance.
BOUND = 5.0
TAIL_LEVELS = (4.0, 5.0, 5.5, 6.0, 6.25, 6.5, 6.7)


def verdict(inside):
    return "" if inside else "OUTSIDE"


def print_deviations(angles, radii):
    """Print the largest deviations beside their limits; return whether all are inside."""
    rows = []
    for name, value in gaussian.deviations(angles, radii).items():
        limit = gaussian.LIMITS[name]
        rows.append([name, f"{value:.6g}", f"{limit:g}", verdict(value <= limit)])
    print_table("Largest deviations, all words", ["of", "largest", "limit", ""], rows)
    return not any(row[-1] for row in rows)


def print_extremes(angles, radii):
    rows = [
        ["largest |normal|", f"{gaussian.largest_normal(angles, radii):.8g}"],
        ["smallest |normal| but 0", f"{gaussian.smallest_normal(angles, radii):.4g}"],
        ["largest radius", f"{radii.worst['largest']:.8g}"],
        ["smallest radius but 0", f"{1.0 / radii.worst['reciprocal']:.4g}"],
        ["radii equal to 0, of 2^32", radii.worst["zeros"]],
        ["largest |cosine|, |sine|", f"{angles.worst['largest']:.8g}"],
        ["smallest |cosine|, |sine| but 0", f"{1.0 / angles.worst['reciprocal']:.4g}"],
        ["angles with a 0, of 2^31", angles.worst["zeros"]],
        ["most negative cosine", f"{0.0 - angles.worst['most_negative']:.4g}"],
    ]
    print_table("Extremes, all words", ["what", "value"], rows)
    ends = [f"< {end:g}" for end in gaussian.CLASSES]
    rows = [[end, f"{value:.4g}"] for end, value in zip(ends, radii.by_class, strict=True)]
    print_table("Largest deviation of the radius, u not rounded", ["exact radius", "largest"], rows)


def print_implied_law(angles, radii):
    """Print moments and tails of the normals, exact up to the rounding of the last product."""
    moments = gaussian.implied_moments(angles, radii)
    bias = gaussian.implied_bias(angles, radii)
    rows = []
    for order in range(1, gaussian.ORDERS + 1):
        entries = [order, f"{gaussian.gaussian_moment(order):g}"]
        for m, b in zip(moments[:, order - 1], bias[:, order - 1], strict=True):
            entries += [f"{m:.10g}", f"{b:.2e}", f"{b**-2:.1e}" if b else "never"]
        rows.append(entries)
    header = ["order", "Gaussian"]
    for normal in ("z0", "z1"):
        header += [normal, "bias / sd", "draws to see it"]
    print_table("Implied moments, all words", header, rows)
    excess = moments[:, 3] / moments[:, 1] ** 2 - 3.0
    print("excess kurtosis of z0 and z1:", *(f"{value:.2e}" for value in excess))
    rows = [
        [f"{level:g}", f"{gaussian.implied_tail(level):.6g}", f"{stats.norm.sf(level):.6g}",
         f"{gaussian.implied_tail(level) / stats.norm.sf(level) - 1.0:+.2e}"]
        for level in TAIL_LEVELS
    ]  # fmt: skip
    print_table("Implied tails", ["beyond", "P", "Gaussian", "relative"], rows)


def print_scores(drawn):
    """Print the statistics of a sample; return whether all are inside."""
    rows = [
        [score.name, f"{score.observed:.10g}", f"{score.expected:.10g}", f"{score.z:+.2f}",
         verdict(abs(score.z) < BOUND)]
        for score in gaussian.scores(drawn)
    ]  # fmt: skip
    unheld = int(drawn.counts[-1])
    rows.append(["|z| >= 8 or NaN", unheld, 0, "", verdict(unheld == 0)])
    shape = f"{drawn.num_batches * gaussian.ROW:,} coordinates x {drawn.num_steps:,} steps"
    title = f"{drawn.draws:,} draws, {shape}; bound |z| < {BOUND:g}"
    print_table(title, ["statistic", "observed", "exact", "z", ""], rows)
    return not any(row[-1] for row in rows)


def scan(threads):
    """Scan all words; return whether every deviation is inside its limit."""
    angles = gaussian.scan_angles(threads=threads, progress=functools.partial(tqdm, desc="angles"))
    radii = gaussian.scan_radii(
        angles, threads=threads, progress=functools.partial(tqdm, desc="radii")
    )
    inside = print_deviations(angles, radii)
    print_extremes(angles, radii)
    print_implied_law(angles, radii)
    return inside


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=float, default=1e10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-scan", action="store_true", help="leave out the 2^32 words")
    options = parser.parse_args()
    inside = options.no_scan or scan(options.threads)
    progress = functools.partial(tqdm, desc="draws")
    drawn = gaussian.sample(
        options.draws, seed=options.seed, threads=options.threads, progress=progress
    )
    inside = print_scores(drawn) and inside
    print("all inside" if inside else "OUTSIDE")
    sys.exit(not inside)


if __name__ == "__main__":
    main()
