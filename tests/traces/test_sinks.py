"""What every sink does with the rows of a run, in memory and in a file."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run
from suspalign_fast.traces.writers import MemoryTrace, Sink, TraceWriter

from ..conftest import assert_same_bits

RUN = Run(sa.Quadratic(sa.Spectrum.linear_bands(300, 10), initial=2.0), 1e-3, 500)
EXPECTED = sa.simulate(RUN.problem, 1e-3, 500)


@pytest.fixture(params=["memory", "file"])
def sink(request, tmp_path):
    return MemoryTrace(RUN) if request.param == "memory" else TraceWriter(tmp_path / "a.h5", RUN)


def rows_of_engine(stretches):
    engine = make_engine(RUN)
    yield engine.initial_row()
    for stretch in stretches:
        yield engine.advance(stretch)


def test_every_sink_is_one(sink):
    assert isinstance(sink, Sink)
    with sink:
        pass


@pytest.mark.mostly_long
@pytest.mark.parametrize("stretches", [[500], [1] * 20 + [480], [137, 0, 363]])
def test_rows_come_back_as_they_went_in(sink, stretches):
    with sink:
        for rows in rows_of_engine(stretches):
            sink.append(rows)
        sink.finish("complete")
    trace = sink.trace()
    assert trace.status == "complete"
    assert trace.run == RUN
    assert_same_bits(trace, EXPECTED)


def test_a_run_that_ends_early_has_the_rows_there_are(sink):
    with sink:
        for rows in rows_of_engine([100]):
            sink.append(rows)
        sink.finish("diverged")
    trace = sink.trace()
    assert (trace.status, len(trace)) == ("diverged", 101)
    assert_same_bits(trace, EXPECTED, slice(101))


def test_what_was_given_to_a_sink_may_change_afterwards(sink):
    with sink:
        for rows in rows_of_engine([500]):
            sink.append(rows)
            if isinstance(sink, TraceWriter):
                sink.flush()
            rows.power_sums[...] = np.nan
        sink.finish("complete")
    assert_same_bits(sink.trace(), EXPECTED)
