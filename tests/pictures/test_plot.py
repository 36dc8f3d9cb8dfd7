import functools
import io
import itertools
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

import suspalign_fast as sa
from suspalign_fast.cli.commands import main
from suspalign_fast.model.run import Run
from suspalign_fast.physics.row import RECORDED
from suspalign_fast.pictures import caption, panels
from suspalign_fast.pictures.trace import plot_trace
from suspalign_fast.traces.trace import Trace

ROOT = Path(__file__).parents[2]
TWO_LEVEL = sa.Spectrum.two_level(1_000, 10, 2.0, 0.1)


@functools.cache
def trace_of(name):
    return TRACES[name]()


@functools.cache
def picture_of(name):
    """The picture of a trace, for tests that only look."""
    return plot_trace(trace_of(name))


def slow(*values):
    """Values of a parameter for the long tests."""
    return (pytest.param(value, marks=pytest.mark.long) for value in values)


def simulated(step_size=0.9, num_steps=300, *, problem=None, **options):
    problem = problem or sa.Quadratic(TWO_LEVEL, initial=10.0)
    return sa.simulate(problem, step_size, num_steps, engine="levels", seed=3, **options)


def like(trace, status="complete", rows=None, **columns):
    """A trace of the first rows, with another status and other columns."""
    kept = {name: trace[name][:rows] for name in RECORDED} | columns
    return Trace.from_columns(trace.run, status, kept)


def schedule():
    return simulated(np.geomspace(0.9, 0.01, 200), 200)


def at_rest(num_steps=50):
    """A trace without any gradient."""
    still = sa.Quadratic(TWO_LEVEL, sa.IsotropicNoise(0.0), initial=0.0)
    return simulated(0.1, num_steps, problem=still)


def noiseless():
    """A trace whose loss and alignment fall below the smallest float."""
    quiet = sa.Quadratic(TWO_LEVEL, sa.IsotropicNoise(0.0), initial=1.0)
    return simulated(0.1, 20_000, problem=quiet)


def diverging():
    return simulated(1.1, 50_000)


def self_correcting():
    """A trace that starts without a dominant gradient to lose: every step lowers alignment."""
    initial = np.array([10.0, 1e-3])
    noise = sa.DiagonalNoise([0.0, 1.0])
    return simulated(0.1, 300, problem=sa.Quadratic(TWO_LEVEL, noise, initial))


TRACES = {
    "constant": simulated,
    "long": lambda: simulated(num_steps=20_000),
    "critical": lambda: simulated(sa.CriticalStep(0.9)),
    "long critical": lambda: simulated(sa.CriticalStep(0.9), 3_000),
    "online": lambda: sa.simulate(
        sa.Quadratic(TWO_LEVEL, initial=10.0),
        sa.OnlineCriticalStep(0.9, decay=0.95, max_step=0.0123456),
        300, seed=12345678901, engine="reference", dtype="float32", update=(1.0, 0.5),
    ),
    "schedule": schedule,
    "running": lambda: like(simulated(), "running", 100),
    "diverged": diverging,
    "at rest": at_rest,
    "long at rest": lambda: at_rest(3_000),
    "noiseless": noiseless,
    "self-correcting": self_correcting,
    "one row": lambda: simulated(num_steps=0),
    "two rows": lambda: simulated(num_steps=1),
    "no row": lambda: like(simulated(), "diverged", 0),
    "first row only": lambda: like(simulated(), "failed", 1),
}  # fmt: skip


@pytest.fixture(params=TRACES)
def any_trace(request):
    return trace_of(request.param)


def words(figure):
    return "\n".join(text.get_text() for text in figure.texts + figure.findobj(Text))


def labels(axes):
    return [] if axes.get_legend() is None else [t.get_text() for t in axes.get_legend().texts]


