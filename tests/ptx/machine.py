"""Runs the PTX of a kernel on the CPU: what a compiler made of it, which no simulator sees.

The body of a kernel becomes a Python generator that stops at barriers, one for every thread. Only
what our kernels consist of is known; anything else is refused, with its text. Beside computing,
a run watches:

- threads wait at one and the same barrier, of their block or of the grid;
- memory is read and written inside of what was passed or declared, at the right size and place,
  and shared memory is not read before it is written;
- no two threads touch a place without a barrier between them, unless neither changes it. Which of
  them is first depends on the order, so this is found in whatever order threads run.
"""

import random
import re
import struct

import numpy as np

from . import numbers


class Fault(Exception):
    """What would go wrong, or could, on a GPU."""


class Race(Fault):
    """Two threads touch a place, at least one changes it, and no barrier says who is first."""


# --- translation -------------------------------------------------------------------------------

_SPECIAL = {
    "%tid.x": "tid", "%ctaid.x": "ctaid", "%ntid.x": "ntid", "%nctaid.x": "nctaid",
}  # fmt: skip
_HANDLE = 0x5A5A5A5A5A5A5A5A


def _signed(operand, width):
    return f"(({operand} ^ {1 << width - 1}) - {1 << width - 1})"


def _expressions():
    """Python expressions of instructions, on registers that hold unsigned integers."""
    known = {}
    for w in (16, 32, 64):
        mask, sign = (1 << w) - 1, 1 << w - 1
        a, b = _signed("{0}", w), _signed("{1}", w)
        known |= {
            f"add.s{w}": f"({{0}} + {{1}}) & {mask}",
            f"sub.s{w}": f"({{0}} - {{1}}) & {mask}",
            f"neg.s{w}": f"-{{0}} & {mask}",
            f"mul.lo.s{w}": f"({{0}} * {{1}}) & {mask}",
            f"mul.hi.s{w}": f"({a} * {b} >> {w}) & {mask}",
            f"min.s{w}": f"min({a}, {b}) & {mask}",
            f"and.b{w}": "{0} & {1}",
            f"or.b{w}": "{0} | {1}",
            f"xor.b{w}": "{0} ^ {1}",
            f"not.b{w}": f"{{0}} ^ {mask}",
            f"shl.b{w}": f"({{0}} << min({{1}}, {w})) & {mask}",
            f"shr.u{w}": f"{{0}} >> min({{1}}, {w})",
            f"shr.s{w}": f"({a} >> min({{1}}, {w})) & {mask}",
            f"mul.wide.u{w}": "{0} * {1}",
            f"mul.wide.s{w}": f"({a} * {b}) & {(1 << 2 * w) - 1}",
            f"mov.u{w}": "{0}",
        }
        for kind in "usb":
            known[f"selp.{kind}{w}"] = "{0} if {2} else {1}"
        for name, symbol in _COMPARISONS.items():
            known[f"setp.{name}.s{w}"] = f"({{0}} ^ {sign}) {symbol} ({{1}} ^ {sign})"
            known[f"setp.{name}.u{w}"] = f"{{0}} {symbol} {{1}}"
    for name, symbol in _COMPARISONS.items():
        known[f"setp.{name}.f64"] = f"{{0}} {symbol} {{1}}"
        if name in _OPPOSITES:  # true where one is not a number, too
            known[f"setp.{name}u.f64"] = f"not {{0}} {_OPPOSITES[name]} {{1}}"
    del known["setp.ne.f64"]  # false where one is not a number, unlike Python's
    return known | {
        "mov.f32": "{0}",
        "mov.f64": "{0}",
        "mov.pred": "{0} != 0",
        "and.pred": "{0} and {1}",
        "or.pred": "{0} or {1}",
        "not.pred": "not {0}",
        "cvta.to.global.u64": "{0}",
        "cvt.u32.u64": f"{{0}} & {2**32 - 1}",
        "cvt.u64.u32": "{0}",
        "cvt.s64.s32": f"{_signed('{0}', 32)} & {2**64 - 1}",
        "cvt.rn.f32.s32": f"single({_signed('{0}', 32)})",
        "cvt.rn.f32.u32": "single({0})",
        "cvt.rn.f32.f64": "single({0})",
        "cvt.f64.f32": "{0}",
        "add.f32": "single({0} + {1})",
        "mul.f32": "single({0} * {1})",
        "neg.f32": "-{0}",
        "max.f32": "greatest({0}, {1})",
        "fma.rn.f32": "fma_single({0}, {1}, {2})",
        "rsqrt.approx.ftz.f32": "inverse_root({0})",
        "add.f64": "{0} + {1}",
        "sub.f64": "{0} - {1}",
        "mul.f64": "{0} * {1}",
        "neg.f64": "-{0}",
        "abs.f64": "abs({0})",
        "min.f64": "least({0}, {1})",
        "max.f64": "greatest({0}, {1})",
        "div.rn.f64": "divide({0}, {1})",
        "rcp.rn.f64": "divide(1.0, {0})",
        "sqrt.rn.f64": "square_root({0})",
        "fma.rn.f64": "fma_double({0}, {1}, {2})",
        "selp.f32": "{0} if {2} else {1}",
        "selp.f64": "{0} if {2} else {1}",
    }


