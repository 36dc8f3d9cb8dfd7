"""Studies that may be anything load as they were or are refused with one error that names them."""

import json
import os
import shutil

import h5py
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.cli.commands import main
from suspalign_fast.studies.reading import read_study

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
CliRunner = pytest.importorskip("click.testing").CliRunner

AXES = {"gap_ratio": [5.0, 50.0], "engine": ["step", "levels"]}


def case(gap_ratio):
    spectrum = sa.Spectrum.two_level(50, 5, gap_ratio, 1.0)
    return sa.Quadratic(spectrum, initial=10.0), {"step_size": 1e-3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("studies") / "whole.nc"
    sa.sweep(case, AXES, 20, seeds=[0, 1], path=path, theory=True).close()
    return path


@pytest.fixture
def path(whole, tmp_path):
    return shutil.copyfile(whole, tmp_path / "study.nc")


def assert_refused(path, reason):
    """Opening, describing and sweeping refuse it with one sentence; the file stays."""
    before = path.read_bytes()
    for call in (
        lambda: sa.open_study(path).load(),
        lambda: sa.sweep(case, AXES, 20, seeds=[0, 1, 2], path=path, theory=True),
    ):
        with pytest.raises(OSError, match=reason) as raised:
            call()
        assert str(path) in str(raised.value)
    result = CliRunner().invoke(main, ["info", str(path)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert path.read_bytes() == before


def assert_same(path, whole):
    with sa.open_study(path) as found, sa.open_study(whole) as expected:
        assert found.load().drop_attrs().identical(expected.load().drop_attrs())


def tagged(node, name, shape=()):
    """Add an attribute whose type is tagged as the address of a Python object."""
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O")
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    made = h5py.h5a.create(node.id, name, kind, space)
    made.write(np.full(shape, b"AAAAAAAA", "V8"), kind)


def test_addresses_of_objects_are_left_where_they_are(path, whole):
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O")
    with h5py.File(path, "r+") as file:
        tagged(file, b"x")
        tagged(file["loss"], b"x")
        h5py.h5d.create(file.id, b"mine", kind, h5py.h5s.create_simple((3,)))
    with sa.open_study(path) as study:
        assert "x" not in study.attrs
        assert "x" not in study.loss.attrs
        assert study.attrs["left_out"] == "mine"
    assert_same(path, whole)


@pytest.mark.parametrize("kind", ["numbers", "objects", "nothing"])
def test_lists_of_dimensions_are_never_read(path, whole, kind):
    with h5py.File(path, "r+") as file:
        for name in ("loss", "status", "exact_loss_mean"):
            del file[name].attrs["DIMENSION_LIST"]
            if kind == "numbers":
                file[name].attrs["DIMENSION_LIST"] = np.arange(4.0)
            elif kind == "objects":
                tagged(file[name], b"DIMENSION_LIST", (4,))
    assert_same(path, whole)


@pytest.mark.parametrize("name", ["loss", "gap_ratio", "exact_loss_mean"])
def test_values_of_other_files_are_never_read(path, name):
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    for outside in (pipe, "/etc/passwd"):
        with h5py.File(path, "r+") as file:
            shape = file[name].shape
            del file[name]
            file.create_dataset(
                name, shape, "f8", external=[(str(outside), 0, 8 * int(np.prod(shape)))]
            )
        assert_refused(path, "elsewhere")


@pytest.mark.parametrize("name", ["loss", "exact_loss_std", "step"])
def test_parts_that_claim_many_steps_take_no_memory(path, name):
    with h5py.File(path, "r+") as file:
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        chunks = (*shape[:-1], 8192)
        file.create_dataset(name, (*shape[:-1], 10**7), kind, chunks=chunks)
    assert_refused(path, "damaged study")


@pytest.mark.parametrize("name", ["gap_ratio", "engine", "seed", "step"])
def test_coordinates_are_those_of_the_description(path, name):
    with h5py.File(path, "r+") as file:
        values = file[name][()]
        file[name][...] = values[::-1] if values.dtype.kind == "O" else values + 1
    assert_refused(path, f"coordinate '{name}' is not that of its description")


def test_axes_in_the_description_are_those_of_the_file(path):
    with h5py.File(path, "r+") as file:
        study = json.loads(file.attrs["study"])
        study["axes"]["gap_ratio"] = [5.0, 500.0]
        file.attrs["study"] = np.bytes_(json.dumps(study))
    assert_refused(path, "coordinate 'gap_ratio' is not that of its description")


@pytest.mark.parametrize("name", ["loss", "alignment", "exact_loss_mean"])
def test_a_flipped_bit_in_a_value_is_noticed(path, name):
    with h5py.File(path, "r+") as file:
        offset = file[name].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 8] ^= 1
    path.write_bytes(data)
    assert_refused(path, f"'{name}' at .* is not what was written")
    with sa.open_study(path) as study:  # what is whole is there
        assert np.isfinite(study["loss" if name == "alignment" else "alignment"]).all()


def test_one_flipped_bit_among_the_attributes_is_one_sentence(path):
    data = path.read_bytes()
    first = data.index(b"suspalign-study")
    for at in (first, first - 20, data.index(b"num_steps")):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        assert_refused(path, "damaged")
        result = CliRunner().invoke(main, ["info", str(path)])
        assert result.exit_code == 2
        assert str(path) in result.stderr
        assert isinstance(result.exception, SystemExit)


def test_a_damaged_text_is_not_waited_for(path):
    """Every byte of the heap behind texts of variable length, and of the lists of dimensions."""
    data = path.read_bytes()
    at = data.index(b"GCOL")
    for place in range(at, at + 200, 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        try:
            sa.open_study(path).load()
        except OSError as error:
            said = str(error)
        else:
            said = str(path)
        assert str(path) in said


def test_older_files_without_checksums_load_and_go_on(path, whole):
    with h5py.File(path, "r+") as file:
        for name in ("crc32", "exact_crc32"):
            del file[name]
        study = json.loads(file.attrs["study"])
        del study["crc32"]
        file.attrs["study"] = np.bytes_(json.dumps(study))
    assert_same(path, whole)
    more = sa.sweep(case, AXES, 20, seeds=[0, 1, 2], path=path, theory=True).load()
    with sa.open_study(whole) as expected:
        np.testing.assert_array_equal(more.loss.sel(seed=[0, 1]), expected.loss)
    with h5py.File(path) as file:
        assert (file["crc32"][()] >= 0).all()


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4", "scipy"])
def test_what_xarray_wrote_of_a_study_is_read(whole, tmp_path, engine):
    pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    copy = tmp_path / "copy.nc"
    with sa.open_study(whole) as study:
        expected = study.load()
    numbers = expected if engine != "scipy" else expected[["loss"]].drop_vars("engine")
    numbers.to_netcdf(copy, engine=engine)
    found = read_study(copy)
    np.testing.assert_array_equal(found.loss, expected.loss)
    assert found.loss.dims == expected.loss.dims
    if engine != "scipy":
        assert (found.status == "complete").all()
        assert found.engine.values.tolist() == AXES["engine"]
    result = CliRunner().invoke(main, ["info", str(copy)])
    assert result.exit_code == 0, result.output


def test_parts_are_read_where_they_are_wanted(whole):
    with sa.open_study(whole) as study, sa.open_study(whole) as expected:
        values = expected.loss.values
        chosen = study.loss.isel(step=-1, engine=[1], seed=[1, 0], gap_ratio=slice(1, None))
        np.testing.assert_array_equal(chosen, values[1:, [1]][:, :, [1, 0], -1])
        np.testing.assert_array_equal(study.loss[0, 0, 0, 3], values[0, 0, 0, 3])
        assert study.loss[:0].values.shape == (0, *values.shape[1:])


def test_a_study_that_was_closed_is_not_called_damaged(tmp_path):
    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), initial=1.0)
    sa.sweep(lambda: (problem, {"step_size": 1e-3}), {}, 5, path=tmp_path / "study.nc").close()
    with sa.open_study(tmp_path / "study.nc") as study:
        loss = study.loss
    with pytest.raises(OSError, match=r"study.nc was closed: load\(\) before"):
        loss.mean().load()


def test_packed_values_of_others_are_unpacked(tmp_path):
    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), initial=1.0)
    study = sa.sweep(lambda: (problem, {"step_size": 1e-3}), {}, 5)
    packed = {"dtype": "int16", "scale_factor": 1e-3, "add_offset": 1.0, "_FillValue": -32768}
    study.loss[0, 2] = np.nan
    study[["loss"]].to_netcdf(tmp_path / "packed.nc", engine="h5netcdf", encoding={"loss": packed})
    found = read_study(tmp_path / "packed.nc")
    np.testing.assert_allclose(found.loss, study.loss, atol=1e-3)
    assert np.isnan(found.loss[0, 2])
