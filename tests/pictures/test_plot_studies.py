"""Pictures of studies: what is drawn is what is in the dataset, and what is missing is said."""

import io
import itertools

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.text import Text

import suspalign_fast as sa
from suspalign_fast.cli.commands import main
from suspalign_fast.pictures.grid_axis import GridAxis
from suspalign_fast.pictures.study_view import view
from suspalign_fast.traces import exact

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

GAPS = [2.0, 5.0, 20.0, 100.0]
SIZES = np.geomspace(1e-3, 1e-2, 3).tolist()


def case(gap_ratio, step_size=1e-3, std=0.5):
    spectrum = sa.Spectrum.two_level(200, 5, gap_ratio, 1.0)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(std), initial=3.0), {
        "engine": "levels",
        "step_size": step_size,
    }


def sweep(over, case=case, seeds=4, **how):
    return sa.sweep(case, over, 40, seeds=range(seeds), record_every=10, **how)


@pytest.fixture(scope="module")
def line():
    return sweep({"gap_ratio": GAPS}, theory=True)


@pytest.fixture(scope="module")
def grid():
    return sweep({"gap_ratio": GAPS, "step_size": SIZES}, variables=("alignment", "power_sums"))


@pytest.fixture(scope="module")
def holes(grid):
    """A grid in which runs diverged, raised, and were not done, whole cells and single seeds."""
    study = grid.copy(deep=True)
    for at, status in (((0, 0), "diverged"), ((1, 1), "error"), ((2, 2), "missing")):
        study.alignment[at] = np.nan
        study.status[at] = status
    study.alignment[3, 1, 0], study.status[3, 1, 0] = np.nan, "diverged"
    study.alignment[3, 2, 0], study.status[3, 2, 0] = np.nan, "missing"
    return study