_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_OPPOSITES = {"lt": ">=", "le": ">", "gt": "<=", "ge": "<"}
_EXPRESSIONS = _expressions()


class Kernel:
    """The one kernel of a PTX text.

    Parameters
    ----------
    text : str
    contract : bool
        Fuse products with the sums they go to where the assembler may, which is where neither
        instruction says how it rounds.

    Attributes
    ----------
    threads : int
        Of a block.
    source : str
        Of the generator.
    """

    def __init__(self, text, *, contract=False):
        text = re.sub(r"//[^\n]*", "", text)
        if re.search(r"(?<!\.extern )\.func\b", text) or len(re.findall(r"\.entry\b", text)) != 1:
            raise NotImplementedError("one kernel and no function beside it")
        entry = re.search(r"\.entry\s+\w+\s*\((.*?)\)(.*?)\{(.*)\}", text, re.DOTALL)
        self.parameters = re.findall(r"\.param\s+\.(\w+)\s+(\w+)", entry[1])
        self.threads = int(re.search(r"\.maxntid (\d+), 1, 1", entry[2])[1])
        self._places = {name: f"arguments[{i}]" for i, (_, name) in enumerate(self.parameters)}
        self.shared_bytes = 0
        self._symbols = {}
        shared = r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[(\d+)\]"
        for align, name, size in re.findall(shared, text):
            self.shared_bytes += -self.shared_bytes % int(align)
            self._symbols[name] = self.shared_bytes
            self.shared_bytes += int(size)
        self._contract = contract
        self.statements = []
        self._blocks, self._labels = [[]], {}
        self._products = {}
        for statement in re.sub(r"^\s*[{}]\s*$", "", entry[3], flags=re.MULTILINE).split(";"):
            self._add(" ".join(statement.split()))
        self.source = self._joined()
        names = {name: getattr(numbers, name) for name in dir(numbers)}
        exec(compile(self.source, "<ptx>", "exec"), names)
        self.thread = names["thread"]

    def _add(self, statement):
        """Translate a statement with the labels before it."""
        while label := re.match(r"(\$\w+): ?(.*)", statement):
            self._next_block()
            self._labels[label[1]] = len(self._blocks) - 1
            statement = label[2]
        if not statement or re.match(r"\.(reg|param|pragma)\b", statement):
            return
        parsed = re.fullmatch(r"(?:@(!?)%(p\d+) )?([a-z][\w.]*)(?: (.*))?", statement)
        if not parsed:
            raise NotImplementedError(statement)
        self.statements.append(statement)
        negated, predicate, opcode, operands = parsed.groups()
        condition = predicate and ("not " if negated else "") + predicate
        if opcode in ("bra", "bra.uni"):
            self._blocks[-1].append((operands, condition))
            self._next_block()
            return
        if opcode == "call.uni":
            code = self._call(operands)
        else:
            code = self._instruction(opcode, re.split(r", ", operands) if operands else [])
        if code is None:
            raise NotImplementedError(statement)
        if condition:
            self._products.clear()
        self._blocks[-1].append(f"if {condition}: {code}" if condition else code)

    def _next_block(self):
        self._blocks.append([])
        self._products.clear()

    def _instruction(self, opcode, operands):
        """Python statement of an instruction, None where it is not known."""
        line = len(self.statements) - 1
        if opcode == "ret":
            return "return"
        if (opcode, operands) == ("bar.sync", ["0"]):
            return f"yield 'block', {line}"
        if re.fullmatch(r"ld\.param\.[ufb](?:32|64)", opcode):
            target = self._register(operands[0])
            self._forget(target)
            return f"{target} = {self._parameter(operands[1])}"
        if re.fullmatch(r"st\.param\.b(?:32|64)", opcode):
            return f"{self._parameter(operands[0])} = {self._value(operands[1], 'b64')}"
        if match := re.fullmatch(r"ld(\.global|\.shared)?\.[uf](8|32|64)", opcode):
            space = "shared" if match[1] == ".shared" else "global"
            target, size = self._register(operands[0]), int(match[2]) // 8
            self._forget(target)
            return f"{target} = load_{space}({self._address(operands[1])}, {size}, {line})"
        if match := re.fullmatch(r"st\.(global|shared)\.[uf](8|32|64)", opcode):
            size, value = int(match[2]) // 8, self._value(operands[1], "u64")
            value = f"{value} & 255" if size == 1 else value
            return f"store_{match[1]}({self._address(operands[0])}, {size}, {value}, {line})"
        if opcode == "mov.b32":
            return self._reinterpreted(operands)
        expression = _EXPRESSIONS.get(opcode)
        if expression is None:
            return None
        kind = opcode.rsplit(".", 1)[1]
        target = self._register(operands[0])
        values = [self._value(operand, kind) for operand in operands[1:]]
        code = self._contracted(opcode, values) if self._contract else None
        self._forget(target)
        if opcode in ("mul.f32", "mul.f64") and target not in values:
            self._products[target] = values
        return f"{target} = {code or expression.format(*values)}"

    def _forget(self, target):
        """A register changes: products made of it can no longer be fused."""
        for product, factors in list(self._products.items()):
            if target == product or target in factors:
                del self._products[product]

    def _contracted(self, opcode, values):
        """A sum with a product fused into it, where there is one."""
        if opcode not in ("add.f32", "add.f64", "sub.f64"):
            return None
        fma = "fma_single" if opcode.endswith("32") else "fma_double"
        sign = "-" if opcode.startswith("sub") else ""
        first, second = (self._products.get(value) for value in values)
        if first:
            return f"{fma}({first[0]}, {first[1]}, {sign}{values[1]})"
        if second:
            return f"{fma}({sign}{second[0]}, {second[1]}, {values[0]})"
        return None

    def _call(self, operands):
        """Waiting of a whole grid, which is a function of the device's runtime."""
        line = len(self.statements) - 1
        result, name, arguments = re.fullmatch(
            r"\((\w+)\), (\w+), \( ?(.*?) ?\)", operands
        ).groups()
        arguments = arguments.split(", ")
        if name == "cudaCGGetIntrinsicHandle":
            return f"assert {arguments[0]} == 1; {result} = {_HANDLE}"
        if name == "cudaCGSynchronize":
            return f"assert {arguments[0]} == {_HANDLE}; yield 'grid', {line}; {result} = 0"
        return None

    def _reinterpreted(self, operands):
        """Bits of a float32 as an integer, or the other way round."""
        target = self._register(operands[0])
        self._forget(target)
        source = self._value(operands[1], "b32")
        kinds = [re.match(r"%([a-z]+)", operand) for operand in operands]
        if [kind and kind[1] for kind in kinds] == ["r", "f"]:
            return f"{target} = unpack('I', pack('f', {source}))[0]"
        if [kind and kind[1] for kind in kinds] == ["f", "r"]:
            return f"{target} = unpack('f', pack('I', {source}))[0]"
        return None

    @staticmethod
    def _register(operand):
        if not re.fullmatch(r"%(?:p|rs|r|rd|f|fd)\d+", operand):
            raise NotImplementedError(operand)
        return operand[1:]

    def _parameter(self, operand):
        name = re.fullmatch(r"\[(\w+)(?:\+0)?\]", operand)[1]
        return self._places.get(name, name)

    def _address(self, operand):
        base, offset = re.fullmatch(r"\[([%\w]+)(?:\+(-?\d+))?\]", operand).groups()
        base = self._value(base, "u64")
        return f"{base} + {offset} & {2**64 - 1}" if offset else base

    def _value(self, operand, kind):
        """A register or constant of a type."""
        if operand in _SPECIAL:
            return _SPECIAL[operand]
        if operand in self._symbols:
            return str(self._symbols[operand])
        if operand.startswith("%"):
            return self._register(operand)
        for start, form in (("0f", ">f"), ("0d", ">d")):
            if operand.startswith(start):
                return f"float('{struct.unpack(form, bytes.fromhex(operand[2:]))[0]!r}')"
        if kind == "pred":
            return operand
        return str(int(operand) & (1 << int(kind[1:])) - 1)

    def _joined(self):
        lines = [
            "from struct import pack, unpack",
            "def thread(arguments, tid, ctaid, ntid, nctaid, load_global, store_global, "
            "load_shared, store_shared):",
            " at = 0",
            " while True:",
        ]
        for number, block in enumerate(self._blocks):
            lines.append(f"  if at == {number}:")
            lines += [f"   {code}" for code in block if isinstance(code, str)]
            jump, condition = block[-1] if block and isinstance(block[-1], tuple) else (None, None)
            to = number + 1 if jump is None else self._labels[jump]
            lines.append(f"   at = {to}" + (f" if {condition} else {number + 1}" * bool(condition)))
        lines.append("  if False: yield")
        # Constants are as good as names, and the interpreter's compiler makes them constants.
        return re.sub(r"float\('([-\d.e+]+)'\)", r"(\1)", "\n".join(lines))

    def run(self, blocks, *arguments, order=None):
        """Run a grid of blocks; arrays change in place.

        Parameters
        ----------
        blocks : int
        *arguments : ndarray, int or float
        order : int, optional
            Seed of the order in which blocks and threads go on from barrier to barrier; by default
            one after the other, each as far as it can.
        """
        _Launch(self, blocks, arguments, order).run()


