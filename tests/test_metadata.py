"""The version stands in one place; what else names it agrees."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import suspalign_fast as sa

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def of_citation(key):
    """The value of a key of the software, which is not indented."""
    text = (ROOT / "CITATION.cff").read_text()
    return re.search(rf"^{key}: (.*)$", text, re.MULTILINE)[1]


def test_package_and_citation_have_one_version():
    assert of_citation("version") == sa.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+([abrc.dev]+\d+)?", sa.__version__)


def test_packaging_reads_the_version_of_the_package():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    path = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert path.resolve() == Path(sa.__file__).resolve()


def test_the_installed_package_has_the_version():
    try:
        installed = metadata.distribution("suspalign-fast")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed, only on the path")
    assert installed.version == sa.__version__


def test_citation_and_packaging_agree():
    project = PROJECT["project"]
    assert of_citation("title") == project["name"]
    assert of_citation("license") == project["license"]
    assert of_citation("repository-code") == project["urls"]["Repository"]
    assert f"  - name: {project['authors'][0]['name']}\n" in (ROOT / "CITATION.cff").read_text()