def words(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def labels(axes):
    return [] if axes.get_legend() is None else [t.get_text() for t in axes.get_legend().texts]


def mesh_of(axes):
    (found,) = (part for part in axes.collections if isinstance(part, QuadMesh))
    return np.ma.asarray(found.get_array()).reshape(found.get_coordinates().shape[0] - 1, -1)


def bars(axes):
    (container,) = axes.containers
    return container


@pytest.mark.long
def test_plot_study_is_public_and_does_not_load_matplotlib():
    import subprocess
    import sys

    script = (
        "import sys, suspalign_fast as sa; assert 'matplotlib' not in sys.modules; sa.plot_study"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "plot_study" in sa.__all__


def test_a_line_is_mean_and_standard_error_beside_exact_theory(line):
    figure = sa.plot_study(line)
    (axes,) = figure.axes
    last = line.alignment.isel(step=-1)
    data, _, (errors,) = bars(axes)
    np.testing.assert_allclose(data.get_xdata(), GAPS)
    np.testing.assert_allclose(data.get_ydata(), last.mean("seed"))
    ends = np.array([segment[:, 1] for segment in errors.get_segments()])
    np.testing.assert_allclose(np.diff(ends)[:, 0] / 2, last.std("seed", ddof=1) / 2.0)
    assert labels(axes) == ["one seed", "exact mean ± std of a run", "mean ± standard error"]
    exact = line.exact_alignment_mean.isel(step=-1)
    assert any(np.array_equal(drawn.get_ydata(), exact) for drawn in axes.lines)
    seeds = next(drawn for drawn in axes.lines if drawn.get_xdata().size == 16)
    np.testing.assert_array_equal(np.sort(seeds.get_ydata()), np.sort(last.values.ravel()))
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "gap ratio"
    assert "mean of alignment over 4 seeds" in words(figure)
    assert "step 40" in words(figure)
    assert "16 runs, complete" in words(figure)


def test_another_step_and_variable(line):
    (axes,) = sa.plot_study(line, variable="loss", at=10).axes
    np.testing.assert_allclose(bars(axes)[0].get_ydata(), line.loss.sel(step=10).mean("seed"))
    assert axes.get_ylabel() == "loss"


def test_a_heat_map_is_the_mean_over_seeds(grid):
    figure = sa.plot_study(grid)
    axes = figure.axes[0]
    mean = grid.alignment.isel(step=-1).mean("seed")
    np.testing.assert_allclose(mesh_of(axes), mean.transpose("step_size", "gap_ratio"))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("gap ratio", "step size")
    assert axes.get_xlim()[0] < 2.0 < 100.0 < axes.get_xlim()[1]
    assert "grid: gap ratio (4) x step size (3)" in words(figure)
    assert not any(word in words(figure) for word in ("hatched", "grey", "dots", "up to"))


def test_values_in_any_order_lie_where_they_belong():
    shuffled = sweep({"gap_ratio": [20.0, 2.0, 100.0, 5.0], "step_size": SIZES[::-1]})
    ordered = sweep({"gap_ratio": GAPS, "step_size": SIZES})
    meshes = [mesh_of(sa.plot_study(study).axes[0]) for study in (shuffled, ordered)]
    np.testing.assert_array_equal(*meshes)


def test_missing_cells_are_hatched_and_said(holes):
    figure = sa.plot_study(holes)
    axes = figure.axes[0]
    mesh = mesh_of(axes)
    assert np.argwhere(mesh.mask).tolist() == [[0, 0], [1, 1], [2, 2]]
    hatches = [part for part in axes.collections if isinstance(part, PolyCollection)]
    hatches = [part for part in hatches if not isinstance(part, QuadMesh)]
    assert [part.get_hatch() for part in hatches] == ["////", "xxxx"]
    for part, at in zip(hatches, (0, 1), strict=True):
        (path,) = part.get_paths()
        box = path.get_extents()
        assert box.x0 < GAPS[at] < box.x1
        assert box.y0 < SIZES[at] < box.y1
    said = words(figure)
    for part in (
        "48 runs: 34 complete, 5 diverged, 4 error, 5 missing",
        "hatched: diverged (1 cell)",
        "crossed: error (1 cell)",
        "plain grey: missing (1 cell)",
        "dots: some seeds have no value, mean of the others",
        "up to 4 seeds",
    ):
        assert part in said
    (dots,) = axes.lines
    assert [dots.get_xdata().tolist(), dots.get_ydata().tolist()] == [[100.0], [SIZES[1]]]
    others = holes.alignment[3, 1, 1:, -1].mean()
    assert mesh[1, 3] == pytest.approx(float(others))


def test_missing_points_of_a_line_are_marked_and_said(holes):
    figure = sa.plot_study(holes, select={"step_size": SIZES[0]})
    (axes,) = figure.axes
    assert "no value: diverged" in labels(axes)
    (span,) = axes.patches
    assert span.get_hatch() == "////"
    assert span.get_x() < 2.0 < span.get_x() + span.get_width() < 5.0
    assert np.isnan(bars(axes)[0].get_ydata()).tolist() == [True, False, False, False]
    assert "step size = 0.001" in words(figure)


def test_without_an_axis_mean_and_deviation_go_along_the_steps(line):
    figure = sa.plot_study(line, select={"gap_ratio": 20.0})
    (axes,) = figure.axes
    at = line.sel(gap_ratio=20.0)
    drawn = {tuple(part.get_ydata()) for part in axes.lines}
    assert tuple(at.alignment.mean("seed").values) in drawn or any(
        np.allclose(values, at.alignment.mean("seed")) for values in drawn
    )
    assert tuple(at.exact_alignment_mean.values) in drawn
    band = axes.collections[-1].get_paths()[0].vertices[:, 1]
    high = at.alignment.mean("seed") + at.alignment.std("seed", ddof=1)
    assert band.max() == pytest.approx(float(high.max()))
    assert labels(axes) == ["exact mean ± std of a run", "mean ± std over seeds"]
    (axes,) = sa.plot_study(line, select={"gap_ratio": 20.0, "seed": 2}).axes
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), at.alignment.sel(seed=2))
    assert "seed 2" in labels(axes)


@pytest.mark.long
def test_three_axes_are_small_maps_of_one_scale():
    study = sweep({"gap_ratio": GAPS, "step_size": SIZES, "std": [0.1, 1.0]}, seeds=1)
    figure = sa.plot_study(study)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["std = 0.1", "std = 1"]
    for axes, std in zip(panels, (0.1, 1.0), strict=True):
        at = study.alignment.sel(std=std, seed=0).isel(step=-1)
        np.testing.assert_array_equal(mesh_of(axes), at.T)
    norms = {axes.collections[0].norm for axes in panels}
    assert len(norms) == 1
    assert len(sa.plot_study(study, select={"gap_ratio": 5.0}).axes) == 2  # one, and the colours