def points(axes):
    """Pixels along every drawn curve and at the edges of every band, none outside the panel."""
    curves = [line.get_transform().transform(line.get_xydata()) for line in axes.lines]
    for band in axes.collections:
        curves += [band.get_transform().transform(path.vertices) for path in band.get_paths()]
    found = [np.empty((0, 2))]
    for curve in curves:
        at = np.linspace(0, len(curve) - 1, 20 * len(curve)) if len(curve) > 1 else [0]
        sides = (np.interp(at, np.arange(len(curve)), side) for side in curve.T)
        found.append(np.stack(list(sides), axis=1))
    found = np.concatenate(found)
    box = axes.get_window_extent()
    inside = (found >= [box.x0, box.y0]) & (found <= [box.x1, box.y1])
    return found[inside.all(axis=1)]


def covered(axes, box):
    """Whether a box of pixels lies over anything that is drawn."""
    at = points(axes)
    return bool(((at > [box.x0, box.y0]) & (at < [box.x1, box.y1])).all(axis=1).any())


def curve(axes, label):
    """The line behind an entry of the key, its last where it has several."""
    legend = axes.get_legend()
    where = labels(axes).index(label)
    color = legend.legend_handles[where].get_color()
    return [line for line in axes.lines if line.get_color() == color][-1]


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def count_of(image, color, tolerance=12):
    wanted = np.round(255 * np.array(to_rgb(color)))
    return int((np.abs(image - wanted).max(axis=-1) <= tolerance).sum())


@pytest.mark.long
def test_plot_trace_is_public_and_matplotlib_waits_until_it_is_called():
    script = (
        "import sys, suspalign_fast as sa, suspalign_fast.cli; "
        "assert 'matplotlib' not in sys.modules; print(sa.plot_trace.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "plot_trace", done.stderr
    assert "plot_trace" in sa.__all__


@pytest.mark.long
def test_settings_of_matplotlib_and_pyplot_are_left_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    plot_trace(simulated(), tmp_path / "picture.pdf")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, *slow({"log_alignment": True})])
def test_any_trace_gives_a_picture_without_a_warning(any_trace, options):
    figure = plot_trace(any_trace, **options)
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.long
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 1e-320, 0.0])
def test_extreme_sums_give_a_picture_without_a_warning(value):
    trace = simulated(num_steps=30)
    sums = trace.power_sums.copy()
    sums[10:20] = value
    figure = plot_trace(like(trace, "running", power_sums=sums))
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.long
@pytest.mark.parametrize("name", TRACES)
def test_keys_lie_beside_the_data(name):
    figure = picture_of(name)
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is None or not covered(axes, legend.get_window_extent()), labels(axes)


@pytest.fixture
def drawn_texts(monkeypatch):
    """Every text that is drawn; Matplotlib also keeps labels beyond the ends of an axis."""
    found = []
    draw = Text.draw

    def recorded(text, renderer):
        if text.get_visible() and text.get_text().strip():
            found.append(text)
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", recorded)
    return found


@pytest.mark.long
@pytest.mark.parametrize("size", [None, (3, 3), *slow((4, 3), (3, 9), (12, 3), (16, 12))])
@pytest.mark.parametrize("name", ["long critical", "diverged", *slow("long", "online")])
def test_words_keep_apart_and_inside_at_any_size(name, size, drawn_texts):
    figure = plot_trace(trace_of(name), **({} if size is None else {"size": size}))
    for dpi in (72, 150):
        figure.set_dpi(dpi)
        drawn_texts.clear()
        figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in drawn_texts]
        width, height = figure.bbox.size
        for text, box in boxes:
            assert box.x0 >= -1, text
            assert box.y0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text
        for (one, a), (other, b) in itertools.combinations(boxes, 2):
            apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
            assert apart, f"{one!r} and {other!r}"


def test_a_tight_box_keeps_the_heading():
    trace = simulated()
    figure = plot_trace(trace)
    figure.draw_without_rendering()
    top = figure.get_tightbbox().y1 * figure.dpi
    assert all(text.get_window_extent().y1 <= top + 2 for text in figure.texts)
    assert "seed 3" in words(figure)


