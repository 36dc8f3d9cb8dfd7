"""Rows of networks: exact on quadratic ones, and what is refused."""

import copy
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model.least_squares import of_data

from ..helpers.networks import (
    as_tensors,
    classes,
    gaussian_data,
    half_square,
    linear,
    perceptron,
    torch,
)

EIGENVALUES = np.r_[np.linspace(8.0, 5.0, 5), np.linspace(1.0, 0.05, 85)]
K = 5
CROSS_ENTROPY = torch.nn.CrossEntropyLoss()


@pytest.fixture(scope="module")
def quadratic():
    """Data, weights, and the same problem in its eigenbasis."""
    x, y = gaussian_data(300, EIGENVALUES)
    weights = np.random.default_rng(1).standard_normal(len(EIGENVALUES))
    problem = of_data(x, y, num_dominant=K)
    return x, y, weights, problem, problem.vectors.T @ (weights - problem.optimum)


def sums_of(lam, c):
    terms = np.stack([lam**p * c**2 for p in (1, 2, 3, 4)])
    return np.stack([terms[:, :K].sum(1), terms[:, K:].sum(1)])


def measured(x, y, weights, **options):
    options = {"batch_size": 10, "noise_batches": 6, "tolerance": 0.0} | options
    data = options.pop("data", as_tensors(x, y))
    return sa.network.measure_row(linear(weights), half_square, data, K, **options)


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_rows_of_a_quadratic_are_its_power_sums(quadratic, curvature):
    x, y, weights, problem, c = quadratic
    row = measured(x, y, weights, curvature=curvature)
    expected = sums_of(problem.spectrum.eigenvalues, c)
    np.testing.assert_allclose(row.power_sums[:, 1:], expected[:, 1:], rtol=1e-8)
    lam = problem.spectrum.eigenvalues
    np.testing.assert_allclose(row.top_eigenvalues[:K], lam[:K], 1e-8)
    assert row.top_eigenvalues[K] == pytest.approx(lam[K], rel=1e-2)
    assert np.isnan(row.power_sums[:, 0]).all()
    least = problem.label_std**2 / 2.0
    assert row.loss == pytest.approx(expected[:, 0].sum() / 2.0 + least, rel=1e-10)


def test_noise_constants_are_those_of_the_mini_batches(quadratic):
    x, y, weights, problem, c = quadratic
    parts = [as_tensors(x[i : i + 30], y[i : i + 30]) for i in range(0, 300, 30)]
    row = measured(x, y, weights, noise_batches=parts)
    residuals = x @ weights - y
    noise = np.array([
        problem.vectors.T @ (x[i : i + 30].T @ residuals[i : i + 30] / 30.0)
        for i in range(0, 300, 30)
    ]) - problem.spectrum.eigenvalues * c  # fmt: skip
    lam, bands = problem.spectrum.eigenvalues, (slice(0, K), slice(K, None))
    for band, part in enumerate(bands):
        for power in (1, 2):
            expected = (lam[part] ** power * noise[:, part] ** 2).sum(1).mean()
            assert row.constants[band, power - 1] == pytest.approx(expected, rel=1e-8)
        for i in range(3):  # R_4 ... R_6
            one, other = ((1, 1), (1, 2), (2, 2))[i]
            left, right = (noise[:, part] @ (lam[part] ** (1 + p) * c[part]) for p in (one, other))
            assert row.noise_sums[band, i] == pytest.approx((left * right).mean(), rel=1e-8)


def test_the_fourth_constant_is_of_pairs_of_batches(quadratic):
    x, y, weights, problem, c = quadratic
    rng = np.random.default_rng(3)
    stds = rng.uniform(0.5, 1.5, len(c))
    lam, vectors = problem.spectrum.eigenvalues, torch.tensor(problem.vectors)
    from suspalign_fast.network.curvature import Curvature
    from suspalign_fast.network.loss import Loss
    from suspalign_fast.network.row import noise_sums

    matrix = Curvature(Loss(linear(weights), half_square, as_tensors(x, y)), "hessian")
    noise = rng.standard_normal((2000, len(c))) * stds
    gradients = [vectors @ torch.tensor(one) for one in noise]
    zero = torch.zeros(len(c), dtype=torch.float64)
    found = noise_sums(matrix, gradients, zero, zero, vectors[:, :K]).fourth
    terms = lam**4 * stds**4
    np.testing.assert_allclose(found, [terms[:K].sum(), terms[K:].sum()], rtol=0.15)


