"""Files that others may read, cut off or damage at any time. Nothing here knows of SGD.

============  ===============================================================
`paths`       paths, and files put into their place whole
`lock`        one writer a file
`deflate`     the filters shuffle and gzip, bounded and fast
`untrusted`   what the bytes of a file say, before libhdf5 opens it
`dataset`     reading a dataset that may claim anything
`reader`      opening a file that may be anything
`dimensions`  dimensions of the variables of a netCDF-4 file
`output`      writing a file, chunk by chunk, and abandoning it
`netcdf`      dimensions and texts of netCDF-4
`foreign`     what others put into a file, and how it is carried over
`growing`     a file put in its place whole, that grows there while others read it
============  ===============================================================
"""

from .dataset import Stored, Variable
from .output import Output, text, write
from .reader import Reader

__all__ = ["Output", "Reader", "Stored", "Variable", "text", "write"]
