"""What the compilers make of the GPU's kernels; no GPU is needed.

    pip install -e '.[gpu-code]'
    python bench/gpu_code.py --check

Every kernel is compiled for a compute capability. Where ptxas and nvdisasm are found, a line gives
registers and spills, and of the loop that makes the normals: instructions for a coordinate and
step, by the unit that executes them, and the cycles that one multiprocessor takes for each. The
unit that takes longest bounds the kernel from below.

``--check`` compares all kernels with a table that is kept, and fails where one has become worse or
is not in it; ``--write`` writes that table anew. Under other compilers than those of the table,
which the extra pins, nothing is compared, and the exit status is 77.
"""

import argparse
import importlib
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import gpu_table
import numba
from gpu_counts import (
    LOOP,
    UNITS,
    assemble,
    cycles,
    disassemble,
    instructions,
    resources,
    tool,
)
from numba import float32, float64, int64, types, uint32, void

#: Exit status where there is no compiler for GPUs, or not the one that is asked for.
NO_COMPILER = 77
#: What the kept table has: instructions for the first capability, registers and spills for all.
CAPABILITIES = ("9.0", "7.5", "8.0", "8.9", "10.0", "12.0")
STATES = ("float64", "float32")
#: Registers of a multiprocessor, and of a thread at most; threads get them by eights.
ALL_REGISTERS, MOST_REGISTERS = 65536, 255
#: An H100 SXM at its usual clock, for the last column.
MULTIPROCESSORS, CLOCK, DIM = 132, 1.755e9, 2**20


def signatures(state):
    """Arguments of every kernel for a type of state, and coordinate-steps of its inner loop."""
    vector, matrix, cube = float64[::1], float64[:, ::1], float64[:, :, ::1]
    steps, parts = int64[::1], int64[:, ::1]
    step, key = (int64, int64), (uint32, uint32)
    state = state[::1]
    one, planes = types.UniTuple(state, 1), types.UniTuple(state, 2)
    pair, seven = types.UniTuple(vector, 2), types.UniTuple(vector, 7)
    factors = types.UniTuple(float64, 3)
    plain, momentum = (
        void(
            types.UniTuple(state, count), factors, vector, vector, parts, vector, *step, steps,
            *key, cube, cube, cube, cube, matrix, vector, cube, steps, vector, steps,
        )
        for count in (1, 2)
    )  # fmt: skip
    batches, momentum_batches = (
        void(
            types.UniTuple(state, count), factors, vector, parts, parts,
            types.Tuple((vector, matrix)), vector, vector, *step, steps, *key, vector, vector, cube,
            cube, cube, matrix, vector, cube, steps, vector, steps,
        )
        for count in (1, 2)
    )  # fmt: skip
    return {
        "only_normals": (void(parts, *step, *key, float32[:, ::1]), 4),
        "advance": (void(one, factors, vector, vector, parts, cube, *step, *key, cube), 16),
        "CriticalStep": (plain, 4),
        "OnlineCriticalStep": (plain, 4),
        "function of the row": (plain, 4),
        "jump_rows": (void(one, pair, vector, vector, parts, steps, steps, *key, cube), 4),
        "observe": (void(state, vector, vector, parts, *step, *key, cube), 4),
        "sum_state": (void(one, vector, vector, parts, cube), 1),
        "fill_normals": (void(state, float64, int64, *step, *key), 4),
        "spread": (void(vector, steps, vector), 1),
        "add_parts": (void(cube, parts, steps, cube), 1),
        "advance_velocity": (
            void(planes, factors, vector, vector, parts, cube, *step, *key, cube), 8),
        "CriticalStep, momentum": (momentum, 4),
        "OnlineCriticalStep, momentum": (momentum, 4),
        "jump_velocity_rows": (
            void(planes, seven, vector, vector, parts, steps, steps, *key, cube), 4),
        "sum_velocity": (void(planes, vector, vector, parts, cube), 1),
        "add_velocity_parts": (void(cube, parts, steps, cube), 1),
        "known sizes, batches": (batches, 4),
        "OnlineCriticalStep, batches": (batches, 4),
        "known sizes, batches and momentum": (momentum_batches, 4),
        "OnlineCriticalStep, batches and momentum": (momentum_batches, 4),
    }  # fmt: skip


