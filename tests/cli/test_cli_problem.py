"""Problems on the command line: every family is the call in Python, every bad one a sentence."""

import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast.cli.commands import main
from suspalign_fast.model.spectrum.named import FAMILIES

EIGENVALUES = np.r_[np.linspace(1.0, 2.0, 30), 90.0, 80.0]


@pytest.fixture
def suspalign(tmp_path, monkeypatch):
    """A function that runs the command line in an empty folder with files of eigenvalues."""
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", EIGENVALUES)
    np.save("small.npy", np.linspace(3, 1, 4).astype(np.float32))
    np.save("square.npy", np.ones((3, 3)))
    np.save("complex.npy", np.ones(3) * 1j)
    np.save("negative.npy", np.array([2.0, -1.0]))
    np.save("objects.npy", np.array([Evil(), 1], dtype=object), allow_pickle=True)
    np.savez("many.npz", a=EIGENVALUES)
    whole = (tmp_path / "good.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-8])
    (tmp_path / "huge.npy").write_bytes(header("{'descr': '<f8', 'fortran_order': False, "
                                               "'shape': (1000000000000000,), }"))  # fmt: skip
    (tmp_path / "text.npy").write_text("1, 2, 3")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "folder.npy").mkdir()
    sa.Spectrum.two_level(100, 3, 5.0, 1.0).save("spectrum.h5")

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


def header(text):
    line = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line


class Evil:
    def __reduce__(self):
        return open, ("ran", "w")


def run(suspalign, *problem):
    return suspalign("run", *problem, "--noise", "isotropic:0.5", "--step-size", "0.003",
                     "--steps", "5", "--no-plot", "--quiet", "--overwrite")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "make"),
    [
        (
            ("--linear-bands", "500,50,100..80,7..1,gap_ratio=10"),
            lambda: sa.Spectrum.linear_bands(500, 50, (100, 80), (7, 1), gap_ratio=10),
        ),
        (("--linear-bands", "num-dominant=5,dim=40"), lambda: sa.Spectrum.linear_bands(40, 5)),
        (("--power-law", "1e3,10,1.5"), lambda: sa.Spectrum.power_law(1000, 10, 1.5)),
        (
            ("--power-law", "1e6,10,1.5,gap_ratio=3,num_levels=60"),
            lambda: sa.Spectrum.power_law(10**6, 10, 1.5, gap_ratio=3, num_levels=60),
        ),
        (("--two-level", "100,3,5,0.5"), lambda: sa.Spectrum.two_level(100, 3, 5.0, 0.5)),
        (
            ("--eigenvalues", "good.npy", "--num-dominant", "2"),
            lambda: sa.Spectrum(np.sort(EIGENVALUES)[::-1], 2),
        ),
        (
            ("--eigenvalues", "small.npy", "--num-dominant", "1"),
            lambda: sa.Spectrum(np.linspace(3, 1, 4).astype(np.float32).astype(float), 1),
        ),
        (("--spectrum", "spectrum.h5"), lambda: sa.Spectrum.two_level(100, 3, 5.0, 1.0)),
    ],
)
def test_a_family_is_the_call_in_python(suspalign, options, make):
    result = run(suspalign, *options)
    assert result.exit_code == 0, result.output
    trace = sa.load_trace("trace.h5")
    assert trace.run.problem.spectrum == make()
    problem = sa.Quadratic(make(), sa.IsotropicNoise(0.5), initial=10.0)
    np.testing.assert_array_equal(trace.loss, sa.simulate(problem, 0.003, 5).loss)
    assert f"d = {make().dim:,}" in result.stdout


def test_verify_takes_families(suspalign):
    result = suspalign("verify", "--two-level", "200,20,10,1", "--noise", "isotropic", "--steps",
                       "500", "--states", "3", "--step-size", "0.01", "--quiet")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "two_level 200,20,10,1: d = 200, k = 20" in result.output


def test_help_shows_every_family_with_an_example(suspalign):
    for command in ("run", "verify"):
        text = " ".join(suspalign(command, "--help").output.split())
        for family in FAMILIES.values():
            assert family.example in text
            assert all(name in text for name in family.parameters if name != "path")


