"""Names that modules had before the package was laid out in folders."""

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import suspalign_fast as sa

HERE = Path(__file__).parent


def test_every_old_name_is_that_of_a_module_of_today():
    """In a process of its own, where nothing has been imported by an old name yet."""
    code = (
        "import importlib, importlib.util, sys, warnings, suspalign_fast as sa\n"
        "from suspalign_fast.base.old_paths import TODAY\n"
        "torch = importlib.util.find_spec('torch')\n"
        "for old, new in TODAY.items():\n"
        "    if '.network' in old and not torch: continue\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        warnings.simplefilter('always')\n"
        "        module = importlib.import_module(old)\n"
        "    assert any(old in str(w.message) and new in str(w.message) and\n"
        "               w.category is DeprecationWarning for w in caught), old\n"
        "    assert module is importlib.import_module(new) is sys.modules[new], old\n"
        "    assert module.__spec__.name == module.__name__ == new, old\n"
        "assert callable(sa.verify) and callable(sa.simulate) and callable(sa.sweep)\n"
        "assert callable(sa.estimate) and len(TODAY) > 150\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "line",
    [
        "from suspalign_fast.spec import NOISES, RULES, ENGINES, OPTIMIZERS",
        "from suspalign_fast.noise import Scaling",
        "from suspalign_fast.step_size import KnownStepSize, AdaptiveStepSize",
        "from suspalign_fast.optimizer import Factors, Optimizer",
        "from suspalign_fast.engines import Engine, Rows",
        "from suspalign_fast.row import derived, sum_weights, BANDS, SUMS",
        "import suspalign_fast.executors, suspalign_fast.datasets, suspalign_fast.spectrum",
    ],
)
def test_names_that_pages_had(line):
    exec(line, {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_was_pickled_before_loads():
    kept = pickle.loads((HERE / "before_folders.pickle").read_bytes())
    found = {name: pickle.loads(data) for name, data in kept.items()}
    spectrum = sa.Spectrum([10.0, 1.0], 2, [2, 30])
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.1), 2.0)
    assert found["few"] == spectrum
    assert found["problem"] == problem
    assert found["batches"] == sa.Quadratic(spectrum, sa.DataNoise(8, 0.1), 2.0)
    assert found["momentum"] == sa.Momentum(0.9, nesterov=True)
    assert found["rules"][0] == sa.CriticalStep(0.9)
    assert found["noises"][1] == sa.DiagonalNoise([1.0, 2.0])
    assert found["trace"] == sa.simulate(problem, 0.01, 20, seed=3)
    expected = sa.theory.expected(problem, 0.01, [0, 5])
    np.testing.assert_allclose(found["expected"].loss_mean, expected.loss_mean, rtol=1e-12)
    assert found["report"].failed == sa.verify(problem, 0.01, 20, states=2, repeats=50).failed
    assert type(found["errors"][0]) is sa.DeviceError


def test_an_old_name_that_was_none_is_not_found():
    with pytest.raises(ModuleNotFoundError, match=r"suspalign_fast\.nothing"):
        importlib.import_module("suspalign_fast.nothing")