# --- memory ------------------------------------------------------------------------------------


class _Place:
    """A number in memory, and who touched it: (block, thread, barriers of block, and of grid)."""

    __slots__ = ("line", "readers", "size", "value", "writer")

    def __init__(self, size, value, writer=(-1, -1, -1, -1), line=None):
        self.size = size
        self.value = value
        self.writer = writer
        self.line = line
        self.readers = {}


def _in_order(then, now):
    """Whether a touch is by the same thread, or a barrier lies between."""
    if then[0] == now[0]:
        return then[1] == now[1] or then[2] < now[2]
    return then[3] < now[3]


class _Thread:
    """A thread, its way to memory, and the place in the order of barriers where it is."""

    def __init__(self, launch, block, number):
        self.launch, self.block = launch, block
        self.block_number, self.number = block.number, number
        self.now = (block.number, number, 0, 0)
        self.generator = launch.kernel.thread(
            launch.arguments, number, block.number, launch.kernel.threads, launch.num_blocks,
            self.load_global, self.store_global, self.load_shared, self.store_shared,
        )  # fmt: skip

    def step(self):
        """Go on to the next barrier; return it, None at the end."""
        self.now = (self.block_number, self.number, self.block.barriers, self.launch.barriers)
        return next(self.generator, None)

    def load_global(self, address, size, line):
        return self._load(self.launch.places, address, size, line)

    def load_shared(self, address, size, line):
        return self._load(self.block.places, address, size, line)

    def store_global(self, address, size, value, line):
        self._store(self.launch.places, address, size, value, line)

    def store_shared(self, address, size, value, line):
        if address not in self.block.places:
            if address % size or not 0 <= address <= self.launch.kernel.shared_bytes - size:
                raise Fault(f"{self._name(line)}: nothing of {size} bytes at {address:#x}")
            self.block.places[address] = _Place(size, value, self.now, line)
            return
        self._store(self.block.places, address, size, value, line)

    def _place(self, places, address, size, line):
        place = places.get(address)
        if place is None or place.size != size:
            raise Fault(f"{self._name(line)}: no value of {size} bytes at {address:#x}")
        return place

    def _load(self, places, address, size, line):
        half = size == 4 and address & ~7 in places and places[address & ~7].size == 8
        if half:  # an integer may be read by halves, the lower one first
            shift = 8 * (address & 7)
            return self._load(places, address & ~7, 8, line) >> shift & 0xFFFFFFFF
        place = self._place(places, address, size, line)
        now = self.now
        if not _in_order(place.writer, now):
            self._race(place.writer, place.line, line)
        last = place.readers.get(now[0])
        if last is None or last[2] < now[2]:
            place.readers[now[0]] = (*now, line)
        elif last[1] != now[1]:
            place.readers[now[0]] = (now[0], -1, *now[2:], line)  # several threads
        return place.value

    def _store(self, places, address, size, value, line):
        place = self._place(places, address, size, line)
        if value == place.value:
            return
        for then in (place.writer, *place.readers.values()):
            if not _in_order(then, self.now):
                self._race(then, place.line if len(then) == 4 else then[4], line)
        place.value, place.writer, place.line = value, self.now, line
        place.readers.clear()

    def _name(self, line):
        return f"block {self.block.number}, thread {self.number}, at " + repr(
            self.launch.kernel.statements[line]
        )

    def _race(self, then, line_then, line):
        thread = "several threads" if then[1] < 0 else f"thread {then[1]}"
        statement = self.launch.kernel.statements[line_then]
        raise Race(f"{self._name(line)}, and block {then[0]}, {thread}, at {statement!r}")