def test_data_in_parts_is_the_same(quadratic):
    x, y, weights, _, _ = quadratic
    inputs, targets = as_tensors(x, y)
    parts = [(inputs[:70], targets[:70]), (inputs[70:], targets[70:])]
    given = [(inputs[:10], targets[:10]), (inputs[10:20], targets[10:20])]
    whole = measured(x, y, weights, noise_batches=given)
    in_parts = measured(x, y, weights, data=parts, noise_batches=given)
    np.testing.assert_allclose(in_parts.power_sums[:, 1:], whole.power_sums[:, 1:], rtol=1e-9)
    np.testing.assert_allclose(in_parts.constants, whole.constants, rtol=1e-9)
    assert in_parts.loss == pytest.approx(whole.loss, rel=1e-12)


def test_crude_eigenvectors_cost_little_and_change_little(quadratic):
    x, y, weights, _, _ = quadratic
    exact, crude = measured(x, y, weights), measured(x, y, weights, tolerance=0.02)
    assert crude.products <= 2 * K + 32 + 1 + 6 < 70
    assert crude.residual <= 0.02
    assert crude.critical_step_size == pytest.approx(exact.critical_step_size, rel=1e-2)


def test_single_precision_is_measured_in_double(quadratic):
    x, y, weights, _, _ = quadratic
    inputs, targets = (t.float() for t in as_tensors(x, y))
    options = {"batch_size": 10, "noise_batches": 6, "tolerance": 1e-3}
    model = linear(weights).float()
    row = sa.network.measure_row(model, half_square, (inputs, targets), K, **options)
    exact = measured(x, y, weights)
    np.testing.assert_allclose(row.power_sums[:, 1:], exact.power_sums[:, 1:], rtol=1e-4)
    assert row.vectors.dtype == torch.float64


def test_small_models_are_solved_whole():
    x, y = classes()
    row = sa.network.measure_row(
        perceptron(width=3), CROSS_ENTROPY, (x, y), 2, batch_size=5, noise_batches=4
    )
    assert row.residual == 0.0
    assert row.products == 33 + 1 + 4


# --- nothing of the training changes -------------------------------------------------------------


def test_a_row_leaves_model_and_random_numbers_as_they_were():
    model = perceptron(0, torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Tanh())
    x, y = classes()
    model.train()
    model[3].eval()
    CROSS_ENTROPY(model(x), y).backward()
    before = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()]
    drawn = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with pytest.warns(RuntimeWarning, match="has BatchNorm1d, Dropout in training mode"):
        sa.network.measure_row(model, CROSS_ENTROPY, (x, y), 2, batch_size=5)
    assert [module.training for module in model] == [True, True, True, False, True]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[0][name])
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before[1], strict=True))
    assert torch.equal(torch.random.get_rng_state(), drawn[0])
    assert (np.random.get_state()[1] == drawn[1]).all()  # noqa: NPY002


def test_rows_are_those_of_evaluation_mode():
    model = perceptron(0, torch.nn.Dropout(0.5), torch.nn.Tanh())
    plain = torch.nn.Sequential(model[0], model[2], model[3])
    data, options = classes(), {"batch_size": 5, "noise_batches": 4}
    model.train()
    without = sa.network.measure_row(plain, CROSS_ENTROPY, data, 2, **options)
    with pytest.warns(RuntimeWarning, match="has Dropout in training mode"):
        with_dropout = sa.network.measure_row(model, CROSS_ENTROPY, data, 2, **options)
    np.testing.assert_array_equal(with_dropout.power_sums, without.power_sums)
    assert with_dropout.critical_step_size == without.critical_step_size


def test_tied_and_frozen_parameters_count_once_and_not_at_all():
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6))
    model = model.double()
    model[2].weight = model[0].weight
    model[2].bias.requires_grad_(False)
    x, y = classes()
    row = sa.network.measure_row(model, CROSS_ENTROPY, (x, y), 2, batch_size=5, noise_batches=4)
    assert row.vectors.shape == (42, 2)


