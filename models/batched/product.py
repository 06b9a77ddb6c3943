"""A small matrix product in registers, as LLVM intrinsics for compiled code.

Networks of 32 hidden units and batches of ten patients are too small for a BLAS call to pay, and loops over arrays that
might overlap vectorize badly. So the innermost tile, up to 8 rows by 32 columns of the result, is written down here in
LLVM's own vector instructions; the compiler turns them into what the processor has. Which tiles a product is cut into
changes no bit of it: every number is one sum over k, in order.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Numbers in a vector; hidden layers are padded to a multiple of it."""


def _vector() -> Any:
    return ir.VectorType(ir.FloatType(), LANES)


def _at(context: Any, builder: Any, array: Any, offset: Any) -> Any:
    """Address of an element of a flat float32 array."""
    return builder.gep(context.make_array(_ARRAY)(context, builder, array).data, [offset])


_ARRAY = types.float32[::1]


def _tile(rows: int, vectors: int) -> Any:
    """The intrinsic for so many rows and vectors of columns: c[r, :] = init[r, :] + sum over j of a[r, j] · b[j, :]."""

    @intrinsic
    def tile(typing, init, i0, i_row, a, a0, a_row, a_column, b, b0, b_row, c, c0, c_row, k):  # type: ignore[no-untyped-def]
        number = types.int64
        wanted = (_ARRAY, number, number, _ARRAY, number, number, number, _ARRAY, number, number)
        signature = types.void(*wanted, _ARRAY, number, number, number)

        def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            i64, vector = ir.IntType(64), _vector()
            i_, i0_, i_row_, a_, a0_, a_row_, a_column_, b_, b0_, b_row_, c_, c0_, c_row_, k_ = arguments

            def vector_at(array, offset, row, row_step, v):  # type: ignore[no-untyped-def]
                """Address of vector v of a row."""
                place = builder.add(builder.add(offset, builder.mul(row, row_step)), i64(v * LANES))
                return builder.bitcast(_at(context, builder, array, place), vector.as_pointer())

            kind = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
            undefined = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
            for r, held in enumerate(sums):
                for v, one in enumerate(held):
                    builder.store(builder.load(vector_at(i_, i0_, i64(r), i_row_, v), align=4), one)
            with cgutils.for_range(builder, k_) as loop:
                right = [builder.load(vector_at(b_, b0_, loop.index, b_row_, v), align=4) for v in range(vectors)]
                for r, held in enumerate(sums):
                    across = builder.mul(loop.index, a_column_)
                    place = builder.add(builder.add(a0_, builder.mul(a_row_, i64(r))), across)
                    left = builder.load(_at(context, builder, a_, place))
                    first = builder.insert_element(undefined, left, ir.Constant(ir.IntType(32), 0))
                    spread = builder.shuffle_vector(first, undefined, everywhere)
                    for v, one in enumerate(held):
                        builder.store(builder.call(fma, [spread, right[v], builder.load(one)]), one)
            for r, held in enumerate(sums):
                for v, one in enumerate(held):
                    builder.store(builder.load(one), vector_at(c_, c0_, i64(r), c_row_, v), align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


@intrinsic
def _turning(typing, a, a0, a_row, c, c0, c_row):  # type: ignore[no-untyped-def]
    """c[j, i] = a[i, j] for a square of LANES by LANES, in registers."""
    number = types.int64
    signature = types.void(_ARRAY, number, number, _ARRAY, number, number)

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        i64, vector = ir.IntType(64), _vector()
        a_, a0_, a_row_, c_, c0_, c_row_ = arguments

        def row(array, offset, step, r):  # type: ignore[no-untyped-def]
            place = builder.add(offset, builder.mul(step, i64(r)))
            return builder.bitcast(_at(context, builder, array, place), vector.as_pointer())

        rows = [builder.load(row(a_, a0_, a_row_, r), align=4) for r in range(LANES)]
        half = LANES // 2
        while half:  # exchange the off-diagonal blocks of each square of 2 · half
            for r in range(LANES):
                if not r & half:
                    one, two = rows[r], rows[r + half]
                    low = [i if not i & half else LANES + i - half for i in range(LANES)]
                    high = [i + half if not i & half else LANES + i for i in range(LANES)]
                    for target, lanes in ((r, low), (r + half, high)):
                        chosen = ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes)
                        rows[target] = builder.shuffle_vector(one, two, chosen)
            half //= 2
        for r, value in enumerate(rows):
            builder.store(value, row(c_, c0_, c_row_, r), align=4)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def _lowest(typing, word):  # type: ignore[no-untyped-def]
    """Place of the lowest bit that is set in a 64-bit number other than zero."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), emit


_turn: Any = _turning
lowest_bit: Any = _lowest
_tile11, _tile21, _tile41, _tile51, _tile81 = (_tile(rows, 1) for rows in (1, 2, 4, 5, 8))
_tile12, _tile22, _tile42, _tile52, _tile82 = (_tile(rows, 2) for rows in (1, 2, 4, 5, 8))


@njit(cache=True)
def product(init, i0, i_row, a, a0, a_row, a_column, b, b0, c, c0, m, k, n):  # type: ignore[no-untyped-def]
    """c[m, n] = init[m, n] + a[m, k] @ b[k, n] in flat float32 arrays.

    Parameters
    ----------
    init, a, b, c
        Contiguous float32 arrays; each matrix begins at the offset that follows.
    i_row, a_row, a_column
        Steps between rows (0: one row for all) and columns; those of b and c are n and 1.
    """
    j = 0
    while j + LANES <= n:
        wide = j + 2 * LANES <= n
        i = 0
        while i < m:
            left = m - i
            i1, a1, c1 = i0 + i * i_row + j, a0 + i * a_row, c0 + i * n + j
            if left >= 8 and left != 9 and left != 10:
                if wide:
                    _tile82(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                else:
                    _tile81(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                i += 8
            elif left >= 5:
                if wide:
                    _tile52(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                else:
                    _tile51(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                i += 5
            elif left >= 4:
                if wide:
                    _tile42(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                else:
                    _tile41(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                i += 4
            elif left >= 2:
                if wide:
                    _tile22(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                else:
                    _tile21(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                i += 2
            else:
                if wide:
                    _tile12(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                else:
                    _tile11(init, i1, i_row, a, a1, a_row, a_column, b, b0 + j, n, c, c1, n, k)
                i += 1
        j += 2 * LANES if wide else LANES
    for j in range(n - n % LANES, n):
        for i in range(m):
            total = init[i0 + i * i_row + j]
            for h in range(k):
                total += a[a0 + i * a_row + h * a_column] * b[b0 + h * n + j]
            c[c0 + i * n + j] = total


@njit(cache=True)
def transpose(a, a0, m, n, c, c0):  # type: ignore[no-untyped-def]
    """c[n, m] = the transpose of a[m, n]; both sizes multiples of LANES."""
    for i in range(0, m, LANES):
        for j in range(0, n, LANES):
            _turn(a, a0 + i * n + j, n, c, c0 + j * m + i, m)
