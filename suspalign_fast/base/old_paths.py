"""Modules under the names that they had before the package was laid out in folders.

They keep importing for one release, with a DeprecationWarning, and what was pickled by them loads.
"""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = __name__.partition(".")[0]

#: Modules of today, and the ones that went into them.
MOVED = """
base.checks: _checks
base.code: _code
base.executors: executors signals
base.memory: _memory
base.registry: spec
base.reports: _errors _numba_errors _progress _provenance
base.threads: _blas _threads
base.values: _equality _travel
claims: verify
claims.evidence: verify.claims verify.signs
claims.laws: verify.batch_law verify.probed verify.step_law
claims.single_steps: verify.loss_interval verify.probe verify.probe_velocity verify.row_claims
claims.trials: verify.trials
claims.verify: verify.run
claims.whole_runs: verify.batch_steps verify.two_phases
cli.console: cli.output cli.pools
cli.options: cli.optimizer cli.problem
cli.plot: cli.picture
cli.sweep: cli.study
engines.gpu: engines.gpu_batches
engines.moves: engines.velocity_moves
engines.plan: engines.coordinates shard
engines.reference: engines.plain_normals
engines.sharded: engines.shard
engines.step: engines.jump
engines.steppers: engines.batches engines.shares
kernels.batches: kernels.data_noise
kernels.blocks: kernels.edges kernels.plan
kernels.chi_square: kernels.level_draws
kernels.gpu.batches: kernels.gpu_batches kernels.gpu_batches_thread
kernels.gpu.rules: kernels.gpu_rules
kernels.gpu.threads: kernels.gpu_thread
kernels.gpu.together: kernels.gpu_block
kernels.gpu.velocity: kernels.gpu_velocity kernels.gpu_velocity_thread
kernels.jump: kernels.momentum_jump
kernels.level_steps: kernels.data_levels kernels.momentum_levels
kernels.loops: kernels.block kernels.work
kernels.normals: kernels.batch kernels.box_muller
kernels.powers: kernels.double_double kernels.momentum_powers
kernels.rules: kernels.built_in_rules
kernels.rule_steps: kernels.data_steps kernels.momentum_batches kernels.small
kernels.step: kernels.advance kernels.momentum
kernels.sums: kernels.coordinates kernels.momentum_sums kernels.move
kernels.vector_operations: kernels.vector_arithmetic kernels.vector_memory
model.built_in_steps: built_in_steps
model.devices: devices
model.least_squares: least_squares
model.moves: momentum_moves transition
model.noise: data_noise noise
model.optimizer: optimizer
model.problem: problem
model.run: run
model.spectrum: spectrum
model.spectrum.bands: spectrum.bands
model.spectrum.compression: spectrum.bins spectrum.compressible spectrum.compression
    spectrum.gauss
model.spectrum.families: spectrum.families spectrum.few_levels
model.spectrum.named: datasets spectrum.named
model.spectrum.parts: spectrum.made spectrum.multiplicities spectrum.parts
model.spectrum.spectrum: spectrum.shard spectrum.spectrum
model.spectrum.stored: spectrum.listed spectrum.stored
model.stability: stability
model.step_size: step_size
model.texts: texts
network.curvature: network.products
network.loss: network.batches network.evaluation
network.row: network.sums
network.sign_test: network.signs
physics.batches: batch_rows velocity_batches
physics.formulas: columns power_sums
physics.rise: rise
physics.row: row
physics.rows: measured
physics.terms: kernels.row_terms
physics.velocity: velocity_rows
pictures: _picture
pictures.caption: _picture.caption
pictures.curves: _picture.curves _picture.decimate _picture.step_axis
pictures.grid_axis: _picture.grid_axis
pictures.headings: _picture.colors _picture.layout
pictures.heat: _picture.heat
pictures.panels: _picture.panels
pictures.points: _picture.points
pictures.study: plot_studies
pictures.study_view: _picture.study_view
pictures.trace: plot
running.cost: cost
running.driver: driver
running.ensemble: ensemble estimate labelled_runs
running.simulate: simulate
storage.foreign: storage.carried_scales
storage.output: storage.block storage.column
storage.paths: storage.files
storage.untrusted: storage.object_header storage.superblock
studies.cases: cases
studies.grid: grid
studies.reading: study study_netcdf
studies.sweep: sweep until
studies.table: table
studies.toml: toml_study toml_study.axes toml_study.case toml_study.tables toml_study.toml
studies.writing: study_file
theory.expected: theory.in_time
theory.levels: theory.resolution theory.result
theory.momentum_batches: theory.batches_momentum
theory.next_step: theory.critical theory.first_root
theory.phases: phases
traces.checkpoint: checkpoint
traces.labelled: labelled labels
traces.trace: conditions summary trace trace_columns
traces.trace_file: row_file trace_file
traces.writers: beside measured_file sink store
"""


def _today() -> dict[str, str]:
    """Return the module of today for every old one."""
    found: dict[str, str] = {}
    for line in MOVED.replace("\n    ", " ").strip().splitlines():
        new, _, olds = line.partition(": ")
        found |= {f"{PACKAGE}.{old}": f"{PACKAGE}.{new}" for old in olds.split()}
    return found


#: The full name of the module of today, by that of the old one.
TODAY = _today()


class _Finder(MetaPathFinder, Loader):
    """Imports a module of today for an old name."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_old = fullname in TODAY
        holds_more = any(name.startswith(f"{fullname}.") for name in TODAY)
        return ModuleSpec(fullname, self, is_package=holds_more) if is_old else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = TODAY[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back what `importlib` has just taken from it: its own name."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


class _Package(ModuleType):
    """The package, in which no old module takes the place of a function of its name."""

    def __setattr__(self, name: str, value: Any) -> None:
        is_old = isinstance(value, ModuleType) and f"{PACKAGE}.{name}" in TODAY
        if not (is_old and name in self.__dict__):
            super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        """Travel by name, as modules do: pickles of whole functions hold it."""
        return importlib.import_module, (self.__name__,)


def install() -> None:
    """Let old names be imported."""
    sys.meta_path.insert(0, _Finder())  # first: a folder of today would be looked into again
    sys.modules[PACKAGE].__class__ = _Package
