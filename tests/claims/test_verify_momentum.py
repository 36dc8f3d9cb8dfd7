"""`verify` with momentum: every case comes up, true claims hold, formulas off by 5 % do not."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.claims.evidence import FALSE_ALARM
from suspalign_fast.claims.laws import BatchLaw, StepLaw, make_probed
from suspalign_fast.claims.single_steps import chance_error
from suspalign_fast.cli.commands import main
from suspalign_fast.engines.levels import LevelsEngine
from suspalign_fast.engines.step import StepEngine
from suspalign_fast.model.run import Run
from suspalign_fast.physics import formulas as physics
from suspalign_fast.physics import velocity as velocity_rows
from suspalign_fast.physics.row import Velocity

from ..helpers.random_problems import random_batches, random_momentum, verified

OPTIMIZERS = [sa.Momentum(0.9), sa.Momentum(0.9, nesterov=True)]
CASES = ("threshold", "reversed", "self-correction", "rises for every")
MEAN, DEVIATION, RISE = 6, 7, 8


@pytest.fixture
def problem():
    spectrum = sa.Spectrum.linear_bands(5000, 500, (100.0, 80.0), (4.0, 0.8))
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


@pytest.fixture(params=OPTIMIZERS, ids=["heavy ball", "Nesterov"])
def optimizer(request):
    return request.param


def report_of(problem, optimizer, **how):
    how = {"states": 12, "repeats": 8} | how
    return sa.verify(problem, 1e-3, 1000, optimizer=optimizer, **how)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["step", "jump", "levels"])
def test_every_claim_holds_with_evidence_in_all_four_cases(problem, optimizer, engine):
    report = report_of(problem, optimizer, engine=engine, repeats=3)
    assert [claim.verdict for claim in report.claims] == ["holds"] * 10
    assert all(c.name.startswith(n) for c, n in zip(report.claims, CASES, strict=False))
    for claim in report.claims:
        assert claim.right > 100
        assert claim.wrong_certain == 0


@pytest.mark.long
@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("wrong", ["C_2", "C_3", "V_2"])
def test_a_cross_sum_off_by_five_percent_is_caught(problem, optimizer, monkeypatch, wrong, factor):
    pull, push = velocity_rows.pull_term, velocity_rows.push_term
    if wrong == "C_2":
        monkeypatch.setattr(
            velocity_rows, "pull_term", lambda p, q, s, c: pull(p, q, s, factor * c)
        )
    else:
        c3, v2 = (factor, 1.0) if wrong == "C_3" else (1.0, factor)
        monkeypatch.setattr(
            velocity_rows, "push_term", lambda p, q, s, c, v: push(p, q, s, c3 * c, v2 * v)
        )
    report = report_of(problem, optimizer)
    assert report.claims[MEAN].verdict == "fails"


@pytest.mark.long
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_noise_constant_off_by_five_percent_is_caught(problem, optimizer, monkeypatch, factor):
    right = velocity_rows.for_odds

    def wrong(*row):
        sums, constants = right(*row)
        return sums, constants * np.array([1.0, factor, 1.0])

    monkeypatch.setattr(velocity_rows, "for_odds", wrong)
    report = report_of(problem, optimizer, repeats=16)
    assert report.claims[MEAN].verdict == "fails"


@pytest.mark.long
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_deviation_off_by_five_percent_is_caught(problem, optimizer, monkeypatch, factor):
    right = physics.predict_alignment

    def wrong(*row, **more):
        found = right(*row, **more)
        return found._replace(std=factor * found.std)

    monkeypatch.setattr(physics, "predict_alignment", wrong)
    report = report_of(problem, optimizer, repeats=16)
    assert [claim.verdict for claim in report.claims].count("fails") == 1
    assert report.claims[DEVIATION].verdict == "fails"


@pytest.mark.long
@pytest.mark.parametrize("off", [-0.1, 0.1])
@pytest.mark.parametrize("engine", ["step", "levels"])
def test_chances_of_a_rise_that_are_off_are_caught(problem, optimizer, monkeypatch, engine, off):
    right = physics.predict_alignment

    def wrong(*row, **more):
        found = right(*row, **more)
        return found._replace(probability=np.clip(found.probability + off, 0.0, 1.0))

    monkeypatch.setattr(physics, "predict_alignment", wrong)
    report = report_of(problem, optimizer, engine=engine)
    assert [claim.verdict for claim in report.claims].count("fails") == 1
    assert report.claims[RISE].verdict == "fails"


def test_broken_chances_of_few_directions_are_caught(monkeypatch):
    """All rises for falls: what laws of three cumulants may err by is allowed, not more."""
    right = physics.predict_alignment
    problem = sa.Quadratic(sa.Spectrum([10.0, 8.0, 2.0, 1.0, 0.5], 2), sa.IsotropicNoise(1.0))
    how = {"states": 10, "repeats": 8, "engine": "levels", "optimizer": sa.Momentum(0.9)}
    assert not sa.verify(problem, 0.02, 300, **how).failed

    def wrong(*row, **more):
        found = right(*row, **more)
        return found._replace(probability=1.0 - found.probability)

    monkeypatch.setattr(physics, "predict_alignment", wrong)
    report = sa.verify(problem, 0.02, 300, **how)
    assert report.claims[RISE].verdict == "fails"
    assert "what predictions may err by" in report.claims[RISE].detail


def test_the_margin_of_a_chance_is_what_a_law_of_three_cumulants_errs_by():
    """It grows where directions are few; single steps stay within it."""
    assert chance_error(0.0) == 0.01
    assert chance_error(1.0) == pytest.approx(0.03)
    assert chance_error(12.0) == 0.15


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("lam", "k", "noise", "optimizer"),
    [
        ([50.0, 3.0, 0.5, 0.03, 0.011, 0.007], 4, sa.HessianNoise(0.1), sa.Momentum(0.5)),
        ([10.0, 3.0, 1.0], 1, sa.IsotropicNoise(1.0), sa.Momentum(0.9, nesterov=True)),
        ([10.0, 9.0, 3.0, 1.0], 2, sa.IsotropicNoise(0.3), sa.Momentum(0.9, nesterov=True)),
    ],
)
def test_chances_of_few_directions_and_wide_spectra_hold(lam, k, noise, optimizer):
    """With so many repeats that nothing but the margin lets a chance err."""
    problem = sa.Quadratic(sa.Spectrum(lam, k), noise, 1.0)
    eta = 0.1 * optimizer.largest / lam[0]
    how = {"states": 4, "repeats": 40, "engine": "levels", "optimizer": optimizer}
    report = sa.verify(problem, eta, 200, **how)
    assert not report.failed, str(report)
    assert report.claims[RISE].right > 500


@pytest.mark.long
@pytest.mark.parametrize(("factor", "claim"), [(0.5, 0), (3.0, 0), (0.5, 1), (3.0, 1)])
def test_a_wrong_threshold_is_caught(problem, optimizer, monkeypatch, factor, claim):
    right = physics.critical_step_size
    monkeypatch.setattr(physics, "critical_step_size", lambda *row: factor * right(*row))
    assert report_of(problem, optimizer).claims[claim].verdict == "fails"


@pytest.mark.mostly_long
@pytest.mark.parametrize("claim", [0, 2])
def test_cases_that_are_taken_for_each_other_are_caught(problem, optimizer, monkeypatch, claim):
    """Thresholds for reversed ones, and rows that rise for those that fall."""
    reverses, critical = physics.is_reversed, physics.critical_step_size
    swapped = {0.0: np.inf, np.inf: 0.0}

    def wrong(*row):
        right = float(critical(*row))
        return swapped.get(right, right)

    if claim == 0:
        monkeypatch.setattr(physics, "is_reversed", lambda *row: not reverses(*row))
    else:
        monkeypatch.setattr(physics, "critical_step_size", wrong)
    report = report_of(problem, optimizer)
    verdicts = {report.claims[i].verdict for i in (claim, claim + 1)}
    assert "fails" in verdicts
    assert "holds" not in verdicts


@pytest.mark.long
@pytest.mark.parametrize(("factor", "claim"), [(1.3, 5), (0.7, 4)])
def test_wrong_loss_bounds_are_caught(problem, optimizer, monkeypatch, factor, claim):
    right = physics.loss_bound_terms

    def wrong(*sums):
        above, below = right(*sums)
        return factor * above, below

    monkeypatch.setattr(physics, "loss_bound_terms", wrong)
    assert report_of(problem, optimizer).claims[claim].verdict == "fails"


@pytest.mark.long
@pytest.mark.parametrize("engine", [StepEngine, LevelsEngine])
def test_steps_with_too_much_noise_are_caught(problem, optimizer, monkeypatch, engine):
    """Bulk gradients of 5 % too large a square after a step: the simulation, not the formula."""
    right = engine.sums_after

    def wrong(self, planes, noise_step, step_size, update):
        after = right(self, planes, noise_step, step_size, update)
        after[1, 1] *= 1.05
        return after

    monkeypatch.setattr(engine, "sums_after", wrong)
    name = "step" if engine is StepEngine else "levels"
    assert report_of(problem, optimizer, engine=name).claims[MEAN].verdict == "fails"


@pytest.mark.mostly_long
def test_a_wrong_law_of_the_run_is_caught(problem, optimizer, monkeypatch):
    right = theory.Levels.__init__

    def wrong(self, *arguments):
        right(self, *arguments)
        self.stds = self.spectrum.per_level((1.0, 1.25)) * self.stds

    monkeypatch.setattr(theory.Levels, "__init__", wrong)
    report = sa.verify(problem, 1e-3, 6_000, states=2, repeats=1, optimizer=optimizer)
    assert report.claims[-1].verdict == "fails"


def test_no_momentum_is_plain_sgd(problem):
    plain = sa.verify(problem, 1e-3, 100, states=4, repeats=2)
    none = sa.verify(problem, 1e-3, 100, states=4, repeats=2, optimizer=sa.Momentum(0.0))
    assert plain == none


def test_without_noise_every_outcome_is_certain(optimizer):
    spectrum = sa.Spectrum([3.0, 2.0, 1.0, 0.5], 2)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.0), [1.0, -2.0, 0.5, 3.0])
    report = sa.verify(problem, 0.1, 60, states=12, repeats=2, optimizer=optimizer)
    assert not report.failed
    assert all(claim.wrong == 0 for claim in report.claims)
    assert all(claim.right > 20 for claim in report.claims[:4])


@pytest.mark.long
def test_true_claims_do_not_fail():
    """Random problems, optimizers and step sizes; a long form is a study."""
    reports = [verified(number, random_momentum)[1] for number in range(30)]
    failed = [c for report in reports for c in report.claims if c.verdict == "fails"]
    assert failed == []


# --- the law of a step ---------------------------------------------------------------------------


SPECTRUM = sa.Spectrum([5.0, 4.0, 1.0, 0.2], 5, [2, 3, 20, 9])


@pytest.mark.parametrize("engine", ["step", "levels"])
@pytest.mark.parametrize("update", [(1.0, 1.0), (1.0, 0.5)])
def test_a_step_that_is_tried_is_a_step(optimizer, engine, update):
    problem = sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.3), initial=1.0)
    sizes = np.full(10, 0.05)
    run = Run(problem, sa.Schedule(sizes), 10, engine=engine, optimizer=optimizer, update=update)
    probed = make_probed(run)
    probed.initial_row()
    probed.advance(9)
    kept = {name: values.copy() for name, values in probed.planes.items()}
    tried = probed.sums_after(probed.planes, 9, 0.05, update)
    for name, values in kept.items():
        np.testing.assert_array_equal(probed.planes[name], values)
    row = probed.advance(1)
    np.testing.assert_allclose(tried[:, :4], row.power_sums[0], rtol=1e-12)
    np.testing.assert_allclose(probed.sums_of(probed.planes), tried, rtol=1e-12)


@pytest.mark.parametrize("engine", ["step", "levels"])
def test_states_are_scaled_and_multiplied_level_by_level(optimizer, engine):
    problem = sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.3), initial=1.0)
    probed = make_probed(Run(problem, 0.05, 10, engine=engine, optimizer=optimizer))
    probed.initial_row()
    probed.advance(5)
    law, lam = StepLaw(probed), SPECTRUM.eigenvalues
    products = law.products(probed.planes)
    sums = probed.sums_of(probed.planes)
    np.testing.assert_allclose((lam**2 * products[0])[:2].sum(), sums[0, 1], rtol=1e-13)
    scaled = law.products(probed.scaled(probed.planes, (2.0, 3.0), (-5.0, 7.0)))
    c, v = SPECTRUM.per_level((2.0, 3.0)), SPECTRUM.per_level((-5.0, 7.0))
    np.testing.assert_allclose(scaled, products * np.array([c * c, c * v, v * v]), rtol=1e-13)


@pytest.mark.parametrize("engine", ["step", "levels"])
def test_the_law_of_a_step_has_the_mean_of_its_row(optimizer, engine):
    """Level by level, and from the sums of the state."""
    problem = sa.Quadratic(SPECTRUM, sa.IsotropicNoise(0.3), initial=1.0)
    probed = make_probed(Run(problem, 0.05, 10, engine=engine, optimizer=optimizer))
    probed.initial_row()
    row = probed.advance(5)
    law, constants = StepLaw(probed), problem.noise_constants
    velocity = Velocity(row.cross_sums[-1], optimizer.factors.pull, optimizer.factors.carry)
    sums, noise = velocity_rows.for_odds(row.power_sums[-1], constants, velocity)
    expected = sums[:, 1] - 2.0 * 0.07 * sums[:, 2] + 0.07**2 * (sums[:, 3] + noise[:, 1])
    m_sq, v = law.gradient_after(law.products(probed.planes), 0.07)
    terms = m_sq + law.count * v
    np.testing.assert_allclose([terms[:2].sum(), terms[2:].sum()], expected, rtol=1e-12)


@pytest.mark.mostly_long
@pytest.mark.parametrize("batch", [1, 8, 1000])
def test_cumulants_of_a_step_on_batches_are_those_of_many(batch, optimizer):
    problem = sa.Quadratic(SPECTRUM, sa.DataNoise(batch, 0.5))
    eta = 0.3 * theory.stability(problem, 0.0, optimizer=optimizer).largest
    engine = make_probed(Run(problem, eta, 10, engine="levels", optimizer=optimizer))
    engine.initial_row()
    engine.advance(4)
    law, state = BatchLaw(engine), engine.planes
    before = engine.sums_of(state)[:, 1]
    form = law._of_bands(1.0 / before[0], -1.0 / before[1]) * law.lam**2
    found = law.cumulants(law.products(state), eta, form, 0.0)
    after = [engine.sums_after(state, 100 + t, eta, (1.0, 1.0))[:, 1] for t in range(20_000)]
    ratios = np.array(after) / before
    off = ratios[:, 0] - ratios[:, 1] - found.mean
    assert abs(off.mean()) < 4.5 * np.sqrt(found.variance / off.size)
    for power, cumulant in ((2, found.variance), (3, found.third)):
        x = off**power
        assert abs(x.mean() - cumulant) < 5.0 * x.std() / np.sqrt(x.size)


@pytest.mark.long
def test_signs_are_verified_under_mini_batches(optimizer):
    spectrum = sa.Spectrum.linear_bands(2000, 200, (100.0, 80.0), (4.0, 0.8))
    problem = sa.Quadratic(spectrum, sa.DataNoise(200, 0.5), initial=1.0)
    eta = 0.3 * theory.stability(problem, 0.0, optimizer=optimizer).largest
    how = {"states": 5, "repeats": 2, "engine": "levels", "optimizer": optimizer}
    report = sa.verify(problem, eta, 300, **how)
    assert [claim.verdict for claim in report.claims] == ["holds"] * 6
    assert all(claim.right > 10 for claim in report.claims)


# --- input and command line ----------------------------------------------------------------------


def test_bad_input_is_named(problem):
    ball = sa.Momentum(0.9)
    with pytest.raises(ValueError, match=r"step_size must be below 3.8 / lambda"):
        sa.verify(problem, 1.0, 10, optimizer=ball)
    with pytest.raises(ValueError, match=r"optimizer must be SGD\(\) or Momentum"):
        sa.verify(problem, 1e-3, 10, optimizer=0.9)


def run(*arguments):
    common = (
        "verify",
        "--two-level",
        "300,30,10,1",
        "--noise",
        "isotropic:0.5",
        "--engine",
        "levels",
    )
    sizes = (
        "--step-size",
        "0.01",
        "--steps",
        "100",
        "--states",
        "4",
        "--engine",
        "levels",
        "--quiet",
    )
    return CliRunner().invoke(main, [*common, *sizes, *arguments])


def test_command_line():
    for nesterov in ([], ["--nesterov"]):
        result = run("--momentum", "0.9", *nesterov, "--json")
        assert result.exit_code == 0, result.output
        report = json.loads(result.output)
        assert len(report["claims"]) == 10
        assert report["false_alarm"] == FALSE_ALARM
    assert len(json.loads(run("--json").output)["claims"]) == 5
    assert "reversed: rises below" in run("--momentum", "0.9").output


def test_command_line_names_bad_input():
    for arguments, message in (
        (["--nesterov"], "--nesterov must go with --momentum, and there is none"),
        (["--momentum", "1.5"], "--momentum must be from 0 to below 1, got 1.5"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.output + (result.stderr or "")


@pytest.mark.long
def test_verified_under_batches_of_any_kind():
    rng = np.random.default_rng(0)
    for _ in range(6):
        problem, _ = random_batches(rng)
        optimizer = sa.Momentum(0.7, nesterov=bool(rng.integers(2)))
        eta = 0.4 * theory.stability(problem, 0.0, optimizer=optimizer).largest
        how = {"states": 4, "repeats": 2, "engine": "levels", "optimizer": optimizer}
        assert not sa.verify(problem, eta, 50, **how).failed
