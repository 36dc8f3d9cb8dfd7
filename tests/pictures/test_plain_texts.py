"""Texts of files and users reach terminals and pictures as texts, never as commands or formulas."""

import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast.base import words
from suspalign_fast.cli.commands import main
from suspalign_fast.cli.console import say
from suspalign_fast.studies import toml

HOSTILE = "net \x1b[31m$\\sqrt{\\sqrt{$x_{$\nstatus complete \u202e\ud800"
STUDY = """
num_steps = 10
step_size = 1e-3
[problem]
family = "two_level"
dim = 100
num_dominant = 5
dominant = 2.0
bulk = 1.0
"""


def measured(path=None):
    rows = np.ones((3, 2, 4))
    columns = {
        "step": np.array([1, 2, 3]), "step_size": np.ones(3), "power_sums": rows,
        "noise_sums": np.ones((3, 2, 3)), "loss": np.ones(3), "critical_error": np.ones(3),
        "critical_edge": np.ones(3), "beyond_quadratic": np.zeros(3),
        "top_eigenvalues": np.ones((3, 3)),
    }  # fmt: skip
    return sa.Trace.measured(columns, np.ones((2, 3)), source=HOSTILE)


@pytest.mark.parametrize(
    "text", ["a", "été, σ ± 1", "", "\x1b[2J", "a\nb", "\u202e", "\ud800", "\x9b31m", "\0", "\x7f"]
)
def test_texts_are_made_printable(text):
    assert words.printable(text).isprintable()
    assert words.plain(text).isprintable()
    assert words.printable(words.printable(text)) == words.printable(text)
    assert words.drawn(text).replace(r"\$", "").isascii()
    if text.isprintable():
        assert words.printable(text) == text


def test_the_command_line_prints_no_command(capsys):
    say("one\x1b[2J\ntwo \ud800 ±")
    assert capsys.readouterr().out == "one\\x1b[2J\ntwo \\ud800 ±\n"


@pytest.mark.long
def test_a_source_is_drawn_and_printed_plain(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = measured()
    sa.plot_trace(trace, "a.png")
    sa.plot_trace(trace, "a.svg")
    assert capfd.readouterr() == ("", "")
    from suspalign_fast.cli import text

    assert all(line.isprintable() for line in text.description(trace).values())
    with pytest.raises(ValueError, match="the trace has no run") as raised:
        _ = trace.run
    assert str(raised.value).isprintable()


# --- TOML ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 2_000 + "]" * 2_000, "must have fewer tables and lists within one another"),
        ("a = " + "[" * 2_000, "must have fewer tables and lists within one another"),
        ("a = " + "{b=" * 2_000 + "1" + "}" * 2_000, "must have fewer tables and lists within"),
        (STUDY + "noise = " + "[" * 300 + "]" * 300, "noise"),
        ("seeds = " + "9" * 5_000, "is not TOML"),
        (STUDY.replace("= 10\n", f"= {'9' * 4_000}\n"), "num_steps must be an integer"),
        (STUDY.replace("dim = 100", f"dim = {'9' * 4_000}"), "dim must be an integer"),
        (STUDY.replace("bulk = 1.0", f"bulk = {'9' * 4_000}"), "bulk must be a finite number"),
        (STUDY + f"[over]\nbulk = [{'9' * 400}, 1]", "bulk"),
        (STUDY + f"[over]\nbulk = {{from = 1, to = {'9' * 400}, num = 3}}", "[over] bulk.to"),
        (STUDY + '"x\\u001b[31m" = 1', "must have no keys but"),
        ('"x\\u001b[31m" = 1' + STUDY, "must have no keys but"),
        (STUDY.replace('"two_level"', '"two\\u001b[31m"'), "must have family = one of"),
        (STUDY + "a = \x1b", "is not TOML"),
    ],
)
def test_a_hostile_study_is_refused_in_one_printable_line(tmp_path, text, message):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"s\.toml") as raised:
        toml.load(path)
    said = str(raised.value)
    assert message in said
    assert said.isprintable()
    assert len(said) < 600 + len(str(path))
    result = CliRunner().invoke(main, ["sweep", str(path)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


# --- figures -------------------------------------------------------------------------------------


def trace():
    return sa.simulate(sa.Quadratic(sa.Spectrum.two_level(20, 2, 2.0, 0.5)), 0.1, 9)


def test_a_notebook_shows_a_figure():
    figure = sa.plot_trace(trace(), size=(4, 3))
    shown = figure._repr_png_()
    assert shown.startswith(b"\x89PNG")
    width, height = (int.from_bytes(shown[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (600, 450)
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(figure)
    assert data["image/png"]


@pytest.mark.long
@pytest.mark.parametrize("backend", ["nonsense", "module://nowhere", "tkagg", ""])
def test_a_backend_that_cannot_be_had_is_not_needed(tmp_path, backend):
    script = (
        "import suspalign_fast as sa\n"
        "b = sa.Quadratic(sa.Spectrum.two_level(20, 2, 2.0, 0.5))\n"
        "sa.plot_trace(sa.simulate(b, 0.1, 5, engine='reference'), 'a.png')\n"
        "import os; print(os.environ['MPLBACKEND'])"
    )
    environment = os.environ | {"MPLBACKEND": backend}
    environment.pop("DISPLAY", None)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (0, backend), done.stderr
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.long
def test_latex_is_not_needed(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setenv("PATH", "")
    with matplotlib.rc_context({"text.usetex": True}):
        figure = sa.plot_trace(trace(), tmp_path / "a.png")
        sa.plot_trace(trace(), tmp_path / "a.pdf")
        figure.axes[0].set_ylim(0, 20)  # new marks
        assert figure._repr_png_()


def test_what_keeps_pictures_from_being_drawn_is_told_before_a_run(tmp_path, monkeypatch):
    def fails():
        raise ImportError("no matplotlib")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("suspalign_fast.cli.commands.load_matplotlib", fails)
    how = ["run", "--linear-bands", "20,2", "--steps", "5", "--step-size", "1e-3", "--quiet"]
    result = CliRunner().invoke(main, how)
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert CliRunner().invoke(main, [*how, "--no-plot"]).exit_code == 0


@pytest.mark.long
@pytest.mark.parametrize("size", [(3.25, 2.5), (3.0, 2.0), (3.25, 2.0)])
def test_pictures_as_narrow_as_a_column_are_drawn(size):
    figure = sa.plot_trace(trace(), size=size)
    assert tuple(figure.get_size_inches()) == size
    figure.draw_without_rendering()


@pytest.mark.mostly_long
@pytest.mark.parametrize(("first", "last"), [(1_500, 2_000), (100, 2_000), (10**6, 10**6 + 3)])
def test_late_rows_have_the_whole_axis(first, last):
    pytest.importorskip("xarray")
    whole = trace().to_xarray()
    study = whole.assign_coords(step=np.linspace(first, last, 10).astype(int)[: whole.step.size])
    study = study.drop_duplicates("step")
    (axes,) = sa.plot_study(study, variable="loss").axes
    places = axes.transData.transform([(step, 1.0) for step in study.step.values])[:, 0]
    box = axes.get_window_extent()
    assert places[0] < box.x0 + 0.1 * box.width
    assert places[-1] > box.x0 + 0.9 * box.width
    assert sum(box.x0 <= place <= box.x1 for place in places) == places.size
    shown = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    assert len(shown) >= 2


def test_early_rows_keep_step_0_on_the_axis():
    axes = sa.plot_trace(trace()).axes[0]
    assert axes.get_xlim()[0] < 0.0
