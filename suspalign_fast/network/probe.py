"""A probe in a training loop: rows while a network trains, and their trace."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from ..base import checks, reports, words
from ..physics import rows
from ..physics.row import RECORDED
from ..storage import paths
from ..traces.trace import KILLED, STATUSES, Trace
from ..traces.trace_file import load_trace
from ..traces.writers import MeasuredWriter
from .loss import Batches, Loss, NotFiniteError
from .row import USUAL_PRODUCTS, NetworkRow, Settings, measured_row


class Probe:
    """Measures rows of a network while it trains.

    Call `observe` before every step of the optimizer. Nothing of the training changes: neither
    parameters, gradients, modes of modules nor torch's random numbers.

    Parameters
    ----------
    model, loss_fn, data, num_dominant, batch_size, noise_batches, curvature, tolerance, seed
        As of `measure_row`.
    every : int
        Steps from one row to the next.
    refresh : int
        Rows from one set of eigenvectors to the next. Those in between take the same eigenvectors,
        and a third of the products.
    path : path-like, optional
        A file for the rows, which other processes may read meanwhile.
    overwrite : bool
        Whether a file that is there may be replaced, once the first row is measured.
    append : bool
        Go on with the file that is at the path: its rows before `first_step` stay, those from there
        on are measured again. Where there is no file it is a new one.
    first_step : int
        The step that the first call of `observe` is at, in a training that goes on.
    progress : bool
        Show a bar of products for every row on standard error.

    Attributes
    ----------
    settings : Settings
        What rows are measured with.
    batches : Batches
        Where mini-batches come from.
    step : int
        The step that the next call of `observe` is at.
    rows : list of NetworkRow
        Without their eigenvectors, but for the last one.

    Raises
    ------
    ValueError
        If an argument is not as described.
    OSError
        If the file cannot be written.

    Notes
    -----
    What rows are, and what they cost: docs/networks.md.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> with sa.network.Probe(
    ...     model, loss_fn, (x, y), num_dominant=9, batch_size=32, every=50
    ... ) as probe:  # doctest: +SKIP
    ...     for inputs, targets in batches:
    ...         probe.observe(optimizer)
    ...         ...
    >>> sa.plot_trace(probe.trace, "training.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        loss_fn: Any,
        data: Any,
        num_dominant: int,
        *,
        batch_size: int | None = None,
        noise_batches: Any = None,
        curvature: str = "hessian",
        every: int = 1,
        refresh: int = 1,
        tolerance: float = 0.02,
        seed: int = 0,
        path: Any = None,
        overwrite: bool = False,
        append: bool = False,
        first_step: int = 0,
        progress: bool = False,
    ) -> None:
        self.settings = Settings(Loss(model, loss_fn, data), num_dominant, curvature, tolerance)
        self.batches = Batches(self.settings.loss, batch_size, noise_batches, seed)
        self._every = checks.integer("every", every, 1)
        self._refresh = checks.integer("refresh", refresh, 1)
        self._progress = progress
        self.step = checks.integer("first_step", first_step, 0)
        self.rows: list[NetworkRow] = []
        self._recorded: dict[str, list[Any]] = {}
        self._status = STATUSES[0]
        self._has_warned = False
        self._has_diverged = False
        self._vectors: Tensor | None = None
        k = self.settings.num_dominant
        self.source = (
            f"{type(model).__name__} of {self.settings.loss.dim:,} parameters, k = {k}, {curvature}"
        )
        self._writer: MeasuredWriter | None = None
        self._new_writer: Callable[[], MeasuredWriter] | None = None
        if path is not None:
            shapes = {name: column.shape for name, column in rows.columns().items()}
            shapes[rows.TOP.name] = (k + 1,)
            if append:
                self._recorded = self._rows_of(path)
            replaces = overwrite or append
            paths.check_new(paths.real(path), overwrite=replaces)
            self._new_writer = functools.partial(
                MeasuredWriter,
                path, self.source, shapes, overwrite=replaces, earlier=self._recorded,
            )  # fmt: skip
            if not Path(path).exists():  # one that is there stays until there is a row
                self._writer = self._new_writer()
        elif append:
            raise ValueError("append must be False without a path, got True")

    def _rows_of(self, path: Any) -> dict[str, list[Any]]:
        """Return the rows of an earlier file before the first step, recorded columns by name."""
        try:
            trace = load_trace(path)
        except FileNotFoundError:
            return {}
        if trace.source != self.source:
            raise ValueError(
                f"path must be of rows of the same network to go on with, {self.source}, got "
                f"{path} of {words.plain(trace.source)}"
            )
        kept = np.asarray(trace.step) < self.step
        names = (*RECORDED, *rows.columns())
        return {name: list(np.asarray(trace[name])[kept]) for name in names}

    def observe(self, step_size: float | Optimizer) -> NetworkRow | None:
        """Count a step that is about to be done; measure a row where it is time for one.

        Parameters
        ----------
        step_size : float or torch.optim.Optimizer
            Of the step; an optimizer says its learning rate.

        Returns
        -------
        NetworkRow or None

        Raises
        ------
        ValueError
            If the loss is not a mean, or random, or is not finite at the first row.

        Warns
        -----
        RuntimeWarning
            Where loss or curvature are not finite any more: there is no row then, and the training
            goes on.
        """
        size = _step_size(step_size)
        self._warn_of_decay(step_size)
        step, self.step = self.step, self.step + 1
        is_there = self._steps[-1:] == [step]
        if step % self._every != 0 or is_there:
            return None
        try:
            return self.measure(size, step)
        except NotFiniteError as error:
            if not self._steps:
                raise
            self._warn_of_end(step, error)
            return None

    def _warn_of_end(self, step: int, error: NotFiniteError) -> None:
        if not self._has_diverged:
            self._has_diverged = True
            warnings.warn(
                f"there is no row at step {step}, and none after it while that is so: {error}",
                RuntimeWarning,
                stacklevel=3,
            )

    @property
    def _steps(self) -> list[int]:
        """Steps of all rows, those of an earlier file included."""
        return self._recorded.get("step", [])

    def _warn_of_decay(self, given: float | Optimizer) -> None:
        decays = isinstance(given, Optimizer) and any(
            group.get("weight_decay") for group in given.param_groups
        )
        if decays and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "the optimizer has weight_decay, which rows do not see: make it a penalty in "
                "loss_fn to have it measured",
                RuntimeWarning,
                stacklevel=3,
            )

    def measure(self, step_size: float = float("nan"), step: int | None = None) -> NetworkRow:
        """Measure a row now.

        Parameters
        ----------
        step_size : float
        step : int, optional
            By default the number of steps observed.
        """
        if self._status != STATUSES[0]:
            raise ValueError("probe must be open to measure a row, and was closed")
        size = float(step_size)
        if not np.isnan(size):
            size = checks.real("step_size", step_size)
        step = self.step if step is None else checks.integer("step", step, 0)
        number = len(self._steps)
        last = self._steps[-1] if number else -1
        if step <= last:
            raise ValueError(f"step must be above that of the row before, {last}, got {step}")
        vectors = None if number % self._refresh == 0 else self._vectors
        with reports.bar(
            USUAL_PRODUCTS, "product", visible=self._progress, leave=False, desc=f"row {number}"
        ) as bar:
            row = measured_row(
                self.settings, self.batches, number, vectors, bar.update, warn=not self.rows
            )
        self._vectors, self._has_diverged = row.vectors, False
        if self._writer is None and self._new_writer is not None:
            self._writer = self._new_writer()
        values = {"step": step, "step_size": size} | row.columns()
        if self._writer is not None:
            self._writer.append({name: np.asarray([value]) for name, value in values.items()})
        for name, value in values.items():
            self._recorded.setdefault(name, []).append(value)
        if self.rows:  # eigenvectors of one row are enough
            self.rows[-1] = _without_vectors(self.rows[-1])
        self.rows.append(row)
        return row

    @property
    def trace(self) -> Trace:
        """The rows so far, in memory or, with a path, in its file."""
        if self._writer is not None:
            return load_trace(self._writer.path)
        k, count = self.settings.num_dominant, len(self._steps)
        shapes = {name: column.shape for name, column in (RECORDED | rows.columns()).items()}
        shapes[rows.TOP.name] = (k + 1,)
        columns = {
            name: np.reshape(self._recorded.get(name, []), (count, *shape))
            for name, shape in shapes.items()
        }
        constants = columns.pop(rows.CONSTANTS.name)
        return Trace.measured(columns, constants, source=self.source, status=self._status)

    def close(self, status: str = "complete") -> None:
        """End the trace.

        Parameters
        ----------
        status : {"complete", "interrupted", "failed", "diverged"}

        Raises
        ------
        ValueError
            If it is none of these.
        """
        checks.choice("status", status, tuple(s for s in STATUSES[1:] if s != KILLED))
        self._status = status
        if self._writer is not None:
            self._writer.finish(status)

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close("diverged" if self._has_diverged else "complete")
        else:
            self.close("failed" if issubclass(kind, Exception) else "interrupted")


def _step_size(given: float | Optimizer) -> float:
    if not isinstance(given, Optimizer):
        return checks.real("step_size", given)
    sizes = {checks.real("step_size", _number(group.get("lr"))) for group in given.param_groups}
    if len(sizes) != 1:
        raise ValueError(
            f"step_size must be one for all parameters, or a number of yours, got {sorted(sizes)}"
        )
    return sizes.pop()


def _number(rate: Any) -> Any:
    """A learning rate, which may be a tensor."""
    return rate.item() if isinstance(rate, Tensor) and rate.numel() == 1 else rate


def _without_vectors(row: NetworkRow) -> NetworkRow:
    return replace(row, vectors=row.vectors[:, :0].clone())
