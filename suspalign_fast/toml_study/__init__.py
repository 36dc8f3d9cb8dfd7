"""Studies: sweeps that a TOML file describes (docs/studies.md).

==========  =============================================
`tables`    keys of a table, told where they are wrong
`axes`      values of an axis, listed or as a range
`case`      what is run at a point of the grid
`toml`      the whole file
==========  =============================================
"""

from .case import StudyCase
from .toml import Study, load

__all__ = ["Study", "StudyCase", "load"]
