"""Sixteen values at a time, for the loops of the compiled CPU executor: what Numba has no words for.

Loads from scattered places are what interpolation and noise wait for. Processors with AVX-512 have an instruction for
sixteen of them, which LLVM does not choose by itself in such loops; where `GATHERS` is false, loads of one or two
pixels each are faster. Arrays are read and written in whole vectors, so that rows of them have a multiple of `VECTOR`
values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# Float32 values in a cache line.
VECTOR = 16
# Sums of products that are made at a time, and the products in each.
OCTET = 8


def _has_fast_gathers() -> bool:
    """Whether one instruction loads sixteen values, and no microcode against Gather Data Sampling slows it down."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    kernel = Path("/sys/devices/system/cpu/vulnerabilities/gather_data_sampling")
    try:
        mitigated = "Mitigation" in kernel.read_text()
    except OSError:
        mitigated = False
    return "+avx512f" in features and not mitigated


GATHERS = _has_fast_gathers()

_BIT, _WORD, _FLOAT = ir.IntType(1), ir.IntType(32), ir.FloatType()


def _many(kind: Any) -> Any:
    return ir.VectorType(kind, VECTOR)


def _each(kind: Any, number: float) -> Any:
    return ir.Constant(_many(kind), [number] * VECTOR)


class _Body:
    """The body of an intrinsic; its arguments are called by their numbers."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context, self._builder, self._types, self._arguments = context, builder, signature.args, arguments

    def pointer(self, array: int, index: Any) -> Any:
        kind = self._types[array]
        first = self._context.make_array(kind)(self._context, self._builder, self._arguments[array]).data
        element = self._context.get_data_type(kind.dtype)
        places = self._builder.gep(first, [index], source_etype=element)
        if isinstance(index.type, ir.VectorType):
            places.type = _many(first.type)
        return places

    def load(self, array: int, index: Any) -> Any:
        dtype = self._types[array].dtype
        kind = _many(self._context.get_data_type(dtype))
        place = self._builder.bitcast(self.pointer(array, index), kind.as_pointer())
        return self._builder.load(place, align=dtype.bitwidth // 8)

    def store(self, array: int, index: Any, values: Any) -> None:
        place = self._builder.bitcast(self.pointer(array, index), values.type.as_pointer())
        self._builder.store(values, place, align=4)

    def stream(self, array: int, index: Any, values: Any) -> None:
        """Store past the cache, at a multiple of 64 bytes: an output is written once, and fetching what it replaces
        would cost as much."""
        place = self._builder.bitcast(self.pointer(array, index), values.type.as_pointer())
        stored = self._builder.store(values, place, align=4 * VECTOR)
        stored.set_metadata("nontemporal", self._builder.module.add_metadata([_WORD(1)]))

    def every(self, value: Any) -> Any:
        """A number in each place of a vector."""
        one = self._builder.insert_element(ir.Constant(_many(value.type), ir.Undefined), value, _WORD(0))
        return self._builder.shuffle_vector(one, one, ir.Constant(_many(_WORD), None))

    def gather(self, array: int, index: Any, kind: Any) -> Any:
        """What lies at sixteen places of an array, as numbers of `kind`."""
        result = _many(kind)
        places = self._builder.bitcast(self.pointer(array, index), _many(kind.as_pointer()))
        name = f"llvm.masked.gather.v{VECTOR}{'f' if kind == _FLOAT else 'i'}{32 if kind == _FLOAT else kind.width}"
        form = ir.FunctionType(result, [places.type, _WORD, _many(_BIT), result])
        module = self._builder.module
        function = module.globals.get(f"{name}.v{VECTOR}p0") or ir.Function(module, form, f"{name}.v{VECTOR}p0")
        return self._builder.call(function, [places, _WORD(1), _each(_BIT, 1), ir.Constant(result, ir.Undefined)])


def _halves(builder: Any, word: Any, kind: Any) -> tuple[Any, Any]:
    """Two neighbouring pixels, read as one number, as float32."""
    size = kind.bitwidth
    if isinstance(kind, types.Float):
        shifted = builder.lshr(word, _each(word.type.element, size))
        low, high = (builder.bitcast(builder.trunc(part, _many(_WORD)), _many(_FLOAT)) for part in (word, shifted))
        return low, high
    apart = _each(_WORD, 32 - size)
    low, high = builder.shl(word, apart), word if size == 16 else builder.shl(word, _each(_WORD, 16))
    shift = builder.ashr if kind.signed else builder.lshr
    low, high = (builder.sitofp(shift(part, apart), _many(_FLOAT)) for part in (low, high))
    return low, high


@intrinsic
def pair_at(typing, array, index):
    """Two neighbouring integers of 8 or 16 bits by one load."""
    size = array.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):
        place = _Body(context, builder, signature, arguments).pointer(0, arguments[1])
        loaded = builder.load(builder.bitcast(place, ir.IntType(16 * size).as_pointer()), align=size)
        return loaded if size == 2 else builder.zext(loaded, _WORD)

    return types.uint32(array, types.uint64), generate


def _pair(guarded: bool) -> Any:
    """Add sixteen pixels and their right neighbours by weight to values, or put them there unless there should be
    `more`. Of an array with the places of the pixels they lie `beyond`; none is read after the pair at `last`."""

    @intrinsic
    def add(typing, source, index, low, high, values, at, beyond, last, more):
        kind = source.dtype

        def generate(context, builder, signature, arguments):
            body = _Body(context, builder, signature, arguments)
            at, beyond, last, more = arguments[5:]
            places = builder.add(body.load(1, at), body.every(builder.trunc(beyond, _WORD)))
            # What lies after the last pixel is not read: the pair ends with it and is shifted.
            most = body.every(builder.trunc(last, _WORD))
            held = builder.select(builder.icmp_signed("<", places, most), places, most)
            word = ir.IntType(max(32, 2 * kind.bitwidth))
            pair = body.gather(0, held, word)
            after = builder.mul(builder.sub(places, held), _each(_WORD, kind.bitwidth))
            pair = builder.lshr(pair, after if word == _WORD else builder.zext(after, pair.type))
            total = None
            for weights, pixels in zip((2, 3), _halves(builder, pair, kind), strict=True):
                weight = body.load(weights, at)
                part = builder.fmul(weight, pixels)
                if guarded:
                    zero = _each(_FLOAT, 0.0)
                    part = builder.select(builder.fcmp_unordered("!=", weight, zero), part, zero)
                total = part if total is None else builder.fadd(total, part)
            sum_ = builder.fadd(body.load(4, at), total)
            body.store(4, at, builder.select(more, sum_, total))
            return context.get_dummy_value()

        arguments = source, index, low, high, values, types.int64, types.int64, types.int64, types.boolean
        return types.void(*arguments), generate

    return add


add_pair, add_guarded_pair = _pair(False), _pair(True)


@intrinsic
def look_up(typing, table, words, low, high, at):
    """Look up both halves of sixteen words by their upper 12 bits."""

    def generate(context, builder, signature, arguments):
        body, at = _Body(context, builder, signature, arguments), arguments[4]
        word = body.load(1, at)
        for array, part in ((2, builder.shl(word, _each(_WORD, 16))), (3, word)):
            body.store(array, at, body.gather(0, builder.lshr(part, _each(_WORD, 20)), _FLOAT))
        return context.get_dummy_value()

    return types.void(table, words, low, high, types.int64), generate


@intrinsic
def stream(typing, target, source, at):
    """Copy sixteen values past the cache, to a multiple of 64 bytes."""

    def generate(context, builder, signature, arguments):
        body = _Body(context, builder, signature, arguments)
        body.stream(0, arguments[2], body.load(1, arguments[2]))
        return context.get_dummy_value()

    return types.void(target, source, types.uint64), generate


@intrinsic
def note_bounds(typing, source, at, low, high):
    """Note sixteen values in the least and the greatest that have been seen at each of sixteen places."""

    def generate(context, builder, signature, arguments):
        body = _Body(context, builder, signature, arguments)
        values, first = body.load(0, arguments[1]), ir.IntType(64)(0)
        for sign, array in (("<", 2), (">", 3)):
            held = body.load(array, first)
            body.store(array, first, builder.select(builder.fcmp_ordered(sign, values, held), values, held))
        return context.get_dummy_value()

    return types.void(source, types.int64, low, high), generate


def _scaled(backwards: bool) -> Any:
    """Sixteen pixels times a gain and plus an offset, stored past the cache at a multiple of 64 bytes; a bit for each
    of them that was finite. Read, worked out and written in one go: memory is all that such a sample waits for."""

    @intrinsic
    def move(typing, source, at, target, to, gain, offset):
        kind = source.dtype

        def generate(context, builder, signature, arguments):
            body = _Body(context, builder, signature, arguments)
            values = body.load(0, arguments[1])
            if backwards:
                order = ir.Constant(_many(_WORD), list(range(VECTOR))[::-1])
                values = builder.shuffle_vector(values, values, order)
            if not isinstance(kind, types.Float):
                values = (builder.sitofp if kind.signed else builder.uitofp)(values, _many(_FLOAT))
            exponent = _each(_WORD, 0x7F800000)
            held = builder.and_(builder.bitcast(values, _many(_WORD)), exponent)
            finite = builder.icmp_unsigned("!=", held, exponent)
            values = builder.fmul(values, body.every(arguments[4]), flags=("contract",))
            values = builder.fadd(values, body.every(arguments[5]), flags=("contract",))
            body.stream(2, arguments[3], values)
            return builder.bitcast(finite, ir.IntType(16))

        return types.uint16(source, at, target, to, gain, offset), generate

    return move


scaled_forwards, scaled_backwards = _scaled(False), _scaled(True)


def _dots(builder: Any, body: _Body, base: Any, at: Any, stride: Any) -> Any:
    """Eight sums of eight pixels times their weights, as one vector. Of an array with the places of the first pixels,
    counted from `base`, and one with the numbers of the weights; each sum reads `stride` pixels after the one before.

    Products are added in pairs, neighbours first, as the shuffles below do it without leaving halves of a vector.
    """
    wide, narrow = ir.IntType(64), ir.VectorType(_FLOAT, OCTET)

    def eight(array: int, index: Any) -> Any:
        return builder.load(builder.bitcast(body.pointer(array, index), narrow.as_pointer()), align=4)

    def number(array: int, index: Any) -> Any:
        return builder.zext(builder.load(body.pointer(array, index)), wide)

    def shuffled(first: Any, second: Any, order: list[int]) -> Any:
        return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_WORD, OCTET), order))

    def paired(first: Any, second: Any) -> Any:
        even = shuffled(first, second, [0, 2, 8, 10, 4, 6, 12, 14])
        return builder.fadd(even, shuffled(first, second, [1, 3, 9, 11, 5, 7, 13, 15]))

    sums = []
    for place in range(OCTET):
        index = builder.add(at, wide(place))
        begin = builder.add(number(2, index), builder.add(base, builder.mul(stride, wide(place))))
        shares = builder.mul(number(4, index), wide(OCTET))
        sums.append(builder.fmul(eight(0, begin), eight(3, shares)))
    for _ in range(2):
        sums = [paired(sums[i], sums[i + 1]) for i in range(0, len(sums), 2)]
    low, high = ([part, part + 1, part + 2, part + 3, part + 8, part + 9, part + 10, part + 11] for part in (0, 4))
    return builder.fadd(shuffled(sums[0], sums[1], low), shuffled(sums[0], sums[1], high))


@intrinsic
def dots_within(typing, source, base, starts, weights, phases, at, stride, low, high, target, to):
    """`_dots`, kept between two numbers, to eight neighbouring places."""

    def generate(context, builder, signature, arguments):
        body, kind = _Body(context, builder, signature, arguments), ir.VectorType(_FLOAT, OCTET)
        values = _dots(builder, body, arguments[1], arguments[5], arguments[6])
        for sign, limit in ((">", arguments[7]), ("<", arguments[8])):
            one = builder.insert_element(ir.Constant(kind, ir.Undefined), limit, _WORD(0))
            every = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_WORD, OCTET), None))
            values = builder.select(builder.fcmp_ordered(sign, values, every), values, every)
        place = builder.bitcast(body.pointer(9, arguments[10]), kind.as_pointer())
        builder.store(values, place, align=4)
        return context.get_dummy_value()

    whole, number = types.int64, types.float32
    arguments = source, whole, starts, weights, phases, whole, whole, number, number, target, whole
    return types.void(*arguments), generate


@intrinsic
def dots_apart(typing, source, base, starts, weights, phases, at, target, to, apart):
    """`_dots`, to eight places that lie `apart`."""

    def generate(context, builder, signature, arguments):
        body = _Body(context, builder, signature, arguments)
        values = _dots(builder, body, arguments[1], arguments[5], ir.IntType(64)(0))
        for place in range(OCTET):
            index = builder.add(arguments[7], builder.mul(arguments[8], ir.IntType(64)(place)))
            builder.store(builder.extract_element(values, _WORD(place)), body.pointer(6, index))
        return context.get_dummy_value()

    whole = types.int64
    return types.void(source, whole, starts, weights, phases, whole, target, whole, whole), generate
