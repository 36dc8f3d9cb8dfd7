"""The GPU that Numba simulates, made quick enough for tests."""

import contextlib
import sys
import threading

import numpy as np
from numba.np.numpy_support import as_dtype

from suspalign_fast.model import devices


@contextlib.contextmanager
def quick(monkeypatch):
    """Let the simulator's threads, which wait for each other all the time, switch often.

    Its shared arrays are made by the first thread that asks, which needs a lock then.
    """
    if devices.is_simulated():
        from numba.cuda.simulator.kernelapi import FakeCUDAShared

        lock = threading.Lock()

        def array(self, shape, dtype):
            frame = sys._getframe(1)
            with lock:
                return self._allocations.setdefault(
                    (frame.f_code.co_filename, frame.f_lineno), np.empty(shape, as_dtype(dtype))
                )

        monkeypatch.setattr(FakeCUDAShared, "array", array)
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