@numba.njit
def two_sizes(row):
    """A step-size rule as a user writes it."""
    return 1e-3 if row.power_sums[0, 1] > row.constants[0, 0] else 3e-3


def kernel(name):
    """Return a kernel by its name in a table: a rule, or a function of any module ``gpu*``."""
    import suspalign_fast as sa
    from suspalign_fast.kernels.gpu import plain as gpu
    from suspalign_fast.kernels.gpu.batches import PLAIN_BATCHES, VELOCITY_BATCHES, make_batches
    from suspalign_fast.kernels.gpu.rules import make_adaptive
    from suspalign_fast.kernels.gpu.velocity import VELOCITY_WAY
    from suspalign_fast.model.step_size import KnownRule

    rules = {
        "CriticalStep": sa.CriticalStep(0.9),
        "OnlineCriticalStep": sa.OnlineCriticalStep(0.9),
        "function of the row": sa.RowStep(two_sizes),
        "known sizes": KnownRule(sa.ConstantStep(1e-3), 1),
    }
    rule, _, kind = name.partition(", ")
    if rule in rules:
        has_velocity = kind.endswith("momentum")
        make, ways = make_adaptive, (gpu.PLAIN_WAY, VELOCITY_WAY)
        if kind.startswith("batches"):
            make, ways = make_batches, (PLAIN_BATCHES, VELOCITY_BATCHES)
        return make(rules[rule].compiled, rules[rule].observes, ways[has_velocity])
    files = sorted(Path(gpu.__file__).parent.glob("*.py"))
    modules = [importlib.import_module(f"{gpu.__package__}.{path.stem}") for path in files]
    found = [getattr(module, name, None) for module in modules]
    return next(f for f in found if getattr(f, "targetoptions", {}).get("launch_bounds"))


def launch_bounds(name):
    """Threads of a block of a kernel, and blocks of a multiprocessor at least."""
    return kernel(name).targetoptions["launch_bounds"]


def compile_for(capability, name, signature):
    """Return the PTX of a kernel."""
    from numba import cuda
    from numba.cuda import dispatcher

    target = tuple(int(n) for n in capability.split("."))
    # Functions of threads are compiled for a device that need not be there.
    dispatcher.get_current_device = lambda: type("Device", (), {"compute_capability": target})
    bounds = launch_bounds(name)
    return cuda.compile_ptx(kernel(name).py_func, signature, cc=target, launch_bounds=bounds)[0]


