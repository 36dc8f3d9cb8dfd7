"""The file of a study: netCDF-4 that grows run by run (docs/studies.md).

A run counts as done once its status is written, after its values have left this process.
"""

import itertools
import json
import math
from typing import Any, NoReturn

import h5py
import numpy as np
from numpy.typing import NDArray

from .. import storage
from ..storage import lock, netcdf, paths
from ..storage.foreign import NotCopiedError
from ..storage.growing import Growing
from ..storage.output import Block
from ..traces.labelled import seeds_of
from .cases import DIGEST_LENGTH, MISSING, Item, Outcome, Plan
from .grid import Grid, Place
from .reading import (  # fmt: skip
    FORMAT,
    FORMAT_VERSION,
    STATUS_LENGTH,
    TEXTS,
    THERE,
    Known,
    Status,
    as_stored,
    check_format,
    checked,
    sum_of_integers,
)
from .table import Table, attributes_of, provenance
from .values import EXACT_SUMS, NO_SUM, SUMS, Values, sum_of

#: Numbers in a chunk of a variable, about.
CHUNK = 8192


class StudyFile(Table):
    """The results of a sweep in a file that others may read meanwhile.

    It is locked from here on; what an earlier call left in it is known at once, and is written
    again by `begin`, to a new file that takes the old one's place.

    Raises ValueError if the file is of another study. Raises OSError if it is not of a study, is
    damaged or cannot be written.

    Parameters
    ----------
    overwrite : bool, optional
        Whether what an earlier call left is given up: once the new file is laid out beside it.

    Attributes
    ----------
    digests : ndarray of str, shape (*points,)
    """

    def __init__(
        self, path: paths.AnyPath, plan: Plan, asked: Grid, *, overwrite: bool = False
    ) -> None:
        self.path = paths.real(path)
        self._overwrite = overwrite
        paths.check_new(self.path, overwrite=True)
        self._lock = lock.Lock(self.path)
        self._place: Growing | None = None
        self._is_finished = False
        try:
            if self.path.is_file():
                self._lock.add(self.path)
            self._old = self._read_old(plan)
            super().__init__(plan, asked)
        except BaseException:
            self._lock.release()
            raise
        #: Runs whose error is in the file.
        self._failed = set(self._old.errors) if self._old else set()
        self.digests = np.full(self.grid.shape, "", dtype=f"U{DIGEST_LENGTH}")
        if self._old is not None:
            known = tuple(map(slice, self._old.grid.shape))
            self.digests[known] = self._old.digests
            if self.grid.seeds:
                self.status[(*known, slice(len(self._old.grid.seeds)))] = self._old.status
                self._errors = dict(self._old.errors)
            self.has_theory[known] = self._old.has_theory
            self.is_closed = self._old.is_closed
        #: Points whose digest is in the file.
        self._told = {place for place in self.grid.places() if self.digests[place]}

    def _read_old(self, plan: Plan) -> Known | None:
        if not self.path.is_file():
            return None
        if self._overwrite:
            with storage.Reader(self.path, live=False) as file:
                check_format(file)
            return None
        old = Known.of(self.path)
        try:
            old.check(plan)
        except ValueError as error:
            self.refuse(str(error))
        return old

    def _grid(self) -> Grid:
        if self._old is None:
            return self.asked
        try:
            return self._old.grid.joined(self.asked)
        except ValueError as error:
            self.refuse(str(error))

    def refuse(self, reason: str) -> NoReturn:
        """Raise ValueError: the file is of another study."""
        raise ValueError(
            f"path must be the file of this study, got {self.path}: {reason}"
        ) from None

    def _needed_by_values(self) -> int:
        """Bytes of digests: values are in the file."""
        return 4 * DIGEST_LENGTH * math.prod(self.grid.shape)

    def _arrays(self) -> Any:
        return {}

    @property
    def _file(self) -> h5py.File:
        assert self._place is not None
        return self._place.file

    def begin(self) -> None:
        """Put the file into its place, with all that an earlier one has."""
        self._place = Growing(self.path, self._lock)
        gives_way = self._overwrite or self._old is not None
        with self._place.laid_out(self._size(), overwrite=gives_way) as new:
            self._lay_out()
            if self._old is not None:
                with storage.Reader(self.path, live=False) as old:
                    try:
                        self._copy(old)
                    except (ValueError, KeyError) as error:
                        raise NotCopiedError(f"{self.path} is a damaged study: {error}") from error
                self._place.carry_over(new)
        self._values = {name: self._file[name] for name in self.shapes}
        names = [*self.shapes, *self._summed, *(name for name in TEXTS if name in self._file)]
        self._blocks = {name: Block(self._file[name]) for name in names}

    def _size(self) -> int:
        """Bytes of what is written before the first run."""
        texts = (
            self.digests.size * (DIGEST_LENGTH + STATUS_LENGTH) + self.status.size * STATUS_LENGTH
        )
        old = 0 if self._old is None else self.path.stat().st_size
        return texts + CHUNK * len(self._errors) + old

    def _lay_out(self) -> None:
        file, grid = self._file, self.grid
        study = {
            "axes": grid.axes,
            "has_seeds": bool(grid.seeds),
            "variables": self.plan.variables,
            "theory": self.plan.theory,
            "crc32": {name: sum_of_integers(values) for name, values in self._integers().items()},
        }
        about = {**provenance(self.plan), "format": FORMAT, "study": json.dumps(study)}
        for name, text in about.items():
            file.attrs[name] = storage.text(text)
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["status"] = _status(Status.RUNNING)
        for number, (name, values) in enumerate(self.coordinates().items()):
            has_attributes = isinstance(values, tuple)
            netcdf.add_coordinate(file, name, values[1] if has_attributes else values, number)
            netcdf.describe(file[name], values[2] if has_attributes else {})
        for name, shape in self.shapes.items():
            created = file.create_dataset(
                name, shape, np.float64, chunks=_chunks(shape), fillvalue=np.nan
            )
            netcdf.attach(created, [file[dimension] for dimension in self.dims(name)])
            netcdf.describe(created, attributes_of(name, self.dims(name)))
        self._lay_out_texts()

        self._lay_out_sums()

    def _integers(self) -> dict[str, NDArray[Any]]:
        """Coordinates that the description of the file has only the checksums of."""
        seeds = {"seed": seeds_of(self.grid.seeds)} if self.grid.seeds else {}
        return {**seeds, "step": self.plan.steps}

    def _lay_out_sums(self) -> None:
        """Make the datasets of checksums."""
        numbers = itertools.count(len(self.coordinates()) + len(TEXTS))
        for name, variables in self._summed.items():
            dims = self.dims(variables[0])
            dims = (*dims[: dims.index("step")], checked(name))
            shape = (*self.shapes[variables[0]][: len(dims) - 1], len(variables))
            netcdf.add_dimension(self._file, checked(name), len(variables), next(numbers))
            created = self._file.create_dataset(
                name, shape, np.int64, chunks=_chunks(shape), fillvalue=NO_SUM
            )
            netcdf.attach(created, [self._file[dimension] for dimension in dims])

    @property
    def _summed(self) -> dict[str, tuple[str, ...]]:
        """Variables that have checksums, by the dataset of these."""
        runs = self.plan.variables if self.grid.seeds else ()
        exact = [f"exact_{name}" for name in self.plan.moments]
        return {name: tuple(v) for name, v in ((SUMS, runs), (EXACT_SUMS, exact)) if v}

    def _lay_out_texts(self) -> None:
        points = tuple(self.grid.axes)
        every = {"digest": (points, self.digests)}
        if self.plan.theory:
            every["theory"] = (points, np.where(self.has_theory, THERE, ""))
        if self.grid.seeds:
            every |= dict.fromkeys(("status", "error"), ((*points, "seed"), self.status))
        numbers = itertools.count(len(self.coordinates()))
        for name, (dims, texts) in every.items():
            length, shape = TEXTS[name], (*texts.shape, TEXTS[name])
            if f"string{length}" not in self._file:
                netcdf.add_dimension(self._file, f"string{length}", length, next(numbers))
            created = self._file.create_dataset(name, shape, "S1", chunks=_chunks(shape))
            scales = [self._file[dimension] for dimension in (*dims, f"string{length}")]
            netcdf.attach(created, scales)
            created.attrs["_Encoding"] = storage.text("utf-8")
            if name != "error":
                created[...] = netcdf.as_characters(texts, length)
        for at, text in self._errors.items():
            self._file["error"][at] = netcdf.as_characters(np.array(text), TEXTS["error"])

    def _copy(self, old: storage.Reader) -> None:
        """Copy the variables of an earlier file: its points and seeds come first in this one.

        What it has of runs that are not done is left behind: where a disk was full, zeros stand in
        for what did not get there.
        """
        assert self._old is not None
        sums = self._old.sums(old)
        for part, names in self._summed.items():
            for number, name in enumerate(names):
                stored = old.variable(name)
                if stored.shape != self._old_shape(name):
                    raise ValueError(f"{name!r} is not of its grid")
                self._copy_values(
                    self._old.values(name, stored, sums.get(name)), name, part, number
                )

    def _copy_values(self, old: Values, name: str, part: str, number: int) -> None:
        """Copy the values of one variable that are there, and their checksums."""
        assert self._old is not None
        is_there, made = self._old.is_there(name), Block(self._file[name])
        sums = Block(self._file[part])
        for _, at, bounds in old.pieces([np.arange(n) for n in is_there.shape]):
            rows = old.rows(at, *bounds)
            here = np.atleast_1d(is_there[(*at, slice(*bounds)) if is_there.ndim else ()])
            if not here.any():
                continue
            first = (*at, bounds[0]) if is_there.ndim else ()
            made.write(first, rows if is_there.ndim else rows[0])
            each = [sum_of(row) if there else NO_SUM for row, there in zip(rows, here, strict=True)]
            sums.write((*first, number), np.array(each).reshape(-1, 1) if first else np.array(each))

    def _old_shape(self, name: str) -> tuple[int, ...]:
        assert self._old is not None
        old = (*self._old.grid.shape, len(self._old.grid.seeds))
        known = len(old) - name.startswith("exact_")
        return (*old[:known], *self.shapes[name][known:])

    def write(self, done: list[tuple[Item, Outcome]]) -> None:
        """Write what came of some items: values first, then that they are there."""
        assert self._place is not None
        for item, outcome in done:
            self._check_digest(item, outcome.digest)
        with self._place.writing(f"{np.count_nonzero(self.status != MISSING):,} runs"):
            super().write(done)
            self._write_sums(done)
            self._file.flush()
            for place in {item.place for item, _ in done if self.digests[item.place]} - self._told:
                self._put_text("digest", place, self.digests[place])
                self._told.add(place)
            for item, _ in done:
                if item.theory and self.has_theory[item.place]:
                    self._put_text("theory", item.place, THERE)
                self._put_texts(item)
            self._file.flush()

    def _check_digest(self, item: Item, digest: str) -> None:
        """Keep the digest of a point, which must be the same whoever makes it."""
        if self.digests[item.place] not in ("", digest) and digest:
            raise ValueError(f"case must return the same problem each time, not so at {item.point}")
        if digest:
            self.digests[item.place] = digest

    def _write_sums(self, done: list[tuple[Item, Outcome]]) -> None:
        """Write the checksums of what was written."""
        names = self._summed
        for item, outcome in done:
            for at, values in zip(item.positions, outcome.values, strict=True):
                if values:
                    each = [sum_of(self._whole(values[name])) for name in names[SUMS]]
                    self._blocks[SUMS].write((*item.place, at), np.array(each))
            if outcome.exact:
                found = {f"exact_{name}": rows for name, rows in outcome.exact.items()}
                each = [sum_of(self._whole(found[name])) for name in names[EXACT_SUMS]]
                self._blocks[EXACT_SUMS].write(item.place, np.array(each))

    def _whole(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return all rows of a run, NaN after its end."""
        whole = np.full((self.plan.recording.num_rows, *rows.shape[1:]), np.nan)
        whole[: len(rows)] = rows
        return whole

    def _put_runs(self, name: str, item: Item, rows: list[Any]) -> None:
        at = item.positions
        if len(at) < 2 or at[-1] - at[0] != len(at) - 1 or any(values is None for values in rows):
            super()._put_runs(name, item, rows)
            return
        joined = np.array([self._whole(values) for values in rows])
        self._blocks[name].write((*item.place, at[0]), joined)

    def _put(self, name: str, at: Place, rows: NDArray[np.float64]) -> None:
        self._blocks[name].write(at, self._whole(rows))

    def _put_texts(self, item: Item) -> None:
        for at in item.positions:
            run = (*item.place, at)
            self._put_text("status", run, self.status[run])
            if run in self._errors or run in self._failed:
                self._put_text("error", run, self._errors.get(run, ""))

    def _put_text(self, name: str, at: Place, text: str) -> None:
        self._blocks[name].write(at, netcdf.as_characters(np.array(text), TEXTS[name]))

    def finish(self) -> None:
        """Note that all runs are done."""
        self._is_finished = True

    def __exit__(self, *failure: object) -> None:
        try:
            if self._place is not None and self._place.is_open:
                status = Status.COMPLETE if self._is_finished else Status.INTERRUPTED
                with self._place.writing("all runs"):
                    self._file.attrs.modify("status", _status(status))
                    self._place.close()
                paths.remove_leftovers(self.path, lock.is_held)
        finally:
            self._lock.release()

    def dataset(self) -> Any:
        """Return what was asked for, read from the file on first use."""
        found = as_stored(self.path)
        here = self.grid.find(self.asked)
        parts = {
            name: at
            for name, at in here.items()
            if name in found.dims and at != list(range(found.sizes[name]))
        }
        chosen = found.isel(parts)
        return chosen.transpose(*self.asked.axes, ...) if len(self.asked.axes) > 1 else chosen


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape of chunks: whole dimensions from the last, as long as they are small."""
    sizes, left = [], CHUNK
    for length in reversed(shape):
        size = max(1, min(length, left))
        sizes.append(size)
        left //= size
    return tuple(reversed(sizes))


def _status(text: str) -> NDArray[np.bytes_]:
    return np.array(text, f"S{STATUS_LENGTH}")
