"""Rows of a network in training: measured by products with its curvature (docs/networks.md).

It needs torch, the extra ``torch``; the rest of the package does not.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError(
        "suspalign_fast.network needs torch, which is not installed "
        "(pip install 'suspalign-fast[torch]')"
    ) from _error

from .online import OnlineEstimate, estimate_online
from .probe import Probe
from .row import NetworkRow, measure_row
from .sign_test import verify
from .signs import Verification
from .surrogate import surrogate

__all__ = [
    "NetworkRow",
    "OnlineEstimate",
    "Probe",
    "Verification",
    "estimate_online",
    "measure_row",
    "surrogate",
    "verify",
]