def test_step_zero_is_drawn():
    trace = simulated()
    figure = plot_trace(trace)
    figure.draw_without_rendering()
    for axes in figure.axes:
        box = axes.get_window_extent()
        starts = [line.get_transform().transform(line.get_xydata())[0]
                  for line in axes.lines if line.get_xdata()[0] == 0]  # fmt: skip
        assert starts
        assert all(box.x0 < x < box.x1 for x, _ in starts)
    assert "0" in [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert trace.alignment[0] in curve(figure.axes[0], "simulated").get_ydata()


@pytest.mark.long
@pytest.mark.parametrize("last", [0, 1, 7, 10, 999, 40_000, 10**9, 10**18])
def test_steps_have_few_tidy_labels(last):
    figure = plot_trace(like(simulated(num_steps=0), step=np.array([last])))
    figure.draw_without_rendering()
    axes = figure.axes[-1]
    low, high = axes.get_xlim()
    shown = [label.get_text() for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(),
             strict=True) if low <= tick <= high]  # fmt: skip
    assert shown[0] == "0"
    assert shown[1] == "1"
    assert 2 <= len(shown) <= 11
    assert len(set(shown)) == len(shown)


CAPTIONS = {
    "constant": ("d = 1,000", "k = 10", "20", "engine levels", "isotropic noise 1",
                 "initial std 10", "step size 0.9", "seed 3", "300 steps, complete"),
    "critical": ("step size by CriticalStep(0.9)",),
    "online": ("OnlineCriticalStep(0.9, decay=0.95, max_step=0.0123456)", "float32",
               "engine reference", "update (1, 0.5)", "seed 12345678901"),
    "schedule": ("scheduled step size 0.01 to 0.9",),
    "running": ("running, at step 99 of 300 steps",),
    "diverged": ("diverged after step", "of 50,000 steps"),
    "first row only": ("failed after step 0 of 300 steps",),
    "no row": ("diverged, no row of 300 steps",),
    "self-correcting": ("diagonal noise 0 to 1", "initial state given"),
}  # fmt: skip


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", CAPTIONS)
def test_the_heading_says_how_the_run_was_made_and_how_it_ended(name):
    found = words(picture_of(name))
    for part in CAPTIONS[name]:
        assert part in found
    if name == "constant":
        assert "update" not in found
        assert "float64" not in found


@pytest.mark.long
def test_a_name_from_a_file_cannot_break_the_heading():
    trace = simulated(sa.CriticalStep(0.9))
    rule = sa.model.step_size.ForeignStep("$x^" + "\n步" * 300)
    run = Run(trace.run.problem, rule, trace.run.num_steps, engine="levels")
    figure = plot_trace(Trace.from_columns(run, "complete", {n: trace[n] for n in RECORDED}))
    figure.savefig(io.BytesIO(), format="png")
    assert r"step size by \$x^??" in words(figure)


@pytest.mark.long
@pytest.mark.parametrize("name", ["critical", "online", "schedule", "constant"])
def test_a_panel_shows_the_step_size_beside_the_critical_one(name):
    trace = trace_of(name)
    figure = plot_trace(trace)
    panel = figure.axes[2]
    for label, values in (
        ("critical $\\eta^*_t$", trace.critical_step_size),
        ("step size $\\eta_t$", trace.step_size),
    ):
        drawn = curve(panel, label)
        expected = np.where(np.isfinite(values), values, np.nan)
        np.testing.assert_array_equal(drawn.get_ydata(), expected[drawn.get_xdata()])
        assert drawn.get_xdata().size > 150
    assert len(plot_trace(trace, step_size=False).axes) == 2


@pytest.mark.long
def test_self_correcting_rows_are_shaded_and_only_they():
    trace = self_correcting()
    there = np.isposinf(trace.critical_step_size)
    assert there.any()
    panel = plot_trace(trace).axes[2]
    assert "self-correcting: no critical step size" in labels(panel)
    (shade,) = panel.collections
    spans = [path.vertices[:, 0] for path in shade.get_paths()]
    for step, wanted in zip(trace.step, there, strict=True):
        inside = any(span.min() < step < span.max() for span in spans)
        assert inside or not wanted or step == 0
    assert not plot_trace(schedule()).axes[2].collections
    assert "self-correcting: no critical step size" not in labels(plot_trace(schedule()).axes[2])


