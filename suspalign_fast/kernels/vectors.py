"""Vectors of a written-down width: the type, its operators, and lanes that are made and moved."""

import operator

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from .jit import intrinsic

_INDEX = ir.IntType(32)


class Vector(types.Type):
    """Numba type of ``lanes`` values of one scalar type held in vector registers."""

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


_OPERATORS = {
    operator.add: ("add", "fadd"),
    operator.sub: ("sub", "fsub"),
    operator.mul: ("mul", "fmul"),
    operator.truediv: (None, "fdiv"),
    operator.xor: ("xor", None),
    operator.and_: ("and_", None),
    operator.or_: ("or_", None),
    operator.lshift: ("shl", None),
    operator.rshift: ("lshr", None),
}


def _define_operator(symbol, integer_name, float_name):
    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, args, kws):
            left, right = args
            if isinstance(left, Vector) and left == right:
                return signature(left, left, right)
            return None

    def lower(context, builder, sig, args):
        is_float = isinstance(sig.return_type.dtype, types.Float)
        return getattr(builder, float_name if is_float else integer_name)(*args)

    lower_builtin(symbol, Vector, Vector)(lower)


for _symbol, _names in _OPERATORS.items():
    _define_operator(_symbol, *_names)


def _shuffle(builder, left, right, lanes):
    mask = ir.Constant(ir.VectorType(_INDEX, len(lanes)), list(lanes))
    return builder.shuffle_vector(left, right, mask)


def spread_scalar(builder, scalar, kind):
    """A scalar in every lane of an LLVM vector type, or as it is for a scalar type."""
    if not isinstance(kind, ir.VectorType):
        return scalar
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_INDEX, 0))
    return _shuffle(builder, first, undefined, [0] * kind.count)


@intrinsic(prefer_literal=True)
def broadcast(typingctx, value, like):
    """``value`` in every lane of a vector like ``like`` (or cast to its type, for a scalar)."""
    dtype = getattr(like, "dtype", like)

    def codegen(context, builder, sig, args):
        scalar = context.cast(builder, args[0], sig.args[0], dtype)
        return spread_scalar(builder, scalar, context.get_value_type(sig.return_type))

    return like(value, like), codegen


@intrinsic(prefer_literal=True)
def iota(typingctx, zero, lanes):
    """Vector ``0, 1, ..., lanes - 1`` of the type of ``zero``."""
    count = lanes.literal_value
    dtype = types.unliteral(zero)

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(sig.return_type), list(range(count)))

    return Vector(dtype, count)(zero, lanes), codegen


@intrinsic(prefer_literal=True)
def zeros(typingctx, zero, lanes):
    """Vector of ``lanes`` zeros of the type of ``zero``."""
    dtype = types.unliteral(zero)

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(sig.return_type), None)

    return Vector(dtype, lanes.literal_value)(zero, lanes), codegen


@intrinsic
def interleave(typingctx, a, b):
    """Low words of the uint64 vectors ``a`` and ``b`` in turn: a[0], b[0], a[1], b[1], ..."""
    result = Vector(types.uint32, 2 * a.lanes)

    def codegen(context, builder, sig, args):
        left, right = (builder.bitcast(x, context.get_value_type(result)) for x in args)
        order = [i for j in range(a.lanes) for i in (2 * j, 2 * (a.lanes + j))]
        return _shuffle(builder, left, right, order)

    return result(a, b), codegen


def _half(offset, doc):
    @intrinsic
    def half(typingctx, a):
        count = a.lanes // 2

        def codegen(context, builder, sig, args):
            return _shuffle(builder, args[0], args[0], range(offset * count, (offset + 1) * count))

        return Vector(a.dtype, count)(a), codegen

    half.__doc__ = doc
    return half


lower_half = _half(0, "The first half of a vector's lanes.")
upper_half = _half(1, "The second half of a vector's lanes.")


def sum_lanes(builder, value):
    """Add the upper half of a vector to its lower half until one lane is left."""
    lanes = value.type.count
    while lanes > 1:
        lanes //= 2
        lower = _shuffle(builder, value, value, range(lanes))
        upper = _shuffle(builder, value, value, range(lanes, 2 * lanes))
        value = builder.fadd(lower, upper)
    return builder.extract_element(value, ir.Constant(_INDEX, 0))


@intrinsic
def horizontal_sum(typingctx, a):
    """Sum of the lanes: upper half added to lower half until one lane is left."""

    def codegen(context, builder, sig, args):
        return sum_lanes(builder, args[0])

    return a.dtype(a), codegen
