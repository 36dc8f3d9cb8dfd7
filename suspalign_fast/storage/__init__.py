"""Files: HDF5 that others may read, cut off or damage at any time. Nothing here knows of SGD.

==================  ===============================================================
`files`             paths, and files put into their place whole
`lock`              one writer a file
`deflate`           the filters shuffle and gzip, bounded and fast
`superblock`        the first bytes of an HDF5 file: whether a writer has it open
`object_header`     how a dataset is laid out, before libhdf5 opens it
`dataset`           reading a dataset that may claim anything
`heap`              texts of variable length, past libhdf5
`variable`          reading a dataset of which parts may never have been written
`reader`            opening a file that may be anything
`output`            writing a file, and abandoning it
`growing`           a file put in its place whole, that grows there while others read it
`column`            a dataset that grows, chunk by chunk
`block`             writing blocks of a dataset of fixed shape
`netcdf`            dimensions and texts of netCDF-4
`carried_scales`    dimensions of datasets that were copied to another file
`foreign`           what others put into a file
==================  ===============================================================
"""

from .dataset import Stored
from .output import Output, text, write
from .reader import Reader
from .variable import Variable

__all__ = ["Output", "Reader", "Stored", "Variable", "text", "write"]
