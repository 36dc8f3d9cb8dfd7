"""Vectors read from arrays and written to them, and rounded to what those can hold."""

from llvmlite import ir
from numba.core import cgutils, types

from .jit import intrinsic
from .vectors import Vector, spread_scalar, sum_lanes

_INDEX = ir.IntType(32)


def _element_pointer(context, builder, array_type, array, index, vector_type):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector_type.as_pointer())


@intrinsic(prefer_literal=True)
def load(typingctx, array, index, lanes):
    """Elements ``array[index : index + lanes]`` of a contiguous array, unchecked."""
    vector = Vector(array.dtype, lanes.literal_value)

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(vector)
        value = builder.load(_element_pointer(context, builder, sig.args[0], *args[:2], kind))
        value.align = array.dtype.bitwidth // 8
        return value

    return vector(array, types.intp, lanes), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Write ``vector`` to ``array[index : index + lanes]`` of a contiguous array, unchecked."""

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(vector)
        pointer = _element_pointer(context, builder, sig.args[0], *args[:2], kind)
        builder.store(args[2], pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), codegen


@intrinsic(prefer_literal=True)
def load_doubles(typingctx, array, index, lanes):
    """Elements ``array[index : index + lanes]`` of a float64 or float32 array as float64."""
    vector = Vector(types.float64, lanes.literal_value)
    stored = Vector(array.dtype, vector.lanes)

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(stored)
        value = builder.load(_element_pointer(context, builder, sig.args[0], *args[:2], kind))
        value.align = array.dtype.bitwidth // 8
        return value if stored == vector else builder.fpext(value, context.get_value_type(vector))

    return vector(array, types.intp, lanes), codegen


@intrinsic
def store_doubles(typingctx, array, index, vector):
    """Write float64 lanes to a float64 or float32 array, rounded to its type."""
    stored = Vector(array.dtype, vector.lanes)

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(stored)
        value = args[2] if stored == vector else builder.fptrunc(args[2], kind)
        pointer = _element_pointer(context, builder, sig.args[0], *args[:2], kind)
        builder.store(value, pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), codegen


@intrinsic
def rounded_like(typingctx, array, vector):
    """Float64 lanes rounded to what the array can hold."""
    stored = Vector(array.dtype, vector.lanes)

    def codegen(context, builder, sig, args):
        if stored == vector:
            return args[1]
        short = builder.fptrunc(args[1], context.get_value_type(stored))
        return builder.fpext(short, context.get_value_type(vector))

    return vector(array, vector), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of ``array[index]``, which may lie outside; changes nothing."""

    def codegen(context, builder, sig, args):
        pointer = _element_pointer(context, builder, array, *args, ir.IntType(8))
        kinds = [pointer.type, _INDEX, _INDEX, _INDEX]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        # For reading, into the second level, data.
        builder.call(function, [pointer, *(ir.Constant(_INDEX, value) for value in (0, 2, 1))])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


# --- Arithmetic of vectors and scalars beyond operators: roots, conversions, products of words ---
#
# Words of 32 bits come in two forms: the low halves of uint64 (the high ones are scratch), where
# the processor multiplies those, or uint32, which is what a GPU has registers for.


