import json

import numpy as np
import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast import power_sums as physics
from suspalign_fast.cli import main
from suspalign_fast.verify import Claim


@pytest.fixture
def problem():
    spectrum = sa.Spectrum.linear_bands(5000, 500, (100.0, 80.0), (4.0, 0.8))
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


@pytest.mark.parametrize("engine", ["step", "jump", "levels"])
def test_every_claim_holds_with_evidence(problem, engine):
    report = sa.verify(problem, 3e-3, 1000, states=20, repeats=4, engine=engine)
    assert not report.failed
    assert [claim.verdict for claim in report.claims] == ["holds"] * 5
    for claim in report.claims:
        assert claim.right > 100
        assert claim.wrong_certain == 0
    assert "two phases" in str(report)


@pytest.mark.parametrize(
    ("name", "claim"), [("critical_terms", 0), ("loss_bound_terms", 2), ("loss_bound_terms", 3)]
)
def test_a_wrong_formula_is_caught(problem, monkeypatch, name, claim):
    right = getattr(physics, name)

    def wrong(*sums):
        numerator, denominator = right(*sums)
        return (0.3 if claim == 2 else 3.0) * numerator, denominator

    monkeypatch.setattr(physics, name, wrong)
    report = sa.verify(problem, 3e-3, 300, states=10, repeats=2)
    assert report.failed
    assert report.claims[claim].verdict == "fails"


def test_verdicts():
    assert Claim("none", open=5).verdict == "open"
    assert Claim("right", right=999, wrong=1).verdict == "holds"
    assert Claim("wrong", right=998, wrong=3).verdict == "fails"
    assert Claim("certain", right=9999, wrong=1, wrong_certain=1).verdict == "fails"


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
    assert len(report["claims"]) == 5


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
    with pytest.raises(ValueError, match="engine must be one of step, jump, levels"):
        sa.verify(problem, 1e-3, 10, engine="reference")
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 1"):
        sa.verify(problem, 1e-3, 0)