def figures(name, ptx, capability, work, folder):
    """Return registers, what does not fit into them, and counts of instructions."""
    threads, blocks = launch_bounds(name)
    limit = min(ALL_REGISTERS // (threads * blocks) // 8 * 8, MOST_REGISTERS)
    binary, report = assemble(ptx, capability, folder)
    found = resources(report)
    found = {"registers": found.pop("registers"), "limit": limit} | found
    if work:
        found |= instructions(*disassemble(binary), work)
    return found


def rows_of(capability, state, names, count):
    """Return the rows of the kept table for a capability and a type of state."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (signature, work) in signatures(getattr(types, state)).items():
            if not names or name in names:
                ptx = compile_for(capability, name, signature)
                work = work if count else None
                rows[capability, name, state] = figures(name, ptx, capability, work, Path(folder))
    return rows


def table_of(capabilities, states, names):
    """Compile kernels in processes and return the table of them."""
    jobs = [(c, s, names, c == CAPABILITIES[0]) for c in capabilities for s in states]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(len(jobs), os.cpu_count() or 1), spawn) as pool:
        rows = {}
        for found in pool.map(rows_of, *zip(*jobs, strict=True)):
            rows |= found
    return gpu_table.Table(gpu_table.installed(), rows)


def check(capabilities, states, names):
    """Compare with the kept table, say what is worse, and return the exit status."""
    kept = gpu_table.parse(gpu_table.PATH.read_text())
    if others := gpu_table.other_compilers(kept.compilers, gpu_table.installed()):
        print(f"not compared, for the kept table is of other compilers: {others}.")
        print("The extra gpu-code has its own; under these, look at what --write changes.")
        return NO_COMPILER
    found = table_of(capabilities, states, names)
    asked = capabilities, names or {key[1] for key in kept.rows}, states
    kept.rows = {
        key: row for key, row in kept.rows.items()
        if all(part in chosen for part, chosen in zip(key, asked, strict=True))
    }  # fmt: skip
    faults = gpu_table.worse(kept, found)
    print("\n".join(faults) or f"{len(found.rows)} kernels, none worse than in the kept table.")
    if falls := gpu_table.better(kept, found):
        print("Better than in the kept table:", *falls, sep="\n")
    if faults:
        print(f"If this is meant, rewrite bench/results/{gpu_table.PATH.name}: {gpu_table.REWRITE}")
    return 1 if faults else 0


def described(name, signature, work, capability, folder):
    """Return a line about a kernel."""
    ptx = compile_for(capability, name, signature)
    words = {"kernel": name, "PTX lines": len(ptx.splitlines())}
    if tool("ptxas") and tool("nvdisasm"):
        try:
            found = figures(name, ptx, capability, work, folder)
        except RuntimeError as error:  # an assembler older than the compiler
            words["not assembled"] = error
        else:
            words |= {"registers": found["registers"], "spilled bytes": found["spilled bytes"]}
            words |= of_loop(found) if LOOP in found else {}
    return "; ".join(f"{title} {value}" for title, value in words.items())


def of_loop(found):
    """Describe the main loop and what bounds it."""
    times = cycles(found)
    bound = max(times, key=times.get)
    units = ", ".join(f"{unit} {found[unit]:.3g}" for unit in UNITS if found[unit])
    return {
        "instructions": f"all {found[LOOP]:.3g}, {units}",
        "cycles": ", ".join(f"{unit} {t:.3f}" for unit, t in times.items()),
        "bound": bound,
        "us at d = 2^20": f"{1e6 * times[bound] * DIM / MULTIPROCESSORS / CLOCK:.2f}",
    }


def need_compiler(assembler):
    """End the process where there is no compiler, or no assembler and one is needed."""
    try:
        from cuda.bindings import nvvm

        nvvm.version()
    except Exception as error:  # a package or library that is not installed
        print(f"no compiler for GPUs: {str(error).splitlines()[0]}")
        sys.exit(NO_COMPILER)
    missing = [name for name in ("ptxas", "nvdisasm") if not tool(name)]
    if assembler and missing:
        print(f"no {' and no '.join(missing)}: pip install -e '.[gpu-code]'")
        sys.exit(NO_COMPILER)


def parsed():
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compute-capability", action="append", choices=CAPABILITIES)
    parser.add_argument("--dtype", action="append", choices=STATES)
    parser.add_argument("--kernel", action="append", help="this kernel only; may be repeated")
    do = parser.add_mutually_exclusive_group()
    do.add_argument("--check", action="store_true", help="compare with the table that is kept")
    do.add_argument("--write", action="store_true", help="write that table")
    do.add_argument(
        "--ptx", type=Path, metavar="FOLDER",
        help="write the PTX there, a file a kernel with _ for spaces, and print no table",
    )  # fmt: skip
    options = parser.parse_args()
    known = signatures(float64)
    if unknown := set(options.kernel or ()) - set(known):
        parser.error(f"no kernel {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options.write and (options.compute_capability or options.dtype or options.kernel):
        parser.error("--write takes all kernels")
    return options


def main():
    """Compile kernels, and print, check or write what came out."""
    options = parsed()
    whole = options.check or options.write
    need_compiler(assembler=whole)
    capabilities = options.compute_capability or (CAPABILITIES if whole else CAPABILITIES[:1])
    states = options.dtype or (STATES if whole else STATES[:1])
    if whole:
        if options.check:
            sys.exit(check(capabilities, states, options.kernel))
        gpu_table.PATH.write_text(table_of(capabilities, states, None).text())
        return
    with tempfile.TemporaryDirectory() as folder:
        for capability, state in ((c, s) for c in capabilities for s in states):
            for name, (signature, work) in signatures(getattr(types, state)).items():
                if options.kernel and name not in options.kernel:
                    continue
                if options.ptx:
                    options.ptx.mkdir(parents=True, exist_ok=True)
                    path = options.ptx / f"{name.replace(' ', '_')}.ptx"
                    path.write_text(compile_for(capability, name, signature))
                else:
                    line = described(name, signature, work, capability, Path(folder))
                    print(line, flush=True)


if __name__ == "__main__":
    main()
