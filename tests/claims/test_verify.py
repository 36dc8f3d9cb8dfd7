import json

import numpy as np
import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.claims.evidence import FALSE_ALARM, Claim, at_least
from suspalign_fast.claims.whole_runs import _RunLaw
from suspalign_fast.cli.commands import main
from suspalign_fast.physics import formulas as physics

from ..helpers.random_problems import random_batches, verified


@pytest.fixture
def problem():
    spectrum = sa.Spectrum.linear_bands(5000, 500, (100.0, 80.0), (4.0, 0.8))
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "jump", "levels"])
def test_every_claim_holds_with_evidence(problem, engine):
    report = sa.verify(problem, 3e-3, 1000, states=20, repeats=4, engine=engine)
    assert not report.failed
    assert [claim.verdict for claim in report.claims] == ["holds"] * 5
    for claim in report.claims:
        assert claim.right > 100
        assert claim.wrong_certain == 0
        assert claim.p_value > FALSE_ALARM
    assert "two phases" in str(report)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("name", "factor", "claim"),
    [
        ("critical_terms", 0.5, 0),
        ("critical_terms", 3.0, 0),
        ("loss_bound_terms", 1.5, 3),
        ("loss_bound_terms", 1.0 / 1.5, 2),
        ("loss_bound_terms", 0.3, 2),
        ("loss_bound_terms", 3.0, 3),
    ],
)
def test_a_wrong_formula_is_caught(problem, monkeypatch, name, factor, claim):
    right = getattr(physics, name)

    def wrong(*sums):
        numerator, denominator = right(*sums)
        return factor * numerator, denominator

    monkeypatch.setattr(physics, name, wrong)
    report = sa.verify(problem, 3e-3, 300, states=10, repeats=2)
    assert report.failed
    assert report.claims[claim].verdict == "fails"
    assert report.claims[claim].p_value < FALSE_ALARM


def test_noise_left_out_of_the_critical_step_size_is_caught(problem, monkeypatch):
    right = physics.critical_step_size

    def without_noise(sums, constants, *update):
        return right(sums, 0.0 * constants, *update)

    monkeypatch.setattr(physics, "critical_step_size", without_noise)
    report = sa.verify(problem, 3e-3, 300, states=10, repeats=2)
    assert report.claims[0].verdict == "fails"


@pytest.mark.parametrize("engine", ["step", "levels"])
def test_a_wrong_stationary_noise_is_caught(problem, monkeypatch, engine):
    """The law that rows are compared with has 1.25 times the bulk noise of the run."""
    right = theory.Levels.__init__

    def wrong(self, *arguments):
        right(self, *arguments)
        self.push = self.spectrum.per_level((1.0, 1.25)) * self.push

    monkeypatch.setattr(theory.Levels, "__init__", wrong)
    report = sa.verify(problem, 3e-3, 6_000, states=2, repeats=1, engine=engine)
    assert report.claims[4].verdict == "fails"


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_wrong_exact_mean_is_caught(problem, monkeypatch, factor):
    right = theory.Levels._alignment

    def wrong(self, *arguments):
        mean, std = right(self, *arguments)
        return factor * mean, std

    monkeypatch.setattr(theory.Levels, "_alignment", wrong)
    report = sa.verify(problem, 3e-3, 2_000, states=2, repeats=1, engine="levels")
    assert report.claims[4].verdict == "fails"
    assert "the exact mean is not that of the law" in report.claims[4].detail


def test_single_steps_that_go_wrong_are_caught(problem, monkeypatch):
    """Steps after which the squared bulk gradient is three times what it should be."""
    from suspalign_fast.engines.levels import LevelsEngine

    right = LevelsEngine.sums_after

    def wrong(self, state, noise_step, step_size, update):
        after = right(self, state, noise_step, step_size, update)
        after[1, 1] *= 3.0
        return after

    monkeypatch.setattr(LevelsEngine, "sums_after", wrong)
    report = sa.verify(problem, 3e-3, 300, states=10, repeats=2, engine="levels")
    assert report.claims[0].verdict == "fails"