# --- the probe -----------------------------------------------------------------------------------


def trained(probe_options, steps=5, stop=None):
    torch.manual_seed(1)
    model, (x, y) = perceptron(), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"batch_size": 5, "noise_batches": 4} | probe_options
    with sa.network.Probe(model, CROSS_ENTROPY, (x, y), 2, **options) as probe:
        for step in range(steps):
            probe.observe(optimizer)
            if step == stop:
                raise KeyboardInterrupt
            optimizer.zero_grad()
            CROSS_ENTROPY(model(x[step::6]), y[step::6]).backward()
            optimizer.step()
    return probe, model


def test_a_probe_makes_a_trace(tmp_path):
    probe, _ = trained({"every": 2})
    trace = probe.trace
    assert trace.step.tolist() == [0, 2, 4]
    assert trace.status == "complete"
    assert (trace.step_size == 0.1).all()
    for name in ("alignment", "critical_step_size", "critical_edge", "loss"):
        assert trace[name].tolist() == [getattr(row, name) for row in probe.rows]
    for i, row in enumerate(probe.rows):
        np.testing.assert_array_equal(trace.loss_interval[i], row.loss_interval)
        np.testing.assert_array_equal(trace.constants[i], row.constants)
    assert set(trace.regime) <= {"below", "above", "self-correcting"}
    assert np.isfinite(trace.predicted.probability).all()
    assert np.isnan(trace.loss_dominant).all()
    labelled = trace.to_xarray()
    assert labelled.noise_constants.dims == ("step", "band", "constant")
    assert labelled.top_eigenvalues.dims == ("step", "rank")
    assert "Sequential of 83 parameters" in trace.source
    sa.plot_trace(trace, tmp_path / "a.png")


def test_a_probe_does_not_change_the_training():
    with_rows = trained({"every": 1})[1]
    without = trained({"every": 100})[1]
    for one, other in zip(with_rows.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, other)


def test_earlier_eigenvectors_are_used_again():
    probe, _ = trained({"refresh": 2, "tolerance": 0.0})
    fresh, _ = trained({"tolerance": 0.0})
    assert [np.isnan(row.residual) for row in probe.rows] == [False, True] * 2 + [False]
    assert probe.rows[1].products == 2 + 1 + 4
    assert np.isnan(probe.rows[1].top_eigenvalues[-1])
    np.testing.assert_allclose(probe.trace.alignment, fresh.trace.alignment, atol=0.05)
    assert probe.trace.alignment[2] == fresh.trace.alignment[2]


