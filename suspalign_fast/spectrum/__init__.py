"""Hessian spectra: eigenvalues with multiplicities, split into a dominant and a bulk band.

==================  ===============================================================
`multiplicities`    how many directions share a level
`bands`             eigenvalues of a band by formula
`few_levels`        levels that stand for the eigenvalues of two bands
`families`          linear bands, two levels, power laws
`bins`              levels joined into fewer
`gauss`             few points that keep the moments of many
`compression`       few levels that keep all smooth sums
`compressible`      the methods of a spectrum that make them
`stored`            spectra in files
`spectrum`          the class `Spectrum`
`listed`            eigenvalues of a ``.npy`` file
`named`             all of these by name, from texts and tables
`shard`             the spectrum of some of the directions
==================  ===============================================================
"""

from .bands import power_sum
from .families import PIECE
from .shard import shard_of
from .spectrum import Spectrum

__all__ = ["PIECE", "Spectrum", "power_sum", "shard_of"]