def test_texts_are_lines():
    def by_rule(rule, gap_ratio):
        problem, options = case(gap_ratio)
        chosen = {"critical": sa.CriticalStep(0.9), "constant": 1e-3, "$x^": 2e-3}[rule]
        return problem, options | {"step_size": chosen}

    study = sweep(
        {"rule": ["critical", "constant", "$x^"], "gap_ratio": GAPS}, by_rule, theory=True
    )
    figure = sa.plot_study(study)
    (axes,) = figure.axes
    assert labels(axes) == ["critical", "constant", r"\$x^", "exact mean"]
    for container, rule in zip(axes.containers, study.rule.values, strict=True):
        mean = study.alignment.sel(rule=rule).isel(step=-1).mean("seed")
        np.testing.assert_allclose(container[0].get_ydata(), mean)
    figure.savefig(io.BytesIO(), format="png")
    (axes,) = sa.plot_study(study, select={"gap_ratio": 5.0}).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["critical", "constant", r"\$x^"]


def test_exact_theory_alone():
    over = {"gap_ratio": GAPS, "step_size": SIZES}
    study = sweep(over, seeds=0, theory=True)
    figure = sa.plot_study(study)
    np.testing.assert_array_equal(
        mesh_of(figure.axes[0]), study.exact_alignment_mean.isel(step=-1).T
    )
    assert "exact mean of alignment" in words(figure)
    assert "seeds" not in words(figure)
    for select in ({"gap_ratio": 2.0}, {"gap_ratio": 2.0, "step_size": SIZES[0]}):
        (axes,) = sa.plot_study(study, variable="exact_loss_mean", select=select).axes
        assert labels(axes) == ["exact mean ± std of a run"]


def test_dimensions_of_sums_are_axes(grid):
    select = {"band": "bulk", "power": 2, "gap_ratio": 5.0}
    (axes,) = sa.plot_study(grid, variable="power_sums", select=select).axes
    at = grid.power_sums.sel(**select).isel(step=-1)
    np.testing.assert_allclose(bars(axes)[0].get_ydata(), at.mean("seed"))


@pytest.mark.long
def test_colours_are_logarithmic_where_means_span_decades_or_as_told(grid):
    wide = grid.copy(deep=True)
    wide.alignment[0] = 1e-5
    assert isinstance(sa.plot_study(wide).axes[0].collections[0].norm, LogNorm)
    assert not isinstance(sa.plot_study(wide, log=False).axes[0].collections[0].norm, LogNorm)
    narrow = grid.copy(deep=True)
    narrow.alignment[:] = np.linspace(0.5, 0.6, narrow.alignment.size).reshape(
        narrow.alignment.shape
    )
    assert not isinstance(sa.plot_study(narrow).axes[0].collections[0].norm, LogNorm)
    assert isinstance(sa.plot_study(narrow, log=True).axes[0].collections[0].norm, LogNorm)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 10.0, 100.0], True),
        ([5.1, 10.1, 20.1, 50.1, 100.1, 200.1, 300.1, 400.1, 500.1], True),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], False),
        ([1.0, 1.1, 1.2], False),
        ([0.0, 1.0, 10.0, 100.0], False),
        ([-1.0, 1.0, 10.0], False),
        ([1.0, 100.0], True),
        ([3.0], False),
    ],
)
def test_an_axis_is_logarithmic_where_its_values_are(values, expected):
    axis = GridAxis.of("x", np.array(values))
    assert axis.is_logarithmic == expected
    assert (axis.edges[:-1] < axis.values).all()
    assert (axis.values < axis.edges[1:]).all()


@pytest.mark.long
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 1e-320, 0.0, -1.0])
@pytest.mark.parametrize(("variable", "log"), [("loss", None), ("alignment", True)])
def test_any_values_give_a_picture_without_a_warning(line, value, variable, log):
    study = line.copy(deep=True)
    for part in (slice(None), 1):
        study[variable][part] = value
        for how in ({}, {"select": {"gap_ratio": 5.0}}):
            figure = sa.plot_study(study, variable=variable, log=log, **how)
            figure.savefig(io.BytesIO(), format="png")
        study = line.copy(deep=True)


@pytest.mark.long
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, 0.0, -1.0])
@pytest.mark.parametrize("log", [None, True])
def test_any_values_give_a_map_without_a_warning(grid, value, log):
    study = grid.copy(deep=True)
    for part in ((0, 0), slice(None)):
        study.alignment[part] = value
        sa.plot_study(study, log=log).savefig(io.BytesIO(), format="png")


