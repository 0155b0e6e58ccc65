"""A layer's step for one token of one sequence, as machine code that reads the weights where they lie.

Numba compiles these functions when they are first called, in some seconds, and keeps the result on disk. Vectors are
float32, or float64 for a model in float64; weights and cache may be bfloat16, which NumPy lacks and which is passed
as uint16, its bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

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


@compiled()
def add_rows(y: Vector, affine: Affine, x: Vector, start: int, stop: int) -> None:
    """y += W x + b, in some of the rows."""
    weight, bias = affine
    for i in range(start, stop):
        row = weight[i]
        total = x.dtype.type(0)
        for j in range(len(row)):
            total += widen(row[j]) * x[j]
        y[i] += total + widen(bias[i])


@compiled(parallel=PARALLEL)
def add_product(y: Vector, affine: Affine, x: Vector, threads: int) -> None:
    """y += W x + b."""
    if threads == 1:  # waking a pool of one takes as long as reading 50 kB
        add_rows(y, affine, x, 0, len(y))
    else:
        for part in prange(threads):
            add_rows(y, affine, x, len(y) * part // threads, len(y) * (part + 1) // threads)


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
    head_size = len(q)
    number = q.dtype.type
    scale = number(1 / math.sqrt(head_size))
    p = np.empty(length, q.dtype)
    largest = number(-np.inf)
    for t in range(length):
        score = number(0)
        for i in range(head_size):
            score += q[i] * widen(k[t, i])
        p[t] = score * scale
        largest = max(largest, p[t])
    total = number(0)
    for t in range(length):
        p[t] = math.exp(p[t] - largest)
        total += p[t]
    for t in range(length):
        weight = p[t] / total
        for i in range(head_size):
            y[i] += weight * widen(v[t, i])


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
    """The activation of every element, in the form of `model.gelu`."""
    number = x.dtype.type
    one, a, b = number(1), number(2 * math.sqrt(2 / math.pi)), number(0.044715)
    for i in range(len(x)):
        x[i] /= one + math.exp(-a * (x[i] + b * x[i] * x[i] * x[i]))


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
