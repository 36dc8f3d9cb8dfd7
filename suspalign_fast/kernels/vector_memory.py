"""Vectors read from arrays and written to them, and rounded to what those can hold."""

from llvmlite import ir
from numba.core import cgutils, types

from .jit import intrinsic
from .vectors import Vector

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
