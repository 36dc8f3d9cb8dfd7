"""Program of a test: sweeps by the processes of an MPI world, compared with threads.

mpiexec -n 3 python -m mpi4py.futures tests/helpers/mpi_sweep.py
"""

import suspalign_fast as sa
from tests.helpers.study_kills import digest
from tests.studies.test_sweep import AXES, HOW, assert_errors_are_kept, sometimes, two_levels


def main():
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as pool:
        found = sa.sweep(two_levels, AXES, executor=pool, theory=True, **HOW)
        assert_errors_are_kept(sa.sweep(sometimes, AXES, executor=pool, **HOW))
    expected = sa.sweep(two_levels, AXES, theory=True, **HOW)
    print("the same" if digest(found) == digest(expected) else "another")


if __name__ == "__main__":
    main()
