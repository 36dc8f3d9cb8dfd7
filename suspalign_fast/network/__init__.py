"""Rows of a network in training: measured by products with its curvature (docs/networks.md).

It needs torch, the extra ``torch``; the rest of the package does not.

===========  ===============================================================
`data`       its data, whole or in batches
`loss`       its loss, over all data or mini-batches
`curvature`  products with its Hessian or Gauss-Newton matrix, and the top of it
`lanczos`    the eigenvalue solver
`row`        one row: its sums, and `measure_row`
`probe`      `Probe`: rows of a training
`sign_test`  `verify`: single steps at multiples of the critical step size
`surrogate`  the quadratic that a network is at one state
`online`     the critical step size from gradients alone
===========  ===============================================================
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
from .sign_test import Verification, verify
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