def _llvm_call(name):
    def codegen(context, builder, sig, args):
        kind = context.get_value_type(sig.return_type)
        dtype = getattr(sig.return_type, "dtype", sig.return_type)
        lanes = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [kind] * len(args)),
            f"llvm.{name}.{lanes}f{dtype.bitwidth}",
        )
        return builder.call(function, args)

    return codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a * b + c`` rounded once."""
    return a(a, a, a), _llvm_call("fma")


# --- Tuples of vectors: one line for all sums ----------------------------------------------------


@intrinsic
def broadcast_each(typingctx, numbers, like):
    """Every number of a tuple in all lanes of a vector like ``like``."""
    result = types.UniTuple(like, numbers.count)

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(like)
        values = cgutils.unpack_tuple(builder, args[0])
        vectors = [spread_scalar(builder, value, kind) for value in values]
        return context.make_tuple(builder, sig.return_type, vectors)

    return result(numbers, like), codegen


@intrinsic
def fma_each(typingctx, a, factors, sums):
    """``a * factor + sum`` for every sum of a tuple and its factor, each rounded once."""
    multiply_add = _llvm_call("fma")
    one = a(a, a, a)

    def codegen(context, builder, sig, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, values) for values in args[1:]), strict=True)
        made = [multiply_add(context, builder, one, [args[0], *pair]) for pair in pairs]
        return context.make_tuple(builder, sig.return_type, made)

    return sums(a, factors, sums), codegen


def repeat(count):
    """Return a function that makes a tuple of a vector, so many times."""

    @intrinsic
    def repeated(typingctx, vector):
        def codegen(context, builder, sig, args):
            return context.make_tuple(builder, sig.return_type, count * list(args))

        return types.UniTuple(vector, count)(vector), codegen

    return repeated


def choose(positions):
    """Return a function that takes the entries of a tuple at these positions."""

    @intrinsic
    def chosen(typingctx, values):
        def codegen(context, builder, sig, args):
            made = [builder.extract_value(args[0], position) for position in positions]
            return context.make_tuple(builder, sig.return_type, made)

        return types.UniTuple(values.dtype, len(positions))(values), codegen

    return chosen


def _for_lanes(columns, combine):
    """Return a function that writes the horizontal sum of each sum to its column of a row."""

    @intrinsic
    def write(typingctx, row, sums):
        def codegen(context, builder, sig, args):
            data = context.make_array(row)(context, builder, args[0]).data
            for column, value in zip(columns, cgutils.unpack_tuple(builder, args[1]), strict=True):
                pointer = builder.gep(data, [ir.Constant(ir.IntType(64), column)])
                builder.store(combine(builder, pointer, sum_lanes(builder, value)), pointer)
            return context.get_dummy_value()

        return types.none(row, sums), codegen

    return write


def add_lanes(columns):
    """Return ``add(row, sums)``: the lanes of every sum are added to its column of a row."""
    return _for_lanes(columns, lambda b, pointer, value: b.fadd(b.load(pointer), value))


def write_lanes(columns):
    """Return ``write(row, sums)``: a column of a row is set to the lanes of its sum."""
    return _for_lanes(columns, lambda _, __, value: value)


@intrinsic
def write_column(typingctx, out, first, column, sums):
    """Set a column of a table, from row ``first`` on, to the lanes of all sums."""

    def codegen(context, builder, sig, args):
        table = context.make_array(out)(context, builder, args[0])
        for k, value in enumerate(cgutils.unpack_tuple(builder, args[3])):
            row = builder.add(args[1], ir.Constant(args[1].type, k))
            pointer = cgutils.get_item_pointer(context, builder, out, table, [row, args[2]])
            builder.store(sum_lanes(builder, value), pointer)
        return context.get_dummy_value()

    return types.none(out, types.intp, types.intp, sums), codegen


@intrinsic
def square_root(typingctx, a):
    """Correctly rounded square root of 0 or a float32 that is neither tiny nor huge."""
    general = _llvm_call("sqrt")

    def codegen(context, builder, sig, args):
        if type(context).__name__ != "CUDATargetContext":
            return general(context, builder, sig, args)
        return _square_root_on_gpu(builder, args[0])

    return a(a), codegen


def _square_root_on_gpu(builder, a):
    """Square root without the branch to a slow path, which keeps chains from interleaving.

    One Newton step from the hardware's estimate, as the compiler does it outside the slow path;
    the floor under the estimate's argument is for 0, whose estimate is infinite.
    """
    kind, single = a.type, ir.FloatType()
    element = builder.extract_element(a, ir.Constant(_INDEX, 0))
    tiny = ir.Constant(single, 2.0**-100)
    floored = builder.select(builder.fcmp_ordered(">", element, tiny), element, tiny)
    estimate = builder.call(
        cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(single, [single]), "llvm.nvvm.rsqrt.approx.ftz.f"
        ),
        [floored],
    )
    fused = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(single, [single] * 3), "llvm.fma.f32"
    )
    root = builder.fmul(element, estimate)
    half = builder.fmul(estimate, ir.Constant(single, 0.5))
    minus_root = builder.fmul(root, ir.Constant(single, -1.0))  # NVVM's LLVM knows no fneg
    rest = builder.call(fused, [minus_root, root, element])
    better = builder.call(fused, [rest, half, root])
    return builder.insert_element(ir.Constant(kind, ir.Undefined), better, ir.Constant(_INDEX, 0))


@intrinsic
def zero_where_zero(typingctx, a, b):
    """``a``, 0 in the lanes where ``b`` is."""

    def codegen(context, builder, sig, args):
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_ordered("==", args[1], zero), zero, args[0])

    return a(a, b), codegen


@intrinsic
def select_zero(typingctx, a, b, c):
    """``b`` in the lanes where ``a`` is 0, ``c`` in the others."""

    def codegen(context, builder, sig, args):
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_ordered("==", args[0], zero), args[1], args[2])

    return a(a, b, c), codegen


@intrinsic
def lanes_not_below(typingctx, a, b):
    """Lanes where ``a`` is not below ``b``, or either is no number, as bits of a uint64."""

    def codegen(context, builder, sig, args):
        bits = builder.fcmp_unordered(">=", *args)
        if isinstance(bits.type, ir.VectorType):
            bits = builder.bitcast(bits, ir.IntType(bits.type.count))
        return builder.zext(bits, ir.IntType(64))

    return types.uint64(a, b), codegen


def _conversion(instruction, dtype, doc):
    @intrinsic
    def convert(typingctx, a):
        result = Vector(dtype, a.lanes) if isinstance(a, Vector) else dtype

        def codegen(context, builder, sig, args):
            return getattr(builder, instruction)(*args, context.get_value_type(result))

        return result(a), codegen

    convert.__doc__ = doc
    return convert


unsigned_to_float = _conversion("uitofp", types.float32, "Nearest float32 of a uint32.")
signed_to_float = _conversion("sitofp", types.float32, "Nearest float32 of an int32 in a uint32.")
unsigned_to_double = _conversion("uitofp", types.float64, "The float64 equal to a uint32.")
float_bits = _conversion("bitcast", types.uint32, "The 32 bits of a float32.")
float_from_bits = _conversion("bitcast", types.float32, "The float32 with these 32 bits.")
double_from_bits = _conversion("bitcast", types.float64, "The float64 with these 64 bits.")
to_double = _conversion("fpext", types.float64, "The float64 equal to a float32.")


@intrinsic
def arithmetic_shift(typingctx, a, b):
    """``a >> b`` of integers taken as signed."""

    def codegen(context, builder, sig, args):
        return builder.ashr(*args)

    return a(a, a), codegen


@intrinsic
def low_word(typingctx, a):
    """Low 32 bits of a uint64, or a uint32 itself."""
    result = Vector(types.uint32, a.lanes) if isinstance(a, Vector) else types.uint32

    def codegen(context, builder, sig, args):
        if a == result:
            return args[0]
        return builder.trunc(args[0], context.get_value_type(result))

    return result(a), codegen


def _word_product_type(word):
    return Vector(types.uint64, word.lanes) if isinstance(word, Vector) else types.uint64


@intrinsic
def word_product(typingctx, a, b):
    """Product of words as a uint64; ``b`` is a uint64 constant below 2^32."""
    result = _word_product_type(a)

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(result)
        broadcasted = spread_scalar(builder, args[1], kind)
        if a == result:
            low = spread_scalar(builder, ir.Constant(ir.IntType(64), 0xFFFFFFFF), kind)
            return builder.mul(builder.and_(args[0], low), broadcasted)
        return builder.mul(builder.zext(args[0], kind), broadcasted)

    return result(a, types.uint64), codegen


@intrinsic
def high_half(typingctx, product, word):
    """High half of a `word_product`, in the form of ``word``."""

    def codegen(context, builder, sig, args):
        kind = args[0].type
        shift = spread_scalar(builder, ir.Constant(ir.IntType(64), 32), kind)
        half = builder.lshr(args[0], shift)
        return half if product == word else builder.trunc(half, args[1].type)

    return word(product, word), codegen


@intrinsic
def low_half(typingctx, product, word):
    """Low half of a `word_product`, in the form of ``word``."""

    def codegen(context, builder, sig, args):
        return args[0] if product == word else builder.trunc(args[0], args[1].type)

    return word(product, word), codegen