@pytest.mark.long
def test_true_claims_do_not_fail():
    """Random problems with and without noise, of 2 to 10^9 directions; a long form is a study."""
    failed = [
        (number, how, claim)
        for number in range(40)
        for how, report in [verified(number)]
        for claim in report.claims
        if claim.verdict == "fails"
    ]
    assert failed == []


@pytest.mark.parametrize("initial", [1.0, [1.0, -2.0, 0.5, 3.0]])
def test_without_noise_every_outcome_is_certain(initial):
    spectrum = sa.Spectrum([3.0, 2.0, 1.0, 0.5], 2)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.0), initial)
    report = sa.verify(problem, 0.1, 400, states=12, repeats=2)
    assert [claim.verdict for claim in report.claims] == [
        "holds",
        "open",
        "holds",
        "holds",
        "holds",
    ]
    assert all(claim.wrong == 0 for claim in report.claims[:4])


def test_an_alignment_that_rounds_to_one_is_no_evidence_against_it():
    """1 - A is 1e-20 and less: below the rounding of A, not of the bulk's own sum."""
    spectrum = sa.Spectrum([1e10, 1.0], 1_000, [1_000, 1_000])
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), initial=1.0)
    report = sa.verify(problem, 1e-11, 100, states=10, repeats=2, engine="levels")
    assert not report.failed
    assert report.claims[4].right > 10


@pytest.mark.parametrize(
    ("lam", "noise", "initial"),
    [
        ([10.0, 1.0], sa.IsotropicNoise(1e-17), 1.0),
        ([10.0, 1.0], sa.IsotropicNoise(1e-3), 1e15),
        ([10.0, 1.0], sa.IsotropicNoise(1e-12), 1.0),
        ([10.0, 1.0, 1e-15], sa.DiagonalNoise([0.0, 0.0, 1.0]), 1.0),
        ([10.0, 1.0, 1e-9], sa.DiagonalNoise([0.0, 0.0, 1.0]), 1e6),
    ],
)
@pytest.mark.parametrize("optimizer", [sa.SGD(), sa.Momentum(0.9)])
def test_noise_below_rounding_is_verified_in_no_time(lam, noise, initial, optimizer, monkeypatch):
    calls = []
    right = _RunLaw._tails

    def counted(self, distance):
        calls.append(distance)
        assert len(calls) < 2_000, "the steps of an integral drown in rounding"
        return right(self, distance)

    monkeypatch.setattr(_RunLaw, "_tails", counted)
    problem = sa.Quadratic(sa.Spectrum(lam, 1), noise, np.full(len(lam), initial))
    how = {"states": 3, "repeats": 2, "engine": "levels", "optimizer": optimizer}
    report = sa.verify(problem, 1e-2, 5, **how)
    assert not report.failed
    assert report.claims[-1].verdict == "holds"


@pytest.mark.parametrize("std", [1e-10, 1e-7, 1.01e-5, 1e-3])
def test_shares_of_narrow_and_wide_laws_agree_with_theory(std):
    spectrum = sa.Spectrum([10.0, 9.0, 1.0], 2)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(std), [1.0, 2.0, 3.0])
    size, steps = sa.Schedule(np.full(20, 1e-2)), np.array([0, 20])
    law = _RunLaw(problem, size, steps, sa.SGD())
    law.move_to(1)
    mean, deviation = law._mean_share(True)
    exact = theory.expected(problem, size, steps)
    assert mean == pytest.approx(exact.alignment_mean[1], rel=1e-8)
    assert deviation == pytest.approx(exact.alignment_std[1], rel=1e-2)


def test_chances_of_counts():
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.0, 0.2, 30)
    happened = (rng.random((200_000, 30)) < chances).sum(1)
    for count in (0, 1, 3, 6):
        expected = (happened >= count).mean()
        assert at_least(count, chances) == pytest.approx(expected, abs=4e-3)
    assert at_least(2, np.array([1e-9, 1e-9, 0.0])) == pytest.approx(1e-18, abs=0)
    assert at_least(1, np.zeros(5)) == 0.0
    assert at_least(3, np.full(1_000, 1e-3)) == pytest.approx(0.0802, abs=1e-3)


def test_verdicts():
    assert Claim("none", open=5).verdict == "open"
    assert Claim("right", right=999, wrong=1, p_value=0.3).verdict == "holds"
    assert Claim("rare", right=999, wrong=1, p_value=2e-4).verdict == "holds"
    assert Claim("wrong", right=998, wrong=3, p_value=5e-5).verdict == "fails"