BAD = [
    (("--linear-bands", "500"), "--linear-bands 500: linear_bands needs num_dominant, got dim"),
    (("--linear-bands", "5,50"), "--linear-bands 5,50: num_dominant must be below dim = 5, got 50"),
    (("--linear-bands", "500,fifty"), "gap_ratio=10, got '500,fifty': num_dominant must be a"),
    (("--linear-bands", "500,50,size=3"), "got '500,50,size=3': 'size=3' is none of its values"),
    (("--linear-bands", "500,50,dim=3"), "dim is there twice"),
    (("--linear-bands", "dim=500,50"), "'50' is none of its values"),
    (("--linear-bands", ""), "--linear-bands must be dim, num_dominant, dominant, bulk"),
    (("--linear-bands", "500,50,80..100"), "dominant must be a pair (largest, smallest), got (80"),
    (("--linear-bands", "500,50,1..2..3"), "dominant must be a number or a pair like 100..80"),
    (("--linear-bands", "500,50,100..80,7..1,gap_ratio=1"), "gap_ratio must be above 1"),
    (("--linear-bands", "500.5,50"), "--linear-bands 500.5,50: dim must be an integer"),
    (("--linear-bands", "1e400,50"), "dim must be an integer of at least 2"),
    (("--linear-bands", "nan,50"), "dim must be an integer of at least 2"),
    (("--linear-bands", "1e17,50"), "a spectrum of 100,000,000,000,000,000 different eigenvalues"),
    (("--power-law", "100,10,-1"), "exponent must be a finite number above zero"),
    (("--two-level", "100,10,1..2,1"), "dominant must be a finite number"),
    (("--two-level", "100,10,1,2"), "bulk must be below dominant = 1"),
    (("--two-level", "100,10,2,1", "--linear-bands", "9,2"),
     "one source of its spectrum, got --linear-bands 9,2 and --two-level 100,10,2,1"),
    (("--two-level", "100,10,2,1", "--num-dominant", "3"), "--num-dominant must go with --eig"),
    (("--spectrum", "spectrum.h5", "--num-dominant", "3"), "--num-dominant must go with --eig"),
    (("--eigenvalues", "good.npy"), "--eigenvalues good.npy must have --num-dominant K"),
    (("--eigenvalues", "good.npy", "--num-dominant", "32"), "num_dominant must be below the dim"),
    (("--eigenvalues", "good.npy", "--num-dominant", "0"), "num_dominant must be an integer of"),
    (("--eigenvalues", "missing.npy", "--num-dominant", "1"), "missing.npy does not exist"),
    (("--eigenvalues", "folder.npy", "--num-dominant", "1"), "does not exist or cannot be read"),
    (("--eigenvalues", "square.npy", "--num-dominant", "1"), "got shape (3, 3) and dtype float64"),
    (("--eigenvalues", "complex.npy", "--num-dominant", "1"), "and dtype complex128"),
    (("--eigenvalues", "negative.npy", "--num-dominant", "1"), "eigenvalues must not be negative"),
    (("--eigenvalues", "objects.npy", "--num-dominant", "1"), "got pickled objects"),
    (("--eigenvalues", "many.npz", "--num-dominant", "1"), "got no .npy file"),
    (("--eigenvalues", "text.npy", "--num-dominant", "1"), "got no .npy file"),
    (("--eigenvalues", "empty.npy", "--num-dominant", "1"), "got no .npy file"),
    (("--eigenvalues", "cut.npy", "--num-dominant", "1"), "got one cut off at"),
    (("--eigenvalues", "huge.npy", "--num-dominant", "1"), "got one cut off at"),
    (("--noise", "data"), "--noise must be one of isotropic, hessian, data:BATCH_SIZE,LABEL_STD"),
    (("--noise", "pink"), "--noise must be one of"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_bad_problem_is_one_sentence_and_exit_status_2(suspalign, command, options, message):
    result = suspalign(command, *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert not Path("ran").exists()