# --- launches ----------------------------------------------------------------------------------


class _Block:
    def __init__(self, launch, number):
        self.launch, self.number = launch, number
        self.places = {}
        self.barriers = 0
        #: What all of its threads wait for.
        self.stop = ("start", None)
        self.threads = [_Thread(launch, self, i) for i in range(launch.kernel.threads)]

    def step(self):
        """Let all threads go on to their next barrier."""
        order = self.threads
        if self.launch.random:
            order = self.launch.random.sample(order, len(order))
        stops = {thread.step() for thread in order}
        if len(stops) > 1:
            raise Fault(f"threads of block {self.number} wait for different things: {stops}")
        self.barriers += 1
        self.stop = stops.pop()


class _Launch:
    def __init__(self, kernel, num_blocks, arguments, order):
        self.kernel, self.num_blocks = kernel, num_blocks
        self.random = None if order is None else random.Random(order)
        #: Barriers of the whole grid that are behind it.
        self.barriers = 0
        self.places = {}
        self._arrays = []
        self._end = 0x10000
        self.arguments = [value for argument in arguments for value in self._flat(argument)]
        if len(self.arguments) != len(kernel.parameters):
            raise TypeError(f"{len(kernel.parameters)} parameters, got {len(self.arguments)}")
        for i, (value, (kind, name)) in enumerate(
            zip(self.arguments, kernel.parameters, strict=True)
        ):
            if isinstance(value, float) != (kind == "f64"):
                raise TypeError(f"{name} is {kind}, got {value!r}")
            if kind != "f64":
                self.arguments[i] = value & (1 << int(kind[1:])) - 1

    def _flat(self, argument):
        """What Numba passes for an argument."""
        if not isinstance(argument, np.ndarray):
            return [argument if isinstance(argument, float) else int(argument)]
        assert argument.flags.c_contiguous
        address, size = self._end, argument.itemsize
        kind = np.dtype(f"u{size}") if argument.dtype.kind == "i" else argument.dtype
        for i, value in enumerate(argument.view(kind).ravel().tolist()):
            self.places[address + i * size] = _Place(size, value)
        self._arrays.append((argument, kind, address))
        self._end += argument.nbytes + 4096  # far from the next one
        self._end -= self._end % 256
        return [0, 0, argument.size, size, address, *argument.shape, *argument.strides]

    def run(self):
        blocks = [_Block(self, i) for i in range(self.num_blocks)]
        while waiting := [block for block in blocks if block.stop is not None]:
            free = [block for block in waiting if block.stop[0] != "grid"]
            if free:
                (self.random.choice(free) if self.random else free[0]).step()
                continue
            if len({block.stop for block in blocks}) > 1:
                raise Fault("blocks wait for each other at different places, or for ended ones")
            self.barriers += 1
            for block in blocks:
                block.stop = ("block", None)
        for array, kind, address in self._arrays:
            size = array.itemsize
            values = [self.places[address + i * size].value for i in range(array.size)]
            array.view(kind).reshape(-1)[:] = values