def test_the_shade_is_as_dark_as_self_correcting_rows_are_many():
    trace = simulated(num_steps=20_000)
    sums = trace.power_sums.copy()
    sums[5_000::4] = self_correcting().power_sums[0]
    sums[15_000:] = self_correcting().power_sums[0]
    (shade,) = plot_trace(like(trace, power_sums=sums)).axes[2].collections
    opacity = shade.get_facecolors()[:, 3]
    assert np.median(opacity[:-5]) == pytest.approx(opacity[-1] / 4, rel=0.1)


@pytest.mark.mostly_long
@pytest.mark.parametrize("status", ["diverged", "failed", "interrupted", "running", "complete"])
def test_a_run_that_is_not_complete_is_marked_where_it_ends(status):
    trace = like(simulated(), status, 101)
    figure = plot_trace(trace)
    ends = [list(line.get_xdata()) for axes in figure.axes for line in axes.lines].count([100, 100])
    assert ends == (0 if status == "complete" else 3)
    written = [t for t in figure.axes[0].texts if t.get_text() == status]
    assert len(written) == (0 if status == "complete" else 1)
    figure.draw_without_rendering()
    for text in written:
        box = text.get_window_extent()
        assert not covered(figure.axes[0], box)
        assert box.x1 <= figure.axes[0].get_window_extent().x1


def test_a_diverging_loss_leaves_the_rest_of_its_panel_readable():
    trace = diverging()
    low, high = plot_trace(trace).axes[1].get_ylim()
    assert trace.loss.max() > 1e200
    assert high / low < 1e12


@pytest.mark.mostly_long
@pytest.mark.parametrize("log_alignment", [False, True])
def test_the_band_stays_where_an_alignment_can_be(log_alignment):
    steep = sa.Quadratic(sa.Spectrum.two_level(40, 1, 2.0, 1.0), initial=3.0)
    trace = simulated(0.1, 100, problem=steep)
    exact = sa.theory.expected(steep, 0.1, np.arange(100))
    assert (exact.alignment_mean - exact.alignment_std < 0.0).any()
    axes = plot_trace(trace, **({"log_alignment": True} if log_alignment else {})).axes[0]
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.max() <= 1.0
    assert edges.min() >= 0.0
    assert edges.min() > 0.0 or not log_alignment
    assert axes.get_yscale() == ("log" if log_alignment else "linear")


def test_the_band_below_one():
    trace = simulated(0.9, 50, problem=sa.Quadratic(sa.Spectrum.two_level(11, 10, 2.0, 1.0)))
    (band,) = plot_trace(trace).axes[0].collections
    assert band.get_paths()[0].vertices[:, 1].max() <= 1.0


@pytest.mark.long
def test_losses_that_coincide_are_all_visible():
    trace = simulated(problem=sa.Quadratic(sa.Spectrum.two_level(10**6, 1, 2.0, 0.1), initial=10.0))
    np.testing.assert_allclose(trace.loss, trace.loss_bulk, rtol=1e-2)
    figure = plot_trace(trace)
    image = pixels(figure)[::-1]
    axes = figure.axes[1]
    x0, y0, x1, y1 = (int(v) for v in axes.get_window_extent().extents)
    for label in ("loss", "bulk part", "dominant part"):
        found = count_of(image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2], curve(axes, label).get_color())
        assert found > x1 - x0, label


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", TRACES)
def test_keys_name_what_is_drawn_and_nothing_else(name):
    figure = picture_of(name)
    if name in ("at rest", "long at rest", "no row"):
        assert labels(figure.axes[0]) == []
        assert labels(figure.axes[2]) == ([] if name == "no row" else ["step size $\\eta_t$"])
    else:
        assert "simulated" in labels(figure.axes[0])
    exact = any("exact" in label for label in labels(figure.axes[0]))
    assert exact == (name in ("constant", "long", "schedule", "running", "noiseless", "one row",
                              "two rows", "self-correcting", "first row only"))  # fmt: skip
    for axes in figure.axes:
        colors = {line.get_color() for line in axes.lines if np.isfinite(line.get_ydata()).any()}
        for handle in axes.get_legend().legend_handles if axes.get_legend() else []:
            if isinstance(handle, matplotlib.lines.Line2D):
                assert handle.get_color() in colors