@pytest.mark.long
@pytest.mark.parametrize(("k", "multiple"), [(2, 0.5), (2, 2.0), (9, 4.0), (50, 1.2)])
def test_z_is_the_normal_score_of_the_direction_even_with_few_directions(k, multiple):
    """The fraction of rising steps is Phi(z)."""
    from scipy import stats

    rng = np.random.default_rng(k)
    spectrum = sa.Spectrum.linear_bands(k + 400, k, (10.0, 6.0), (2.0, 0.5))
    c = rng.normal(size=k + 400) * np.where(np.arange(k + 400) < k, 0.3, 1.0)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), initial=c)
    eta = multiple * float(sa.simulate(problem, 1e-3, 0).critical_step_size[0])
    runs = [sa.simulate(problem, eta, 1, seed=seed) for seed in range(3000)]
    rising = np.mean([run.alignment[1] > run.alignment[0] for run in runs])
    z = float(runs[0].predicted.z[0])
    assert rising == pytest.approx(stats.norm.cdf(z), abs=0.03)


def test_predicted_mean_and_deviation_agree_with_simulated_steps():
    rng = np.random.default_rng(3)
    spectrum = sa.Spectrum.linear_bands(3000, 400, (10.0, 8.0), (2.0, 0.5))
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.5), initial=rng.normal(size=3000))
    runs = [sa.simulate(problem, 0.05, 1, seed=seed) for seed in range(800)]
    predicted = runs[0].predicted
    after = np.array([run.alignment[1] for run in runs])
    assert abs(after.mean() - predicted.mean[0]) < 5 * after.std() / np.sqrt(800) + 1e-4
    assert after.std() == pytest.approx(predicted.std[0], rel=0.15)
    assert predicted.change[0] == pytest.approx(predicted.mean[0] - runs[0].alignment[0])


def test_command_line(tmp_path, problem):
    path = tmp_path / "spectrum.h5"
    problem.spectrum.save(path)
    arguments = ["verify", "--spectrum", str(path), "--noise", "isotropic", "--noise-std", "0.5",
                 "--step-size", "0.003", "--steps", "300", "--states", "8", "--quiet"]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.count("holds") == 5
    result = CliRunner().invoke(main, [*arguments, "--json"])
    report = json.loads(result.output)
    assert report["failed"] is False
    assert report["false_alarm"] == FALSE_ALARM
    assert len(report["claims"]) == 5
    assert all(0.0 <= claim["p_value"] <= 1.0 for claim in report["claims"])
    text = " ".join(CliRunner().invoke(main, ["verify", "--help"]).output.split())
    assert "in fewer than 1 of 10,000 cases" in text


def test_command_line_fails_when_a_claim_fails(tmp_path, problem, monkeypatch):
    path = tmp_path / "spectrum.h5"
    problem.spectrum.save(path)
    monkeypatch.setattr(Claim, "verdict", property(lambda self: "fails"))
    arguments = ["verify", "--spectrum", str(path), "--step-size", "0.003", "--steps", "20",
                 "--states", "2", "--quiet"]  # fmt: skip
    assert CliRunner().invoke(main, arguments).exit_code == 1


def test_bad_input_is_named(problem):
    with pytest.raises(ValueError, match="step_size must be below 2 / lambda"):
        sa.verify(problem, 1.0, 10)
    with pytest.raises(ValueError, match="engine must be one of 'step', 'jump', 'levels'"):
        sa.verify(problem, 1e-3, 10, engine="reference")
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 1"):
        sa.verify(problem, 1e-3, 0)


def test_an_engine_says_whether_it_can_be_probed(problem, monkeypatch):
    from suspalign_fast.engines.levels import LevelsEngine
    from suspalign_fast.engines.reference import ReferenceEngine

    monkeypatch.setattr(LevelsEngine, "can_be_probed", False)
    with pytest.raises(ValueError, match="engine must be one of 'step', 'jump', got 'levels'"):
        sa.verify(problem, 3e-3, 10, engine="levels")
    monkeypatch.setattr(ReferenceEngine, "can_be_probed", True)
    with pytest.raises(TypeError, match="engine 'reference' cannot try single steps"):
        sa.verify(problem, 3e-3, 10, engine="reference")


