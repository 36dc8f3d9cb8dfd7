"""What the compilers make of the GPU's kernels; no GPU is needed.

    pip install -e '.[cuda]' nvidia-cuda-nvcc nvidia-cuda-nvdisasm
    python bench/gpu_code.py

Every kernel is compiled for a compute capability. Where ptxas and nvdisasm are found, a table gives
registers and spills, and of the loop that makes the normals: instructions for a coordinate and
step, by the unit that executes them, and the cycles that one multiprocessor takes for each. The
unit that takes longest bounds the kernel from below.
"""

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

import numba
from numba import float32, float64, int64, types, uint32, void

#: Exit status where there is no compiler for GPUs.
NO_COMPILER = 77
#: Results a cycle and multiprocessor of compute capability 9.0, by the first letters of an
#: instruction (CUDA C++ Programming Guide, arithmetic instructions). A product of 64 bits is
#: taken to cost as much as two of 32.
UNITS = {
    "float64": (64, ("DFMA", "DMUL", "DADD", "DSETP", "DMNMX")),
    "wide integer products": (32, ("IMAD.WIDE", "IMAD.HI")),
    "conversions to float64": (16, ("F2F",)),
    "other conversions": (64, ("I2FP", "I2F", "F2I")),
    "special functions": (16, ("MUFU",)),
    "memory": (32, ("LDG", "STG", "LDS", "STS", "LDL", "STL")),
}
ISSUE = 128
#: A line of the disassembly: place, predicate, name, operands.
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)(.*)")
#: An H100 SXM at its usual clock, for the last column.
MULTIPROCESSORS, CLOCK, DIM = 132, 1.755e9, 2**20


def signatures(state):
    """Arguments of every kernel for a type of state, and coordinate-steps of its inner loop."""
    vector, matrix, cube = float64[::1], float64[:, ::1], float64[:, :, ::1]
    steps, parts = int64[::1], int64[:, ::1]
    step, key = (int64, int64), (uint32, uint32)
    state = state[::1]
    adaptive = void(
        state, vector, vector, parts, vector, *step, steps, *key, cube, cube, cube, cube, matrix,
        vector, cube, steps, vector, steps,
    )  # fmt: skip
    return {
        "only_normals": (void(parts, *step, *key, float32[:, ::1]), 4),
        "advance": (void(state, vector, vector, parts, cube, *step, *key, cube), 16),
        "CriticalStep": (adaptive, 4),
        "OnlineCriticalStep": (adaptive, 4),
        "function of the row": (adaptive, 4),
        "jump_rows": (
            void(state, vector, vector, vector, vector, parts, steps, steps, *key, cube), 4),
        "observe": (void(state, vector, vector, parts, *step, *key, cube), 4),
        "sum_state": (void(state, vector, vector, parts, cube), 1),
        "fill_normals": (void(state, float64, int64, *step, *key), 4),
        "spread": (void(vector, steps, vector), 1),
        "add_parts": (void(cube, parts, steps, cube), 1),
    }  # fmt: skip


@numba.njit
def two_sizes(row):
    """A step-size rule as a user writes it."""
    return 1e-3 if row.power_sums[0, 1] > row.constants[0, 0] else 3e-3


def kernel(name):
    """Return a kernel by its name in a table."""
    import suspalign_fast as sa
    from suspalign_fast.kernels import gpu

    rules = {
        "CriticalStep": sa.CriticalStep(0.9),
        "OnlineCriticalStep": sa.OnlineCriticalStep(0.9),
        "function of the row": sa.RowStep(two_sizes),
    }
    if name in rules:
        return gpu.make_adaptive(rules[name].compiled, rules[name].observes)
    return getattr(gpu, name)


def compile_for(capability, name, signature):
    """Return the PTX of a kernel."""
    from numba import cuda

    compiled = kernel(name)
    bounds = compiled.targetoptions.get("launch_bounds")
    return cuda.compile_ptx(compiled.py_func, signature, cc=capability, launch_bounds=bounds)[0]


def prepare(capability):
    """Have functions of threads compiled for a device that need not be there."""
    from numba.cuda import dispatcher

    dispatcher.get_current_device = lambda: type("Device", (), {"compute_capability": capability})


def tool(name):
    """Path of a program of the CUDA toolkit, or None: installed by pip, or on the PATH."""
    folder = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "bin"
    return shutil.which(name, path=str(folder)) or shutil.which(name)


