"""Spectra that ship with the package."""

from pathlib import Path

from .spectrum import Spectrum

_PACKAGE = Path(__file__).resolve().parent


def digits_mlp_path() -> Path:
    """Path of the Gauss-Newton spectrum of a network trained on handwritten digits.

    Inside an installed package, or in ``data/`` of a checkout.
    """
    installed = _PACKAGE / "data" / "digits_mlp.h5"
    return installed if installed.is_file() else _PACKAGE.parent / "data" / "digits_mlp.h5"


def digits_mlp() -> Spectrum:
    """Load the Gauss-Newton spectrum of a network trained on handwritten digits."""
    return Spectrum.load(digits_mlp_path())
