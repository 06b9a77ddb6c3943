"""A small matrix product in registers, as an LLVM intrinsic for compiled code.

Networks of 32 hidden units and batches of ten patients are too small for a BLAS call to pay, and loops over arrays that
might overlap vectorize badly. So the innermost tile, R rows by 16 columns of the result, is written down here in LLVM's
own vector instructions; the compiler turns them into what the processor has.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Columns of a tile; hidden layers are padded to a multiple of it."""


def _tile(rows: int) -> Any:
    """The intrinsic for so many rows: c[r, :16] = init[r, :16] + sum over j of a[r, j] · b[j, :16]."""

    @intrinsic
    def tile(typing, init, i0, i_row, a, a0, a_row, a_column, b, b0, b_row, c, c0, c_row, k):  # type: ignore[no-untyped-def]
        array, number = types.float32[::1], types.int64
        wanted = (array, number, number, array, number, number, number, array, number, number)
        signature = types.void(*wanted, array, number, number, number)

        def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            f32, i64 = ir.FloatType(), ir.IntType(64)
            vector = ir.VectorType(f32, LANES)
            i_, i0_, i_row_, a_, a0_, a_row_, a_column_, b_, b0_, b_row_, c_, c0_, c_row_, k_ = arguments

            def data(value):  # type: ignore[no-untyped-def]
                return context.make_array(array)(context, builder, value).data

            def pointer(base, *terms):  # type: ignore[no-untyped-def]
                index = terms[0]
                for term in terms[1:]:
                    index = builder.add(index, term)
                return builder.gep(base, [index])

            def vectors(at):  # type: ignore[no-untyped-def]
                return builder.bitcast(at, vector.as_pointer())

            kind = ir.FunctionType(vector, [vector] * 3)
            fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
            first_i, first_a, first_b, first_c = data(i_), data(a_), data(b_), data(c_)
            sums = []
            for r in range(rows):
                held = cgutils.alloca_once(builder, vector)
                at = pointer(first_i, i0_, builder.mul(i_row_, i64(r)))
                builder.store(builder.load(vectors(at), align=4), held)
                sums.append(held)
            with cgutils.for_range(builder, k_) as loop:
                at = pointer(first_b, b0_, builder.mul(loop.index, b_row_))
                right = builder.load(vectors(at), align=4)
                for r, held in enumerate(sums):
                    row = builder.mul(a_row_, i64(r))
                    left = builder.load(pointer(first_a, a0_, row, builder.mul(loop.index, a_column_)))
                    one = builder.insert_element(
                        ir.Constant(vector, ir.Undefined), left, ir.Constant(ir.IntType(32), 0)
                    )
                    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                    spread = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lanes)
                    builder.store(builder.call(fma, [spread, right, builder.load(held)]), held)
            for r, held in enumerate(sums):
                at = pointer(first_c, c0_, builder.mul(c_row_, i64(r)))
                builder.store(builder.load(held), vectors(at), align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


_tile1, _tile2, _tile4 = _tile(1), _tile(2), _tile(4)


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
    for j in range(0, n - n % LANES, LANES):
        i = 0
        while i + 4 <= m:
            _tile4(
                init,
                i0 + i * i_row + j,
                i_row,
                a,
                a0 + i * a_row,
                a_row,
                a_column,
                b,
                b0 + j,
                n,
                c,
                c0 + i * n + j,
                n,
                k,
            )
            i += 4
        if i + 2 <= m:
            _tile2(
                init,
                i0 + i * i_row + j,
                i_row,
                a,
                a0 + i * a_row,
                a_row,
                a_column,
                b,
                b0 + j,
                n,
                c,
                c0 + i * n + j,
                n,
                k,
            )
            i += 2
        if i < m:
            _tile1(
                init,
                i0 + i * i_row + j,
                i_row,
                a,
                a0 + i * a_row,
                a_row,
                a_column,
                b,
                b0 + j,
                n,
                c,
                c0 + i * n + j,
                n,
                k,
            )
    for j in range(n - n % LANES, n):
        for i in range(m):
            total = init[i0 + i * i_row + j]
            for h in range(k):
                total += a[a0 + i * a_row + h * a_column] * b[b0 + h * n + j]
            c[c0 + i * n + j] = total
