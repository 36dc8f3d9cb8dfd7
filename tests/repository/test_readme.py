"""The README's example prints what the README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.long
def test_the_python_example_shows_the_phenomenon(tmp_path):
    text = README.read_text()
    code = re.search(r"```python\n(import suspalign_fast as sa\n.*?)```", text, re.DOTALL)[1]
    printed = re.search(r"```text\n(step .*?)```", text, re.DOTALL)[1]
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert process.stdout == printed, process.stderr
    rows = [line.split() for line in printed.splitlines()]
    alignments = [float(row[3].rstrip(",")) for row in rows]
    assert min(alignments) < 1e-3 < 0.85 < alignments[-1]
    assert float(rows[-1][-1]) < 0.02
