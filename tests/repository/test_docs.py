"""The pages of `docs/`: whatever cites one cites what is there."""

import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("suspalign_fast", "tests", "bench", "docs", "data", ".ci", ".github")
TEXTS = {".py", ".md", ".toml", ".cff", ".yml", ".txt"}
FILES = sorted(
    path
    for path in [*ROOT.iterdir(), *(p for folder in FOLDERS for p in (ROOT / folder).rglob("*"))]
    if path.is_file() and (path.suffix in TEXTS or path.parent.name == ".ci")
)
PAGE = re.compile(r"docs/([\w.-]+\.(?:md|png))(?:,\s+section (\d+))?")
#: A link of Markdown to a file, and the heading it leads to.
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([\w-]+))?\)")


def cited_pages(text):
    """Pages of ``docs/`` that a text names, with the number of the section or None."""
    return PAGE.findall(re.sub(r"\n\s*(#:? ?)?", " ", text))


def headings(page):
    return re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)


def anchor(heading):
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def missing(path):
    """Yield what a file cites and the repository does not have."""
    text = path.read_text()
    for page, section in cited_pages(text):
        cited = ROOT / "docs" / page
        if not cited.is_file():
            yield page
        elif section and not any(h.startswith(f"{section}. ") for h in headings(cited)):
            yield f"{page}, section {section}"
    if path.suffix == ".md":
        for target, place in LINK.findall(
            re.sub(r"`[^`]*`|^ {4}.*$", "", text, flags=re.MULTILINE)
        ):
            linked = path.parent / target if target else path
            if not linked.exists() or (place and place not in map(anchor, headings(linked))):
                yield f"{target}#{place}"


def test_what_files_cite_is_there():
    assert {name_of(path): found for path in FILES if (found := list(missing(path)))} == {}


def test_what_is_missing_is_seen(tmp_path):
    page, docs = tmp_path / "page.md", "docs"
    page.write_text(
        f"# Here\n{docs}/model.md, section 4, {docs}/model.md, section 40, {docs}/nothing.md\n"
        "[x](page.md#here) [y](#there) [z](y.md) `E[x](y)`\n\n    [a](b)\n"
    )
    assert list(missing(page)) == ["model.md, section 40", "nothing.md", "#there", "y.md#"]


def test_citations_are_found():
    text = "see docs/model.md,\n    section 4, docs/gpu.md and docs/engines.png"
    assert cited_pages(text) == [("model.md", "4"), ("gpu.md", ""), ("engines.png", "")]
    assert LINK.findall("[a](b.md#c-d), [e](https://x.y/z) [f](#g)") == [("b.md", "c-d"), ("", "g")]
    assert anchor("5. The contract of random numbers, and bits") == (
        "5-the-contract-of-random-numbers-and-bits"
    )


def test_files_cite_what_readers_have():
    """No page that is not part of the repository; this word was the name of one."""
    word = "DES" + "IGN"
    assert len(FILES) > 100
    assert [name_of(path) for path in FILES if word in path.read_text()] == []


def test_modules_that_a_page_names_are_there():
    """Pages name modules as ``name.py`` or by their path in the repository or the package."""
    for page in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"[\w./-]+\.py\b", page.read_text()):
            places = (ROOT / name, ROOT / "suspalign_fast" / name)
            assert any(place.is_file() for place in places), (page.name, name)


def test_the_map_of_the_kernels_is_whole_and_can_be_read_downwards():
    """Every file of the folder once, below those that it imports."""
    folder = ROOT / "suspalign_fast" / "kernels"
    listed = re.findall(r"^- `(\w+)`: .+\.$", (folder / "__init__.py").read_text(), re.MULTILINE)
    files = {path.stem: path.read_text() for path in folder.glob("*.py")}
    files.pop("__init__")
    assert sorted(listed) == sorted(files)
    for place, name in enumerate(listed):
        imported = re.findall(r"^from \.(\w+) import", files[name], re.MULTILINE)
        for names in re.findall(r"^from \. import (.*)$", files[name], re.MULTILINE):
            imported += names.split(", ")
        assert set(imported) <= set(listed[:place]), name


EXAMPLES = sorted(
    path
    for path in (ROOT / "suspalign_fast").rglob("*.py")
    if re.search(r"^ *>>> ", path.read_text(), re.MULTILINE)
)


@pytest.mark.mostly_long
@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_examples_of_docstrings_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if path.parent.name == "network" and not importlib.util.find_spec("torch"):
        pytest.skip("torch is not installed (extra torch)")
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


SLOW = pytest.param("mini-batches.md", marks=pytest.mark.long)
PAGES = ["compression.md", SLOW, "momentum-effects.md", "studies.md"]


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_what_pages_show_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)
    assert blocks
    names = {}
    for block in blocks:
        exec(block, names)
    said = capsys.readouterr().out
    assert "True" in said
    assert "False" not in said
