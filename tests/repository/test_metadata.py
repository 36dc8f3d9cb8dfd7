"""The version stands in one place; what else names it agrees."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import suspalign_fast as sa

ROOT = Path(__file__).parents[2]
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


def requirements(*extras):
    """Lower bounds of the package and of extras, by name: ``>=`` and ``==`` alike."""
    project = PROJECT["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = [re.match(r"([\w-]+)(?:\[[\w,]+\])?([>=]=)([\d.]+)", line) for line in lines]
    return {match[1]: match[3] for match in found if match}


def padded(version):
    """A version of three numbers at least."""
    numbers = version.split(".")
    return ".".join(numbers + ["0"] * (3 - len(numbers)))


def test_the_oldest_versions_are_the_lower_bounds():
    text = (ROOT / ".ci" / "oldest.txt").read_text()
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", text, re.MULTILINE))
    bounds = requirements("test")
    assert len(bounds) == 14
    assert pinned == {name: padded(version) for name, version in bounds.items()}


def test_the_workflow_runs_every_python_that_is_supported():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    tested = re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", text)[1])
    head = "Programming Language :: Python :: 3."
    classifiers = PROJECT["project"]["classifiers"]
    assert tested == ["3." + c.removeprefix(head) for c in classifiers if c.startswith(head)]
    assert PROJECT["project"]["requires-python"] == f">={tested[0]}"
    assert "-c .ci/oldest.txt" in text
    for name in requirements("test"):
        assert re.search(rf"^ +.*(?<![\w-])'?{name}(?![\w-])", text, re.MULTILINE), name