# --- mini-batches of data ----------------------------------------------------------------------


@pytest.fixture
def batches():
    spectrum = sa.Spectrum.linear_bands(2000, 200, (100.0, 80.0), (4.0, 0.8))
    return sa.Quadratic(spectrum, sa.DataNoise(200, 0.5), initial=1.0)


def stable_step(problem):
    return 0.3 * theory.stability(problem, 0.0).largest


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "levels"])
def test_every_claim_holds_under_data_noise(batches, engine):
    report = sa.verify(batches, stable_step(batches), 600, states=6, repeats=2, engine=engine)
    assert [claim.verdict for claim in report.claims] == ["holds"] * 5
    for claim in report.claims:
        assert claim.right > 10
        assert claim.p_value > FALSE_ALARM
    assert "two phases: steps follow" in str(report)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("name", "factor", "claim"),
    [("critical_terms", 0.5, 0), ("critical_terms", 3.0, 0), ("loss_bound_terms", 3.0, 3)],
)
def test_a_wrong_formula_is_caught_under_data_noise(batches, monkeypatch, name, factor, claim):
    right = getattr(physics, name)

    def wrong(*sums):
        numerator, denominator = right(*sums)
        return factor * numerator, denominator

    monkeypatch.setattr(physics, name, wrong)
    report = sa.verify(batches, stable_step(batches), 600, states=6, repeats=2, engine="levels")
    assert report.claims[claim].verdict == "fails"


@pytest.mark.mostly_long
@pytest.mark.parametrize("part", ["kd", "rho"])
def test_a_wrong_kernel_is_caught_under_data_noise(batches, monkeypatch, part):
    """Batches of another size than the problem says, and labels of other noise."""
    from suspalign_fast.engines import levels as engine
    from suspalign_fast.kernels.batches import make_batches

    noise = {"kd": sa.DataNoise(100, 0.5), "rho": sa.DataNoise(200, 60.0)}[part]
    monkeypatch.setattr(
        engine,
        "batches_of",
        lambda problem: make_batches(noise.batch_size, noise.label_std, problem.noise_constants),
    )
    report = sa.verify(batches, stable_step(batches), 600, states=6, repeats=2, engine="levels")
    assert report.claims[4].verdict == "fails"


@pytest.mark.long
def test_few_false_alarms_under_data_noise():
    reports = [verified(number, random_batches)[1] for number in range(20)]
    judged = [claim for report in reports for claim in report.claims if claim.verdict != "open"]
    assert len(judged) > 30
    assert not any(claim.verdict == "fails" for claim in judged)


@pytest.mark.mostly_long
@pytest.mark.parametrize("batch", [1, 8, 1000])
def test_cumulants_of_a_step_are_those_of_many(batch):
    from suspalign_fast.claims.laws import BatchLaw, make_probed
    from suspalign_fast.model.run import Run

    spectrum = sa.Spectrum([5.0, 4.0, 1.0, 0.2], 5, [2, 3, 20, 9])
    problem = sa.Quadratic(spectrum, sa.DataNoise(batch, 0.5))
    eta = 0.3 * theory.stability(problem, 0.0).largest
    engine = make_probed(Run(problem, eta, 10, engine="levels"))
    engine.initial_row()
    law, state = BatchLaw(engine), engine.planes
    before = engine.sums_of(state)[:, 1]
    form = law._of_bands(1.0 / before[0], -1.0 / before[1]) * law.lam**2
    found = law.cumulants(law.products(state), eta, form, 0.0)
    after = [engine.sums_after(state, t, eta, (1.0, 1.0))[:, 1] for t in range(20_000)]
    ratios = np.array(after) / before
    change = ratios[:, 0] - ratios[:, 1]
    assert abs(change.mean() - found.mean) < 4.5 * np.sqrt(found.variance / change.size)
    square = (change - found.mean) ** 2
    assert abs(square.mean() - found.variance) < 4.5 * square.std() / np.sqrt(change.size)
    cube = (change - found.mean) ** 3
    assert abs(cube.mean() - found.third) < 5.0 * cube.std() / np.sqrt(change.size)