MISSING = {
    "critical": "no exact curve under a rule",
    "long critical": "no exact curve under a rule",
    "online": "no exact curve under a rule",
    "diverged": "no exact curve: diverged",
    "at rest": "no alignment: the gradient is zero",
    "long at rest": "no alignment: the gradient is zero",
    "no row": "no rows: the initial state is not finite",
}


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", TRACES)
def test_a_word_says_why_the_exact_curve_is_missing(name):
    found = words(picture_of(name))
    if name in MISSING:
        assert MISSING[name] in found
    else:
        assert "no exact curve" not in found


@pytest.mark.long
def test_too_many_levels_are_said():
    spectrum = sa.Spectrum.linear_bands(20_001, 10)
    noise = sa.DiagonalNoise(np.linspace(0.1, 1.0, 20_001))
    trace = sa.simulate(sa.Quadratic(spectrum, noise, 10.0), 1e-3, 3, engine="reference")
    figure = plot_trace(trace)
    assert "no exact curve: 20,001 levels" in words(figure)
    smooth = sa.simulate(sa.Quadratic(spectrum, initial=10.0), 1e-3, 3, engine="reference")
    assert "no exact curve" not in words(plot_trace(smooth))
    assert "no rows yet" in words(plot_trace(like(trace, "running", 0)))


@pytest.mark.long
@pytest.mark.parametrize("ending", ["pdf", "eps", "ps"])
def test_text_in_vectors_is_truetype(tmp_path, ending):
    path = tmp_path / f"picture.{ending}"
    plot_trace(simulated(), path)
    content = path.read_bytes()
    if ending == "pdf":
        assert b"/Type3" not in content
        assert b"/CIDFontType2" in content or b"/TrueType" in content
    else:
        assert b"/FontType 42 def" in content


@pytest.mark.long
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_said_and_the_exact_curve_is_its_own(nesterov):
    optimizer = sa.Momentum(0.9, nesterov=nesterov)
    trace = simulated(0.1, optimizer=optimizer)
    words = "Nesterov momentum 0.9" if nesterov else "momentum 0.9"
    assert words in caption.caption(trace)
    assert not [part for part in caption.caption(simulated(0.1)) if "momentum" in part]
    exact, _ = panels.expected(trace)
    own = sa.theory.expected(trace.problem, 0.1, exact.step, optimizer=optimizer)
    np.testing.assert_array_equal(exact.alignment_mean, own.alignment_mean)
    rule = simulated(sa.CriticalStep(0.5), optimizer=optimizer)
    assert plot_trace(rule).axes


