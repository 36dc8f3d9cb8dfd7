"""What the studies share: plain tables and grids of steps."""

import numpy as np


def print_table(title, header, rows):
    """Print rows under a header, columns right-aligned.

    Parameters
    ----------
    title : str
    header : list of str
    rows : list of list
        Strings as they are, floats with four digits.
    """
    text = [[cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *text, strict=True)]
    print(f"\n{title}")
    for row in [header, *text]:
        print("  ".join(entry.rjust(width) for entry, width in zip(row, widths, strict=True)))


def cell(value):
    """Format one entry of a table."""
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def log_steps(stop, size):
    """Return 0 and about `size` integers up to `stop`, evenly spaced in their logarithm."""
    grid = np.rint(np.geomspace(1.0, max(2.0, stop), size))
    return np.unique(np.append(0, grid.astype(np.int64)))