def test_a_file_of_rows_is_read_without_torch(tmp_path):
    path = tmp_path / "rows.h5"
    probe, _ = trained({"path": path})
    in_memory = trained({})[0].trace
    assert sa.load_trace(path) == probe.trace == in_memory
    code = f"""
import sys
sys.modules["torch"] = None
import suspalign_fast as sa
trace = sa.load_trace({str(path)!r})
print(len(trace), trace.status, trace.constants.shape, trace.regime[0] != "")
try:
    sa.network
except ImportError as error:
    print("suspalign-fast[torch]" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["5 complete (5, 2, 3) True", "True"]


def test_the_package_does_not_import_torch():
    code = "import sys, suspalign_fast; print({'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_trace_says_how_its_probe_ended(tmp_path):
    path = tmp_path / "rows.h5"
    with pytest.raises(KeyboardInterrupt):
        trained({"path": path}, stop=2)
    trace = sa.load_trace(path)
    assert (trace.status, len(trace)) == ("interrupted", 3)
    with pytest.raises(FileExistsError):
        trained({"path": path})
    trained({"path": path, "overwrite": True})
    assert len(sa.load_trace(path)) == 5


def trained_on(path, first, last, **options):
    """Train from a step on, at parameters that only the step decides."""
    model, (x, y) = perceptron(), classes()
    given = {"batch_size": 5, "noise_batches": 4, "every": 2, "path": path}
    with sa.network.Probe(
        model, CROSS_ENTROPY, (x, y), 2, first_step=first, **(given | options)
    ) as probe:
        for step in range(first, last):
            torch.manual_seed(step)
            torch.nn.init.normal_(model[0].weight, std=0.3)
            probe.observe(0.1)
    return probe


def test_a_probe_goes_on_with_its_file(tmp_path):
    whole = trained_on(tmp_path / "whole.h5", 0, 9).trace
    path = tmp_path / "parts.h5"
    trained_on(path, 0, 5, append=True)  # rows of steps 0, 2 and 4
    assert sa.load_trace(path).step.tolist() == [0, 2, 4]
    probe = trained_on(path, 3, 9, append=True)  # from an earlier checkpoint of the training
    assert probe.trace == sa.load_trace(path) == whole
    assert whole.step.tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(
        ValueError, match=r"path must be of rows of the same network .* k = 2, hess"
    ):
        trained_on(path, 3, 9, append=True, curvature="ggn")
    with pytest.raises(ValueError, match="append must be False without a path"):
        trained_on(None, 3, 9, append=True)
    assert sa.load_trace(path) == whole


def test_a_probe_that_was_closed_measures_nothing_more(tmp_path):
    path = tmp_path / "rows.h5"
    probe = trained_on(path, 0, 4)
    with pytest.raises(ValueError, match="probe must be open to measure a row, and was closed"):
        probe.observe(0.1)
    with pytest.raises(ValueError, match="status must be one of 'complete', 'diverged'"):
        probe.close("done")
    assert sa.load_trace(path).status == "complete"


@pytest.mark.parametrize(("given", "message"), [
    ({"step_size": -1.0}, "step_size must be a finite number of at least zero, got -1"),
    ({"step_size": float("inf")}, "step_size must be a finite number of at least zero, got inf"),
    ({"step": 0.9}, "step must be an integer of at least 0, got 0.9"),
    ({"step": -1}, "step must be an integer of at least 0, got -1"),
])  # fmt: skip
def test_what_rows_are_given_is_checked(given, message):
    probe = sa.network.Probe(perceptron(), CROSS_ENTROPY, classes(), 2, batch_size=5)
    with pytest.raises(ValueError, match=message):
        probe.measure(**given)
    optimizer = torch.optim.SGD(probe.settings.loss.model.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="step_size must be a finite number"):
        probe.observe(optimizer)
    assert not probe.rows


def test_a_row_between_two_counts_as_one():
    probe = sa.network.Probe(perceptron(), CROSS_ENTROPY, classes(), 2, batch_size=5)
    probe.observe(0.1)
    probe.measure(0.1)
    probe.observe(0.1)
    assert probe.trace.step.tolist() == [0, 1]


def test_a_row_says_what_it_found():
    row = trained({})[0].rows[0]
    assert repr(row).startswith("NetworkRow(loss=1.")
    assert f"alignment={row.alignment:.4f}" in repr(row)
    assert "tensor" not in repr(row)
    assert row.regime(0.0) == "below"
    assert row.regime(1e3) == "above"


# --- bad input -----------------------------------------------------------------------------------


class Noisy(torch.nn.Module):
    """A model that draws random numbers in evaluation mode, too."""

    def __init__(self):
        super().__init__()
        self.inner = perceptron()

    def forward(self, x):
        return self.inner(x) + torch.randn(3, dtype=torch.float64)


def no_gradient():
    model = perceptron()
    return model.requires_grad_(False)


class Ignored(torch.nn.Module):
    """A model whose outputs depend on no parameter."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(90, dtype=torch.float64))

    def forward(self, x):
        return x[:, :3]


def not_finite():
    model = perceptron()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    return model


def total(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="sum")