@pytest.mark.long
def test_a_size_is_that_of_the_picture(tmp_path):
    figure = plot_trace(simulated(), tmp_path / "picture.png", size=(5, 4.0))
    assert list(figure.get_size_inches()) == [5.0, 4.0]
    header = (tmp_path / "picture.png").read_bytes()[16:24]
    assert [int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")] == [750, 600]


@pytest.mark.parametrize(
    "size", [5, (5,), (5, 6, 7), (2.9, 5), (5, 51), (np.nan, 5), ("a", 5), (-5, 5), (True, 5)]
)
def test_a_bad_size_is_named(size):
    with pytest.raises(ValueError, match="size must be width and height in inches, from 3 x 2"):
        plot_trace(simulated(num_steps=1), size=size)


@pytest.mark.parametrize("name", ["picture", "picture.h5", "picture.xyz", ".png"])
def test_an_ending_that_is_no_picture_is_named_before_anything_is_drawn(tmp_path, name):
    with pytest.raises(ValueError, match=r"path must be a picture's name, ending in \.png, \.pdf"):
        plot_trace(simulated(num_steps=1), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_trace_is_refused():
    with pytest.raises(ValueError, match="trace must be a Trace, got 3"):
        plot_trace(3)


@pytest.mark.long
def test_few_points_paint_what_all_rows_do():
    trace = simulated(num_steps=50_000)
    line = curve_of_every_row(plot_trace(trace).axes[0])
    step, values = line.get_xdata(), line.get_ydata()
    assert step.size <= 4_000
    assert (step[0], step[-1]) == (0, 50_000)
    np.testing.assert_array_equal(values, trace.alignment[step])
    for low, high in itertools.pairwise([0, 1, 10, 100, 1_000, 5_000, 20_000, 50_000]):
        there = (step >= low) & (step <= high)
        rows = trace.alignment[low : high + 1]
        assert (values[there].min(), values[there].max()) == (rows.min(), rows.max())


def curve_of_every_row(axes):
    return max(axes.lines, key=lambda line: np.size(line.get_xdata()))


@pytest.mark.long
def test_the_marked_minimum_is_a_drawn_point():
    trace = simulated(num_steps=50_000)
    axes = plot_trace(trace).axes[0]
    lowest = int(np.argmin(trace.alignment))
    line = curve_of_every_row(axes)
    assert lowest in line.get_xdata()
    marks = [mark for mark in axes.lines if list(mark.get_xdata()) == [lowest]]
    assert [list(mark.get_ydata()) for mark in marks] == [[trace.alignment[lowest]]]
    assert f"minimum {trace.alignment[lowest]:.3g} at step {lowest:,}" in labels(axes)


def test_decimation_keeps_first_last_lowest_and_highest_of_every_column():
    decimate = pytest.importorskip("suspalign_fast.pictures.curves")
    rng = np.random.default_rng(5)
    place = np.sort(rng.uniform(0.0, 7.0, 30_000))
    values = rng.standard_normal(place.size)
    values[rng.uniform(size=place.size) < 0.3] = np.nan
    values[1_000:3_000] = np.nan
    rows = decimate.drawn_rows(place, values, 100)
    first = decimate.columns_of(place, 100)
    assert rows.size <= 400
    for column in np.split(np.arange(place.size), first[1:]):
        kept = np.intersect1d(rows, column)
        assert {column[0], column[-1]} <= set(kept)
        if np.isfinite(values[column]).any():
            assert np.nanmin(values[kept]) == np.nanmin(values[column])
            assert np.nanmax(values[kept]) == np.nanmax(values[column])


@pytest.mark.long
def test_a_local_mean_is_drawn_where_rows_crowd_and_the_middle_of_a_steep_curve():
    few, many = (plot_trace(simulated(num_steps=steps)).axes[0] for steps in (300, 50_000))
    assert "local mean" not in labels(few)
    assert "local mean" in labels(many)
    mean = curve(many, "local mean")
    assert np.std(mean.get_ydata()[-20:]) < 0.1 * np.std(simulated(num_steps=50_000).alignment)
    trace = noiseless()
    mean = curve(plot_trace(trace, log_alignment=True).axes[0], "local mean")
    shown = np.isfinite(mean.get_ydata())
    exact = np.interp(mean.get_xdata()[shown], trace.step[:1_300], np.log(trace.alignment[:1_300]))
    near = exact > -500.0
    np.testing.assert_allclose(np.log(mean.get_ydata()[shown])[near], exact[near], atol=3.0)


def test_a_narrow_range_is_linear_and_written_plainly():
    panel = plot_trace(simulated()).axes[2]
    assert panel.get_yscale() == "linear"
    panel.get_figure().draw_without_rendering()
    assert panel.yaxis.get_offset_text().get_text() == ""


@pytest.fixture
def suspalign(tmp_path, monkeypatch):
    """A function that runs the command line in an empty folder with a small spectrum."""
    monkeypatch.chdir(tmp_path)
    TWO_LEVEL.save("small.h5")

    def call(command, *arguments):
        if command == "run":
            arguments = ("--spectrum", "small.h5", "--engine", "levels", "--steps", "50", "--quiet",
                         *arguments)  # fmt: skip
        return CliRunner().invoke(main, [command, *arguments])

    return call


@pytest.mark.long
def test_options_of_the_picture_reach_it(suspalign, tmp_path, monkeypatch):
    asked = []
    for module in ("commands", "plot"):
        monkeypatch.setattr(
            f"suspalign_fast.cli.{module}.plot_trace",
            lambda trace, path, **how: asked.append(how) or plot_trace(trace, path, **how),
        )
    for command in (("run",), ("plot", "trace.h5", "-o", "x.pdf")):
        result = suspalign(*command, "--log-alignment", "--size", "5x4.5")
        assert result.exit_code == 0, result.output
    assert asked == [{"log_alignment": True, "size": (5.0, 4.5)}] * 2
    assert b"/Type3" not in (tmp_path / "x.pdf").read_bytes()
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("size", ["5", "5x", "x", "ax4", "2x5", "5x51", "5x4x3", "nanx4", ""])
def test_a_bad_size_is_refused_before_the_run(suspalign, tmp_path, size):
    result = suspalign("run", "--size", size)
    assert result.exit_code == 2
    expected = (
        "Error: --size must be WIDTHxHEIGHT in inches, from 3 x 2 to 50 x 50, like 7.5x6, got "
    )
    assert result.output == f"{expected}{size!r}\n"
    assert not (tmp_path / "trace.h5").exists()


@pytest.mark.parametrize("output", ["x.xyz", "x", "trace.h5"])
def test_an_unknown_ending_is_one_clear_line(suspalign, output):
    suspalign("run", "--no-plot")
    result = suspalign("plot", "trace.h5", "-o", output, "--overwrite")
    assert result.exit_code == 2
    assert result.output.startswith("Error: --output must be a picture's name, ending in .png, ")
    assert result.output.count("\n") == 1
    assert suspalign("info", "trace.h5").exit_code == 0


def test_a_picture_never_takes_the_place_of_its_trace(suspalign, tmp_path):
    suspalign("run", "--no-plot")
    (tmp_path / "trace.h5").rename(tmp_path / "trace.pdf")
    result = suspalign("plot", "trace.pdf", "-o", "trace.pdf", "--overwrite")
    assert result.output == "Error: --output must not be the file that is drawn, got 'trace.pdf'\n"


@pytest.fixture
def bench(monkeypatch):
    """The scripts that draw the pictures of the repository."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    monkeypatch.syspath_prepend(ROOT / "bench" / "studies")
    for name in ("report", "comparison", "machine", "pictures", "engines_plot"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def load(name):
        return __import__(name)

    return load


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is saved."""
    saved = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *a, **k: saved.append(figure) or save(figure, *a, **k),
    )
    return saved


def test_lengths_of_the_benchmark_bars_compare_as_the_times_do(bench, figures, tmp_path):
    kept = json.loads((ROOT / "bench" / "results" / "comparisons.json").read_text())
    bench("report").write(kept, tmp_path, tmp_path / "picture.png")
    axes = figures[0].axes[0]
    figures[0].draw_without_rendering()
    bars = sorted(bar.get_window_extent().width for bar in axes.patches)
    comparison = next(c for c in bench("comparison").comparisons_of(kept) if c.key == "libraries")
    times = sorted(comparison.values.values())
    np.testing.assert_allclose(np.divide(bars, bars[-1]), np.divide(times, times[-1]), rtol=0.01)
    for text in axes.texts:
        assert text.get_window_extent().x1 <= figures[0].bbox.x1


@pytest.mark.long
def test_every_engine_is_visible_and_has_a_marker_of_its_own_in_the_key(bench, figures, tmp_path):
    bench("engines_plot").draw(tmp_path / "picture.png", 5_000, 100_000, 3e-3)
    (figure,) = figures
    image = pixels(figure)[::-1]
    legend = figure.axes[0].get_legend()
    assert not covered(figure.axes[0], legend.get_window_extent())
    engines = [handle for handle in legend.legend_handles if handle.get_linestyle() == "None"]
    assert len({handle.get_marker() for handle in engines}) == len(engines) == 3
    for handle in engines:
        x0, y0, x1, y1 = (int(v) for v in handle.get_window_extent().extents)
        assert count_of(image[y0 - 4 : y1 + 4, x0 - 4 : x1 + 4], handle.get_color()) > 5
        assert count_of(image, handle.get_color()) > 500


@pytest.mark.long
def test_every_picture_of_the_repository_has_its_script(bench, tmp_path):
    pictures = bench("pictures")
    assert {path.stem for path in (ROOT / "docs").glob("*.png")} == set(pictures.PICTURES)
    pictures.benchmarks(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
