"""How many threads there may be, how work is shared among them, and how they wait."""

import itertools
import os
import subprocess
import sys
import threading

import pytest

from suspalign_fast.base import threads as _threads


@pytest.fixture
def quota_files(tmp_path, monkeypatch):
    """Return a function that writes the files of a control group."""

    def write(*contents):
        paths = []
        for number, text in enumerate(contents):
            path = tmp_path / f"file{number}"
            path.write_text(text)
            paths.append(str(path))
        monkeypatch.setattr(_threads, "_QUOTAS", ((str(tmp_path / "none"),), tuple(paths)))

    return write


@pytest.mark.parametrize(
    ("contents", "quota"),
    [
        (("200000 100000\n",), 2),
        (("150000 100000",), 2),
        (("5000 100000",), 1),
        (("max 100000",), None),
        (("150000", "100000"), 2),
        (("-1", "100000"), None),
        (("0 0",), None),
        (("",), None),
    ],
)
def test_quotas(quota_files, contents, quota):
    quota_files(*contents)
    assert _threads._quota() == quota


def test_a_quota_bounds_the_threads_unless_the_user_has_said_how_many(quota_files, monkeypatch):
    quota_files("100000 100000")
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 8)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert _threads.available.__wrapped__() == 1
    monkeypatch.setenv("NUMBA_NUM_THREADS", "8")
    assert _threads.available.__wrapped__() == 8


def test_a_limit_is_that_of_its_own_thread():
    seen = []
    with _threads.limited(1):
        other = threading.Thread(target=lambda: seen.append(_threads.allowed()))
        other.start()
        other.join()
        seen.append(_threads.allowed())
    assert seen == [_threads.allowed(), 1]


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_shares_cover_everything_once(size, threads):
    done = []
    _threads.share(size, threads, lambda first, last: done.append((first, last)))
    ends = sorted(done)
    assert len(ends) == min(size, threads)
    assert ends[0][0] == 0
    assert ends[-1][1] == size
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))


@pytest.mark.parametrize("bad", [0, 50, 99])
def test_what_a_share_raises_is_raised_once_all_have_ended(bad):
    ended = []

    def work(first, last):
        if first <= bad < last:
            raise RuntimeError("of a share")
        ended.append((first, last))

    with pytest.raises(RuntimeError, match="of a share"):
        _threads.share(100, 2, work)
    assert len(ended) == 1


WAITING = """
import os
from suspalign_fast.base import threads as _threads
before = dict(os.environ)
def look():
    print(os.environ.get("GOMP_SPINCOUNT"))
_threads.numba.get_num_threads, started = look, _threads.numba.get_num_threads
_threads.start()
print(dict(os.environ) == before)
"""


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("setting", "seen"),
    [({}, _threads.SPINS), ({"OMP_WAIT_POLICY": "active"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_threads_of_openmp_spin_as_told_and_the_environment_stays(setting, seen):
    unset = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    found = subprocess.run(
        [sys.executable, "-c", WAITING], env=environment | setting, text=True, capture_output=True
    )
    assert found.stdout.split() == [str(seen), "True"], found.stderr