@pytest.mark.long
@pytest.mark.parametrize("size", [None, (3, 3), (12, 3), (4, 9)])
def test_words_keep_apart_and_inside_at_any_size(holes, line, size, monkeypatch):
    drawn, draw = [], Text.draw

    def recorded(text, renderer):
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", recorded)
    for figure in (
        sa.plot_study(holes, size=size),
        sa.plot_study(line, size=size),
        sa.plot_study(line, size=size, select={"gap_ratio": 5.0}),
    ):
        drawn.clear()
        figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in drawn]
        width, height = figure.bbox.size
        for text, box in boxes:
            assert box.x0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y0 >= -1, text
            assert box.y1 <= height + 1, text
        for (one, a), (other, b) in itertools.combinations(boxes, 2):
            apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
            assert apart, f"{one!r} and {other!r}"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"variable": "speed"}, "variable must be one of alignment, exact_alignment_mean"),
        ({"variable": "status"}, "variable must be one of"),
        ({"at": 11}, "at must be a recorded step, of which 10 is the nearest, got 11"),
        ({"at": -1}, "at must be an integer"),
        (
            {"select": {"ratio": 1}},
            "select must name axes of the study, gap_ratio, seed, got 'ratio'",
        ),
        ({"select": {"gap_ratio": 3}}, "select of gap_ratio must be one of 2, 5, 20, 100, got 3"),
        ({"select": {"seed": 9}}, "select of seed must be one of 0, 1, 2, 3, got 9"),
        ({"select": {"gap_ratio": "x"}}, "got 'x'"),
        ({"select": 3}, "select must be a mapping"),
        ({"select": {"gap_ratio": 2.0}, "at": 10}, "at must not be given where a picture goes"),
        ({"size": (1, 1)}, "size must be width and height"),
        ({"path": "a.nc"}, "path must be a picture's name"),
    ],
)
def test_bad_arguments_are_named(line, how, message):
    with pytest.raises(ValueError, match=message):
        sa.plot_study(line, **how)


def test_too_many_axes_and_what_is_no_study_are_refused(grid):
    with pytest.raises(
        ValueError, match=r"select must hold axes at a value until two are left.*band"
    ):
        sa.plot_study(grid, variable="power_sums")
    for thing in (3, grid.isel(step=0)):
        with pytest.raises(ValueError, match=r"dataset must be the xarray\.Dataset of a sweep"):
            sa.plot_study(thing)


