"""Rows of a network in training: measured by products with its curvature (docs/networks.md).

It needs torch and curvlinops, the extra ``torch``; the rest of the package needs neither.
"""

from .quiet import quiet as _quiet

try:
    with _quiet():
        import curvlinops as _curvlinops  # noqa: F401
    import torch as _torch  # noqa: F401
except ImportError as _error:
    raise ImportError(
        f"suspalign_fast.network needs torch and curvlinops, and {_error.name} is not installed "
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