def assemble(ptx, capability, folder):
    """Return what ptxas reports and the disassembly."""
    source, binary = folder / "kernel.ptx", folder / "kernel.cubin"
    source.write_text(ptx)
    target = f"-arch=sm_{capability[0]}{capability[1]}"
    # Relocatable, for a cooperative kernel waits with a function of the device runtime.
    report = subprocess.run(
        [tool("ptxas"), "-c", "-v", target, str(source), "-o", str(binary)],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    sass = subprocess.run(
        [tool("nvdisasm"), "-c", str(binary)], capture_output=True, text=True, check=True
    ).stdout
    return report, sass


def main_loop(sass):
    """Instructions of the innermost loop with the most wide products."""
    labels, code, loops = {}, [], []
    for line in sass.splitlines():
        if label := re.match(r"^(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif found := re.match(
            r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)(.*)", line
        ):
            code.append(found[1])
            target = re.search(r"`\((\.L_x_\d+)\)", found[2])
            if found[1] == "BRA" and target and labels.get(target[1], len(code)) < len(code) - 1:
                loops.append((labels[target[1]], len(code)))
    inner = [
        loop for loop in loops
        if not any(loop[0] <= o[0] and o[1] <= loop[1] and o != loop for o in loops)
    ]  # fmt: skip
    bodies = [code[first:last] for first, last in inner]
    wide = UNITS["wide integer products"][1]
    return max(bodies, key=lambda b: sum(i.startswith(wide) for i in b), default=[])


def cycles(body, work):
    """Instructions and cycles of a multiprocessor, for a coordinate and step, by unit."""
    counts = Counter()
    for instruction in body:
        for unit, (_, names) in UNITS.items():
            counts[unit] += instruction.startswith(names)
    used = {unit: count / work for unit, count in counts.items() if count}
    return {"all": len(body) / work} | used, {"issue": len(body) / work / ISSUE} | {
        unit: count / UNITS[unit][0] for unit, count in used.items()
    }


def study(name, signature, work, capability, folder):
    """Return the row of a kernel."""
    ptx = compile_for(capability, name, signature)
    row = {"kernel": name, "PTX lines": len(ptx.splitlines())}
    if not (tool("ptxas") and tool("nvdisasm")):
        return row
    try:
        report, sass = assemble(ptx, capability, folder)
    except subprocess.CalledProcessError as error:  # an assembler older than the compiler
        return row | {"not assembled": " ".join(error.stderr.split())}
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
    row["registers"] = max(int(n) for n in re.findall(r"Used (\d+) registers", report))
    row["spilled bytes"] = sum(spills)
    body = main_loop(sass)
    if not any(instruction.startswith("MUFU") for instruction in body):
        return row
    counts, times = cycles(body, work)
    bound = max(times, key=times.get)
    row["instructions"] = ", ".join(f"{unit} {n:.3g}" for unit, n in counts.items())
    row["cycles"] = ", ".join(f"{unit} {t:.3f}" for unit, t in times.items())
    row["bound"] = bound
    row["us at d = 2^20"] = f"{1e6 * times[bound] * DIM / MULTIPROCESSORS / CLOCK:.2f}"
    return row


def main():
    """Compile all kernels and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compute-capability", default="9.0")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--kernel", action="append", help="this kernel only; may be repeated")
    parser.add_argument(
        "--ptx", type=Path, metavar="FOLDER",
        help="write the PTX there, a file a kernel with _ for spaces, and print no table",
    )  # fmt: skip
    options = parser.parse_args()
    capability = tuple(int(n) for n in options.compute_capability.split("."))
    try:
        prepare(capability)
        from cuda.bindings import nvvm

        nvvm.version()
    except Exception as error:  # a package or library that is not installed
        print(f"no compiler for GPUs: {str(error).splitlines()[0]}")
        sys.exit(NO_COMPILER)
    kernels = signatures(getattr(types, options.dtype))
    if unknown := set(options.kernel or ()) - set(kernels):
        parser.error(f"no kernel {', '.join(sorted(unknown))}; there are {', '.join(kernels)}")
    if options.kernel:
        kernels = {name: kernels[name] for name in options.kernel}
    if options.ptx:
        options.ptx.mkdir(parents=True, exist_ok=True)
        for name, (signature, _) in kernels.items():
            ptx = compile_for(capability, name, signature)
            (options.ptx / f"{name.replace(' ', '_')}.ptx").write_text(ptx)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, (signature, work) in kernels.items():
            row = study(name, signature, work, capability, Path(folder))
            print("; ".join(f"{title} {value}" for title, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