@pytest.fixture
def suspalign(tmp_path, monkeypatch, line, grid):
    monkeypatch.chdir(tmp_path)
    sweep({"gap_ratio": GAPS, "step_size": SIZES}, path="study.nc").close()
    line.to_netcdf("other.nc", engine="h5netcdf")
    line[["alignment", "status"]].to_netcdf("old.nc", engine="scipy")
    xarray.Dataset({"a": ("x", [1.0])}).to_netcdf("foreign.nc", engine="h5netcdf")
    whole = (tmp_path / "study.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    sa.simulate(case(5.0)[0], 1e-3, 5, path="trace.h5")
    return lambda *arguments: CliRunner().invoke(main, ["plot", *map(str, arguments)])


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [
        ("study.nc",),
        ("study.nc", "--variable", "loss", "--at", "10", "--log"),
        ("study.nc", "--select", "gap-ratio=5", "--linear", "--size", "5x4"),
        (
            "study.nc",
            "--select",
            "gap_ratio=5",
            "--select",
            "step_size=0.003162",
            "--log-alignment",
        ),
        ("other.nc",),
        ("old.nc",),
        ("trace.h5",),
    ],
)
def test_the_command_tells_studies_from_traces(suspalign, tmp_path, arguments):
    result = suspalign(*arguments, "-o", "picture.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("wrote picture.png (")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_picture(suspalign, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "suspalign_fast.cli.plot.plot_study",
        lambda dataset, path, **how: calls.append(how) or path.write_bytes(b""),
    )
    suspalign("study.nc", "--variable", "loss", "--at", "10", "--select", "step-size=1", "--linear")
    suspalign("study.nc", "-o", "b.svg", "--log-alignment", "--size", "5x4")
    assert calls == [
        {"variable": "loss", "at": 10, "select": {"step_size": "1"}, "log": False, "size": None},
        {"log": True, "size": (5.0, 4.0)},
    ]


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.nc",), "missing.nc does not exist"),
        (("foreign.nc",), "foreign.nc is not a study: it has no dimension 'step'"),
        (("cut.nc",), "cut.nc is not a readable HDF5 file"),
        (("study.nc", "-o", "study.nc"), "--output must be a picture's name"),
        (("study.nc", "--variable", "speed"), "--variable must be one of alignment, loss"),
        (("study.nc", "--at", "11"), "--at must be a recorded step, of which 10 is the nearest"),
        (("study.nc", "--select", "gap_ratio"), "--select must be NAME=VALUE, got 'gap_ratio'"),
        (
            ("study.nc", "--select", "x=1"),
            "--select must name axes of the study, gap_ratio, step_s",
        ),
        (
            ("study.nc", "--select", "seed=1", "--select", "seed=2"),
            "each axis once, got seed twice",
        ),
        (("study.nc", "--select", "gap_ratio=3"), "select of gap_ratio must be one of 2, 5, 20"),
        (("trace.h5", "--variable", "loss"), "--variable must go with a study, got 'loss' for a"),
        (("trace.h5", "--select", "a=1"), "--select must go with a study, got a=1 for a trace"),
        (("trace.h5", "--log"), "--log must go with a study"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_status_2(suspalign, arguments, message):
    result = suspalign(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_study_in_the_making_is_drawn_and_says_so(line):
    figure = sa.plot_study(line.assign_attrs(status="interrupted"))
    assert "sweep interrupted" in words(figure)
    assert "sweep" not in words(sa.plot_study(line.assign_attrs(status="complete")))


def test_views_count_what_is_there(holes):
    found = view(holes, "alignment", {}).at(-1)
    assert found.count[0, 0, 0] == 0
    assert found.count[3, 1, 0] == 3
    assert found.reason[2, 2] == "missing"
    assert found.is_partial.sum() == 1


# --- what is said of the data --------------------------------------------------------------------


@pytest.fixture(params=[True, False])
def keeps_attributes(request):
    """Whether operations of xarray keep attributes: that has changed between its versions."""
    with xarray.set_options(keep_attrs=request.param):
        yield request.param


def claims(figure):
    """Lines of a picture that claim exactness."""
    return [line for line in words(figure).split("\n") if "exact" in line]


@pytest.mark.mostly_long
def test_a_mean_over_seeds_is_no_exact_mean(line, grid, keeps_attributes):
    for study in (line.drop_vars([n for n in line if n.startswith("exact_")]), grid):
        figure = sa.plot_study(study[["alignment"]].mean("seed"))
        assert claims(figure) == []
        assert "alignment" in words(figure)
    figure = sa.plot_study(line[["loss"]].mean("seed"), variable="loss")
    (axes,) = figure.axes
    np.testing.assert_allclose(bars(axes)[0].get_ydata(), line.loss.isel(step=-1).mean("seed"))
    assert labels(axes) == ["loss"]
    along = sa.plot_study(line[["loss"]].mean("seed"), variable="loss", select={"gap_ratio": 5.0})
    assert claims(along) == []


@pytest.mark.mostly_long
def test_added_renamed_and_computed_variables_are_not_exact(line, keeps_attributes):
    study = line.copy()
    study["gap"] = study.exact_loss_mean - study.loss.mean("seed")
    study["guess"] = study.exact_loss_mean
    study["exact_guess_mean"] = study.exact_loss_mean
    study["exact_alignment_mean"] = study.loss.mean("seed")
    for name in ("gap", "guess"):
        figure = sa.plot_study(study, variable=name)
        assert claims(figure) == []
        assert name in words(figure)
    for name in ("exact_guess_mean", "exact_alignment_mean"):
        assert claims(sa.plot_study(study, variable=name))[-1] == f"variable {name},  step 40"
    assert claims(sa.plot_study(study)) == []  # beside alignment there is none
    renamed = line.drop_vars("exact_loss_mean").rename(exact_alignment_mean="exact_loss_mean")
    assert claims(sa.plot_study(renamed, variable="loss")) == []


@pytest.mark.mostly_long
def test_theory_averaged_over_an_axis_is_not_exact(keeps_attributes):
    study = sweep({"gap_ratio": GAPS, "std": [0.1, 0.5]}, seeds=0, theory=True)
    assert claims(sa.plot_study(study.isel(std=1)))
    figure = sa.plot_study(study.std("std"), variable="exact_loss_mean")
    assert "exact mean" not in words(figure)


@pytest.mark.long
def test_theory_keeps_its_words_where_its_values_are_the_same(line, tmp_path):
    line.to_netcdf(tmp_path / "line.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "line.nc") as stored:
        for study in (stored, line.isel(step=slice(1, 3)), line.transpose("step", ...)):
            assert "exact mean ± std of a run" in labels(sa.plot_study(study).axes[0])
    figure = sa.plot_study(line, variable="exact_loss_std")
    assert claims(figure)[-1] == "exact standard deviation of loss,  step 40"
    assert "exact mean" not in words(figure)


@pytest.mark.long
def test_theory_in_a_file_of_an_older_version_is_known_by_its_study(tmp_path):
    sweep({"gap_ratio": GAPS, "std": [0.1, 0.5]}, seeds=1, theory=True, path=tmp_path / "s.nc")
    study = xarray.load_dataset(tmp_path / "s.nc", engine="h5netcdf")
    for name in study:
        study[name].attrs.pop("exact", None)
    assert "exact mean" in words(sa.plot_study(study.isel(std=0)))
    with xarray.set_options(keep_attrs=True):
        assert claims(sa.plot_study(study.mean("std"), variable="exact_loss_mean"))[0].startswith(
            "v"
        )
    del study.attrs["study"]
    assert claims(sa.plot_study(study.isel(std=0))) == []


def test_a_trace_is_not_exact():
    trace = sa.simulate(case(5.0)[0], 1e-3, 20)
    figure = sa.plot_study(trace.to_xarray())
    assert claims(figure) == []
    assert "alignment,  20 steps" in words(figure)


@pytest.mark.long
def test_runs_are_counted_once_and_only_where_the_dataset_says_how_they_ended(grid):
    assert "runs" not in words(sa.plot_study(grid.drop_vars("status")))
    figure = sa.plot_study(grid, variable="power_sums", select={"power": 2})
    assert "48 runs, complete" in words(figure)


def test_what_lacks_for_no_known_reason_is_called_no_value(grid, line):
    study = grid.copy(deep=True)
    study.alignment[0, 0] = np.nan
    assert "plain grey: no value (1 cell)" in words(sa.plot_study(study))
    assert "no value" in labels(
        sa.plot_study(line[["loss"]].mean("seed").where(line.gap_ratio > 2), variable="loss").axes[
            0
        ]
    )


def test_steps_that_are_no_integers_are_refused(line):
    with pytest.raises(ValueError, match="dataset must have integers as steps"):
        sa.plot_study(
            line.isel(step=slice(4)).coarsen(step=2).mean().assign_coords(step=[0.5, 2.5])
        )


# --- texts of files ------------------------------------------------------------------------------

HOSTILE = [
    r"$\sqrt{\sqrt{",
    "$x_{$",
    "\x1b[31mred\x1b[0m",
    "_hidden",
    "a\nb",
    "\u202e",
    "\ud800",
    "Ж",
]


@pytest.mark.long
@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_a_dataset_are_drawn_plain_and_without_a_warning(text, capfd):
    study = sweep({"rule": ["a", "b"], "gap_ratio": GAPS}, lambda rule, gap_ratio: case(gap_ratio))
    study = study.assign_coords(rule=[text, "b"]).rename(gap_ratio=text + "1", loss=text)
    study[text].attrs["units"] = text
    study["status"] = study.status.astype(object).where(study.seed > 0, text)
    study.attrs["status"] = text
    for how in ({}, {"variable": text}, {"variable": text, "select": {"rule": "b"}}):
        figure = sa.plot_study(study, **how)
        for ending in ("png", "svg"):
            figure.savefig(io.BytesIO(), format=ending)
        assert "\x1b" not in words(figure)
    captured = capfd.readouterr()
    assert captured == ("", "")


@pytest.mark.parametrize(
    "computed",
    [lambda s: s * 2, np.log10, lambda s: s / s.isel(step=0), lambda s: s.cumsum("step")],
    ids=["times", "log", "ratio", "sum"],
)
def test_what_is_computed_from_exact_theory_is_not_called_exact(computed, line):
    with xarray.set_options(keep_attrs=True), np.errstate(all="ignore"):
        made = computed(line[["loss", "exact_loss_mean", "exact_loss_std"]])
    assert exact.found(line, "exact_loss_mean") == ("loss", "mean")
    assert exact.found(made, "exact_loss_mean") == ("", "")
    for same in (line.isel(step=slice(3)), line.sel(gap_ratio=GAPS[0]), line.copy(deep=True)):
        assert exact.found(same, "exact_loss_mean") == ("loss", "mean")
