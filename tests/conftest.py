import signal

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model import devices

# Whoever runs the tests in the background may have these ignored, and a run respects that.
for _name, _handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), _handler)

#: Folders whose tests compile most kernels: one worker begins here, others at the end.
COMPILING = ("engines", "model", "laws", "claims", "running", "faults", "kernels")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put kernels first; mark what is long beside what says so itself.

    These are all cases of a test that is `mostly_long` but the first, and runs on a simulated GPU,
    which take seconds.
    """
    seen = set()
    for item in items:
        if item.get_closest_marker("mostly_long"):
            if item.function in seen:
                item.add_marker("long")
            seen.add(item.function)
    order = {name: at for at, name in enumerate(COMPILING)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))
    if devices.is_simulated():
        for item in items:
            if item.path.parent.name == "gpu" and item.path.name != "test_gpu_code.py":
                item.add_marker("long")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out whole files, so that hardly any kernel is compiled by two workers at once."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    class FromBothEnds(LoadFileScheduling):
        """The first worker takes files from the front, the others from the back."""

        def _assign_work_unit(self, node):
            if self.workqueue and node is not self.nodes[0]:
                self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return FromBothEnds(config, log)


NOISES = {
    "isotropic": lambda dim: sa.IsotropicNoise(0.5),
    "hessian": lambda dim: sa.HessianNoise(0.3),
    "diagonal": lambda dim: sa.DiagonalNoise(np.linspace(0.2, 1.4, dim)),
}


@pytest.fixture(params=NOISES)
def noise(request):
    """A function of the dimension that makes a noise model: one test for each model."""
    return NOISES[request.param]


def assert_same_bits(actual, expected, rows=slice(None)):
    """Every column of ``actual`` equals the chosen rows of ``expected`` bit for bit."""
    for name, values in expected.columns().items():
        np.testing.assert_array_equal(
            actual[name].view(np.int64), values[rows].view(np.int64), err_msg=name
        )