def each(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")


SUM = torch.nn.CrossEntropyLoss(reduction="sum")


@pytest.mark.parametrize(("change", "message"), [
    ({"model": no_gradient()}, "model must have parameters that take a gradient, it has none"),
    ({"model": Ignored()}, "model must have a gradient: its loss depends on no parameter"),
    ({"model": Noisy()}, "loss must be the same whenever it is evaluated, got"),
    ({"model": not_finite()}, "loss must be finite, got nan"),
    ({"model": lambda x: x}, "model must be a torch.nn.Module"),
    ({"loss_fn": SUM}, "loss_fn must have reduction 'mean', got 'sum'"),
    ({"loss_fn": total}, "loss_fn must be the mean over a batch, each sample counted alike"),
    ({"loss_fn": each}, "loss_fn must return one number, the mean over a batch, got"),
    ({"loss_fn": 3}, "loss_fn must be a function of outputs and targets, got 3"),
    ({"num_dominant": 83}, "num_dominant must be below the number of parameters 83, got 83"),
    ({"num_dominant": 0}, "num_dominant must be an integer of at least 1, got 0"),
    ({"curvature": "fisher"}, "curvature must be one of 'hessian', 'ggn', got 'fisher'"),
    ({"batch_size": None}, "batch_size must be given where mini-batches are drawn"),
    ({"batch_size": 61}, "batch_size must be an integer of at least 1 and at most 60, got 61"),
    ({"noise_batches": 1}, "noise_batches must be an integer of at least 2, got 1"),
    ({"noise_batches": [classes(5)]}, "noise_batches must be at least 2 mini-batches"),
    ({"noise_batches": iter([classes(5)])}, "noise_batches must be .* more than once"),
    ({"data": iter([classes()])}, "data must be a pair of tensors .* more than once"),
    ({"data": [classes(), classes()]}, "noise_batches must be given where the data are not one"),
    ({"data": (classes()[0], classes()[1][:5])}, "data must have as many inputs as targets"),
    ({"data": 3}, "data must be a pair of tensors"),
    ({"tolerance": -1.0}, "tolerance must be a finite number of at least zero, got -1.0"),
])  # fmt: skip
def test_bad_input_is_refused_and_the_mode_restored(change, message):
    given = {"model": perceptron(), "loss_fn": CROSS_ENTROPY, "data": classes(), "num_dominant": 2}
    given |= {"batch_size": 5} | change
    if isinstance(given["model"], torch.nn.Module):
        given["model"].train()
    with pytest.raises(ValueError, match=message):
        sa.network.measure_row(**given)
    if isinstance(given["model"], torch.nn.Module):
        assert all(module.training for module in given["model"].modules())


@pytest.mark.parametrize(("change", "message"), [
    ({"every": 0}, "every must be an integer of at least 1, got 0"),
    ({"refresh": 0}, "refresh must be an integer of at least 1, got 0"),
])  # fmt: skip
def test_bad_probes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sa.network.Probe(perceptron(), CROSS_ENTROPY, classes(), 2, batch_size=5, **change)


def test_step_sizes_are_numbers_and_one_for_all():
    model = perceptron()
    probe = sa.network.Probe(model, CROSS_ENTROPY, classes(), 2, batch_size=5)
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.2}]
    with pytest.raises(
        ValueError,
        match=r"step_size must be one for all parameters, or .* got \[0.1",
    ):
        probe.observe(torch.optim.SGD(groups, lr=0.1))
    with pytest.raises(ValueError, match="step_size must be a finite number"):
        probe.observe("fast")
    assert probe.step == 0
    assert len(probe.trace) == 0
    probe.observe(0.1)
    with pytest.raises(ValueError, match="step must be above that of the row before, 0, got 0"):
        probe.measure(0.1, 0)


def test_no_gap_is_a_warning_of_the_two_eigenvalues():
    x, y = gaussian_data(300, np.linspace(1.0, 0.9, 40))
    given = linear(np.ones(40)), half_square, as_tensors(x, y), 5
    with pytest.warns(RuntimeWarning, match=r"no visible gap at num_dominant = 5: lambda_5 = \d"):
        sa.network.measure_row(*given, batch_size=10)


def test_a_loss_that_is_nan_later_has_no_row_and_keeps_those_before():
    model = perceptron()
    model.train()
    probe = sa.network.Probe(model, CROSS_ENTROPY, classes(), 2, batch_size=5)
    probe.observe(0.1)
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="loss must be finite, got nan"):
        probe.measure(0.1)
    assert len(probe.trace) == 1
    assert model.training


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra torch)")
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "about .* eigenvalues are negative", RuntimeWarning)
            warnings.filterwarnings("ignore", "there is no visible gap", RuntimeWarning)
            exec(compile(block, "networks.md", "exec"), names)
    assert "| eta/eta* |" in capsys.readouterr().out
    assert len(names["trace"]) == 4
    assert len(names["beside"]) == 1_001
