"""A layer's step for one token of one sequence, as machine code that reads the weights where they lie.

Numba compiles these functions when they are first called, in some ten seconds, and keeps the result on disk until this
file changes, so all of them are in it. Vectors are float32, or float64 for a model in float64; weights and cache may be
bfloat16, which NumPy lacks and which is passed as uint16, its bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic, overload

try:
    import numba.np.ufunc.omppool  # noqa: F401

    PARALLEL = True
except ImportError:  # no OpenMP on this machine; another thread pool takes longer to start than a small matrix
    PARALLEL = False

Vector = npt.NDArray[Any]
Affine = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""A weight, [out_features, in_features] or of a layer norm [features], and its bias."""

P = ParamSpec("P")
R = TypeVar("R")


def compiled(parallel: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes machine code of a function; its sums may be taken in any order, its `prange` loops by several threads."""
    options = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}, "error_model": "numpy", "parallel": parallel}

    def compile(function: Callable[P, R]) -> Callable[P, R]:
        try:
            return njit(cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # there is no folder to keep it in
            return njit(**options)(function)  # type: ignore[no-any-return]

    return compile


@intrinsic  # type: ignore[untyped-decorator]
def widen(typing_context: Any, x: Any) -> Any:
    """A weight as a number: float32 of a bfloat16's bits, the number itself otherwise."""
    if x != types.uint16:
        return x(x), lambda context, builder, signature, args: args[0]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        return builder.bitcast(builder.shl(builder.zext(args[0], i32), i32(16)), ir.FloatType())

    return types.float32(x), code


@intrinsic  # type: ignore[untyped-decorator]
def narrow(typing_context: Any, x: Any, like: Any) -> Any:
    """A number in the type of `like`: the bits of the nearest bfloat16 (of two, the even one), or the number itself."""
    if like != types.uint16:
        return x(x, like), lambda context, builder, signature, args: args[0]

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[0], i32)
        is_odd = builder.and_(builder.lshr(bits, i32(16)), i32(1))
        rounded = builder.add(bits, builder.add(is_odd, i32(0x7FFF)))
        return builder.trunc(builder.lshr(rounded, i32(16)), ir.IntType(16))

    return types.uint16(x, like), code


def exp(x: float) -> float:
    """e^x of a number that is 0 or less; of float32 with a relative error of at most (2 - x) · 1e-7, down to e^-87.

    `math.exp` is called for one number at a time, whereas a loop over float32 is compiled to vector instructions.
    """
    return math.exp(x)


@overload(exp)  # type: ignore[untyped-decorator]
def _exp(x: Any) -> Callable[[Any], Any]:
    log2_e, log_2, one, half = (np.float32(n) for n in (1 / math.log(2), math.log(2), 1, 0.5))

    def of_float32(x: Any) -> Any:
        """2^n, whose bits are known, times the Taylor series of the rest."""
        power = max(x, np.float32(-87)) * log2_e
        n = np.int32(power - half)  # the nearest, since it is cut towards 0
        rest = (power - np.float32(n)) * log_2
        series = one
        for k in range(7, 0, -1):
            series = one + series * rest / np.float32(k)
        return series * np.int32((n + 127) << 23).view(np.float32)

    def of_others(x: Any) -> Any:
        return math.exp(x)

    return of_float32 if x == types.float32 else of_others


@compiled()
def add_row(y: Vector, matrix: Vector, row: int) -> None:
    """y += a row of the matrix."""
    for j in range(len(y)):
        y[j] += widen(matrix[row, j])


@compiled()
def add_rows(y: Vector, matrix: Vector, x: Vector, start: int, stop: int) -> None:
    """y += M x, in some of the rows.

    Eight parts of them are read side by side: one alone does not keep a core's memory busy.
    """
    zero = x.dtype.type(0)
    n = (stop - start) // 8
    for i in range(start, start + n):
        m0, m1, m2, m3 = matrix[i], matrix[i + n], matrix[i + 2 * n], matrix[i + 3 * n]
        m4, m5, m6, m7 = matrix[i + 4 * n], matrix[i + 5 * n], matrix[i + 6 * n], matrix[i + 7 * n]
        t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = zero
        for j in range(len(x)):
            t0 += widen(m0[j]) * x[j]
            t1 += widen(m1[j]) * x[j]
            t2 += widen(m2[j]) * x[j]
            t3 += widen(m3[j]) * x[j]
            t4 += widen(m4[j]) * x[j]
            t5 += widen(m5[j]) * x[j]
            t6 += widen(m6[j]) * x[j]
            t7 += widen(m7[j]) * x[j]
        totals = (t0, t1, t2, t3, t4, t5, t6, t7)
        for part in range(8):
            y[i + part * n] += totals[part]
    for i in range(start + 8 * n, stop):
        total = zero
        for j in range(len(x)):
            total += widen(matrix[i, j]) * x[j]
        y[i] += total


