"""Where a result comes from: the version of the package, and the date."""

import functools
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version


def provenance() -> dict[str, str]:
    """Return the attributes ``source`` and ``date`` of a result that is made now."""
    return {"source": _source(), "date": datetime.now(UTC).isoformat(timespec="seconds")}


@functools.cache
def _source() -> str:
    try:
        number = version("suspalign-fast")
    except PackageNotFoundError:
        number = "unknown"
    return f"suspalign-fast {number}"
