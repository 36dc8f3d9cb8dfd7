import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suspalign_fast.storage.deflate import encode

KINDS = {
    "noise": lambda rng, n: rng.standard_normal(n),
    "smooth": lambda rng, n: 1.0 + 1e-6 * np.arange(n),
    "constant": lambda rng, n: np.full(n, 0.1),
    "integers": lambda rng, n: np.arange(n),
    "rough": lambda rng, n: rng.standard_normal(n).astype(np.float32).astype(np.float64),
    "special": lambda rng, n: rng.choice([np.nan, np.inf, -0.0, 5e-324], n),
}


@pytest.mark.parametrize("size", [1, 2, 3, 100, 4096, 65_537, 200_000])
@pytest.mark.parametrize("kind", KINDS)
def test_hdf5_reads_what_was_encoded(kind, size, tmp_path):
    values = KINDS[kind](np.random.default_rng(size), size)
    code = encode(values)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset(
            "x", values.shape, values.dtype, chunks=values.shape, compression="gzip", shuffle=True
        )
        data.id.write_direct_chunk((0,), code)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"][()].tobytes() == values.tobytes()
    if kind not in ("smooth", "integers"):
        plain = zlib.compress(np.ascontiguousarray(values.view(np.uint8).reshape(-1, 8).T), 1)
        assert len(code) < 1.1 * len(plain) + 200


@given(st.binary(max_size=4000), st.integers(0, 300))
def test_any_bytes_survive(data, repeats):
    data = data[: len(data) - len(data) % 8] + bytes(range(8)) * repeats + bytes(8)
    planes = zlib.decompress(encode(np.frombuffer(data)))
    assert np.frombuffer(planes, np.uint8).reshape(8, -1).T.tobytes() == data
