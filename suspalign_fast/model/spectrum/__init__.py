"""Hessian spectra: eigenvalues with multiplicities, in a dominant and a bulk band.

=============  ===============================================================
`parts`        what a spectrum is made of, and how many directions share a level
`bands`        eigenvalues of a band by formula
`compression`  few levels that keep all smooth sums
`families`     linear bands, two levels, power laws
`stored`       spectra in files
`spectrum`     the class `Spectrum`, and the spectrum of some of its directions
`named`        spectra by name, from texts and tables, and those that ship with the package
=============  ===============================================================
"""

from .bands import power_sum
from .families import PIECE
from .spectrum import Spectrum, shard_of

__all__ = ["PIECE", "Spectrum", "power_sum", "shard_of"]
