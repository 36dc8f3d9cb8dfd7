"""Some columns of many runs as one labelled array, filled run by run."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import _memory, labelled
from .row import columns
from .run import Run
from .trace import Trace


class LabelledRuns:
    """Columns of runs that record the same steps.

    Parameters
    ----------
    runs : list of Run
    names : sequence of str

    Raises
    ------
    MemoryError
        If the columns cannot fit.
    ImportError
        If xarray is not installed.
    """

    def __init__(self, runs: list[Run], names: Iterable[str]) -> None:
        self._xarray = labelled.load_xarray()
        self._seeds = labelled.seeds_of([run.seed for run in runs])
        recording = runs[0].recording
        self._steps = np.concatenate([[0], recording.recorded_steps(0, recording.num_steps)])
        shapes = {name: (len(runs), recording.num_rows, *columns()[name].shape) for name in names}
        what = f"an ensemble of {len(runs):,} runs of {recording.num_rows:,} rows"
        _memory.check(what, 8 * sum(map(math.prod, shapes.values())))
        self._values = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
        self._status: list[str] = []

    def append(self, traces: Iterable[Trace]) -> None:
        """Take the traces of the next runs."""
        for trace in traces:
            for name, values in self._values.items():
                values[len(self._status)][: len(trace)] = trace[name]
            self._status.append(trace.status)

    def dataset(self) -> Any:
        """Return the labelled array."""
        variables: dict[str, Any] = {
            name: (("run", "step", *labelled.dims_of(name)), values, labelled.attributes_of(name))
            for name, values in self._values.items()
        }
        coordinates = {
            "run": np.arange(len(self._status)),
            "seed": ("run", self._seeds),
            "step": ("step", self._steps, labelled.attributes_of("step")),
        }
        return self._xarray.Dataset(
            variables | {"status": ("run", np.array(self._status))},
            coords=coordinates | labelled.coordinates_of(list(variables)),
        )
