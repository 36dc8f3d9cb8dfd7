"""What a kernel's machine code consists of, as ptxas and nvdisasm tell it."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

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
#: The column of all instructions of the main loop; those of its units follow under their names.
LOOP = "main loop"
#: A line of the disassembly: place, predicate, name, operands.
INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)(.*)")


def tool(name):
    """Path of a program of the CUDA toolkit, or None: installed by pip, or on the PATH."""
    folder = Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cu13" / "bin"
    return shutil.which(name, path=str(folder)) or shutil.which(name)


def output_of(*command):
    """Both outputs of a program that succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split()))
    return done.stdout + done.stderr


def assemble(ptx, capability, folder):
    """Assemble PTX; return the binary's path and what ptxas reports."""
    source, binary = folder / "kernel.ptx", folder / "kernel.cubin"
    source.write_text(ptx)
    target = f"-arch=sm_{capability.replace('.', '')}"
    # Relocatable, for a cooperative kernel waits with a function of the device runtime.
    return binary, output_of(tool("ptxas"), "-c", "-v", target, str(source), "-o", str(binary))


def resources(report):
    """Registers of a thread and the bytes that do not fit into them, by a report of ptxas."""
    spills, stacks, registers = (
        [int(n) for n in re.findall(pattern, report)]
        for pattern in (r"(\d+) bytes spill", r"(\d+) bytes stack", r"Used (\d+) registers")
    )
    return {
        "registers": max(registers),
        "spilled bytes": sum(spills),
        "stack bytes": sum(stacks),
    }


def disassemble(binary):
    """Names of all instructions, and the first and last place of every loop."""
    labels, code, loops = {}, [], []
    for line in output_of(tool("nvdisasm"), "-c", str(binary)).splitlines():
        if label := re.match(r"^(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif found := INSTRUCTION.match(line):
            code.append(found[1])
            target = re.search(r"`\((\.L_x_\d+)\)", found[2])
            if found[1] == "BRA" and target and labels.get(target[1], len(code)) < len(code) - 1:
                loops.append((labels[target[1]], len(code)))
    return code, loops


def main_loop(code, loops):
    """Instructions of the innermost loop with the most wide products; none if it has no normals."""
    inner = [
        loop for loop in loops
        if not any(loop[0] <= o[0] and o[1] <= loop[1] and o != loop for o in loops)
    ]  # fmt: skip
    wide = UNITS["wide integer products"][1]
    bodies = [code[first:last] for first, last in inner]
    body = max(bodies, key=lambda b: sum(i.startswith(wide) for i in b), default=[])
    return body if any(i.startswith("MUFU") for i in body) else []


def instructions(code, loops, work):
    """All instructions, and those of the main loop for each of `work` coordinate-steps, by unit."""
    counts = {"instructions": sum(name != "NOP" for name in code)}
    if body := main_loop(code, loops):
        counts[LOOP] = len(body) / work
        for unit, (_, names) in UNITS.items():
            counts[unit] = sum(i.startswith(names) for i in body) / work
    return counts


def cycles(counts):
    """Cycles of a multiprocessor for a coordinate and step, by unit."""
    return {"issue": counts[LOOP] / ISSUE} | {
        unit: counts[unit] / rate for unit, (rate, _) in UNITS.items() if counts[unit]
    }
