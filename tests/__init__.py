"""Tests; where there is no driver of a GPU, Numba simulates one, which it is told here first."""

import os
from ctypes.util import find_library
from pathlib import Path

DRIVERS = ("/dev/nvidiactl", "/dev/dxg")
if not (find_library("cuda") or find_library("nvcuda") or any(Path(d).exists() for d in DRIVERS)):
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