@compiled()
def add_sum_of_rows(y: Vector, matrix: Vector, x: Vector) -> None:
    """y += Mᵀ x of the first rows of M, as many as x has numbers; eight parts side by side as in `add_rows`."""
    n = len(x) // 8
    for i in range(n):
        m0, m1, m2, m3 = matrix[i], matrix[i + n], matrix[i + 2 * n], matrix[i + 3 * n]
        m4, m5, m6, m7 = matrix[i + 4 * n], matrix[i + 5 * n], matrix[i + 6 * n], matrix[i + 7 * n]
        x0, x1, x2, x3 = x[i], x[i + n], x[i + 2 * n], x[i + 3 * n]
        x4, x5, x6, x7 = x[i + 4 * n], x[i + 5 * n], x[i + 6 * n], x[i + 7 * n]
        for j in range(len(y)):
            y[j] += (
                widen(m0[j]) * x0 + widen(m1[j]) * x1 + widen(m2[j]) * x2 + widen(m3[j]) * x3
                + widen(m4[j]) * x4 + widen(m5[j]) * x5 + widen(m6[j]) * x6 + widen(m7[j]) * x7
            )  # fmt: skip
    for i in range(8 * n, len(x)):
        for j in range(len(y)):
            y[j] += widen(matrix[i, j]) * x[i]


@compiled(parallel=PARALLEL)
def add_product(y: Vector, affine: Affine, x: Vector, threads: int) -> None:
    """y += W x + b."""
    weight, bias = affine
    for i in range(len(y)):
        y[i] += widen(bias[i])
    if threads == 1:  # waking a pool of one takes as long as reading 50 kB
        add_rows(y, weight, x, 0, len(y))
    else:
        for part in prange(threads):
            add_rows(y, weight, x, len(y) * part // threads, len(y) * (part + 1) // threads)


@compiled()
def norm(x: Vector, affine: Affine, eps: float) -> Vector:
    """The layer norm of x."""
    weight, bias = affine
    number = x.dtype.type
    mean = number(0)
    for i in range(len(x)):
        mean += x[i]
    mean /= number(len(x))
    variance = number(0)
    for i in range(len(x)):
        variance += (x[i] - mean) * (x[i] - mean)
    scale = number(1 / math.sqrt(variance / number(len(x)) + eps))
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = (x[i] - mean) * scale * widen(weight[i]) + widen(bias[i])
    return y


@compiled()
def rotate(heads: Vector, cos: Vector, sin: Vector) -> None:
    """Turn heads [n, head_size] by the angles of a position; see `model.rotary`."""
    half = heads.shape[1] // 2
    for h in range(len(heads)):
        for i in range(half):
            a, b = heads[h, i], heads[h, i + half]
            heads[h, i] = a * cos[i] - b * sin[i]
            heads[h, i + half] = b * cos[i] + a * sin[i]


@compiled()
def attend_head(y: Vector, q: Vector, k: Vector, v: Vector, length: int) -> None:
    """y += attention of a query [head_size] to the first of keys and values [capacity, head_size]."""
    number = q.dtype.type
    p = np.zeros(length, q.dtype)
    add_rows(p, k, q * number(1 / math.sqrt(len(q))), 0, length)
    largest = p.max()
    total = number(0)
    for t in range(length):
        p[t] = exp(p[t] - largest)
        total += p[t]
    for t in range(length):
        p[t] /= total
    add_sum_of_rows(y, v, p)


@compiled(parallel=PARALLEL)
def attend(q: Vector, slots: Vector, keys: Vector, values: Vector, length: int, threads: int) -> Vector:
    """Attention of one query a head, [H, head_size], to the first `length` keys and values in the heads' slots."""
    y = np.zeros_like(q)
    if threads == 1:
        for h in range(len(q)):
            attend_head(y[h], q[h], slots[keys[h]], slots[values[h]], length)
    else:
        for h in prange(len(q)):
            attend_head(y[h], q[h], slots[keys[h]], slots[values[h]], length)
    return y


@compiled()
def gelu(x: Vector) -> None:
    """The activation of every element, x times the sigmoid of z as in `model.gelu`."""
    number = x.dtype.type
    one, a, b = number(1), number(2 * math.sqrt(2 / math.pi)), number(0.044715)
    for i in range(len(x)):
        z = a * (x[i] + b * x[i] * x[i] * x[i])
        e = exp(-abs(z))
        x[i] *= (one if z > 0 else e) / (one + e)


@compiled()
def add_layer(
    x: Vector,
    threads: int,
    position: int,
    eps: float,
    rotation: tuple[Vector, Vector, int],
    cache: tuple[Vector, int, Vector, Vector],
    ln_1: Affine,
    qkv: Affine,
    attn_proj: Affine,
    ln_2: Affine,
    up: Affine,
    down: Affine,
) -> None:
    """x becomes the layer's output; the token's keys and values join the cache.

    Args:
        x: the residual stream, [C].
        threads: to use, at most Numba's number.
        position: tokens in the cache so far.
        eps: of the layer norms.
        rotation: cosines and sines [head_size] of the position; how many heads they turn, of queries and keys.
        cache: [slots, capacity, head_size]; the first slot of this layer; those that its heads read, of keys [H] and
            of values [H].
        ln_1: and the others: weights and biases.
    """
    slots, first, keys, values = cache
    cos, sin, n_turned = rotation
    n_head, head_size = len(keys), slots.shape[2]
    heads = np.zeros((len(qkv[0]) // head_size, head_size), x.dtype)
    add_product(heads.reshape(-1), qkv, norm(x, ln_1, eps), threads)
    rotate(heads[:n_turned], cos, sin)
    for h in range(len(heads) - n_head):
        for i in range(head_size):
            slots[first + h, position, i] = narrow(heads[n_head + h, i], slots[first + h, position, i])
    attended = attend(heads[:n_head], slots, keys, values, position + 1, threads)
    add_product(x, attn_proj, attended.reshape(-1), threads)
    inner = np.zeros(len(up[0]), x.dtype)
    add_product(inner, up, norm(x, ln_2, eps), threads)
    gelu(inner)
    add_product(x, down, inner, threads)
