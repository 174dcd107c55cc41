"""gensort's random numbers: a 128-bit linear congruential generator, many at a time.

X(0) = 0 and X(n+1) = (A * X(n) + C) mod 2**128. Record n of gensort is made of X(n+1) and those
after it, so any part of a data set can be made alone: `jumped` goes n steps ahead in log2(n)
multiplications. numpy has no 128-bit integers: a number is a pair of 64-bit halves, and the high
half of a product of two halves is put together from four products of 32 bits.

Invariant: no partial sum overflows 64 bits unless its overflow is meant (mod 2**128).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
INCREMENT = 0x4A696D47726179524950202020202001  # "JimGrayRIP     " and 1
MODULUS_MASK = (1 << 128) - 1
BLOCK_COUNT = 1 << 14

_HALF_MASK = (1 << 64) - 1
_QUARTER_MASK = np.uint64(0xFFFFFFFF)
_QUARTER_BITS = np.uint64(32)

Words = NDArray[np.uint64]


def step_of(count: int) -> tuple[int, int]:
    """Multiplier and increment that go `count` steps at once."""
    multiplier, increment = 1, 0
    power_multiplier, power_increment = MULTIPLIER, INCREMENT
    while count:
        if count & 1:
            increment = (power_multiplier * increment + power_increment) & MODULUS_MASK
            multiplier = (power_multiplier * multiplier) & MODULUS_MASK
        power_increment = (power_multiplier + 1) * power_increment & MODULUS_MASK
        power_multiplier = power_multiplier * power_multiplier & MODULUS_MASK
        count >>= 1
    return multiplier, increment


def jumped(state: int, count: int) -> int:
    """The number `count` steps after `state`."""
    multiplier, increment = step_of(count)
    return (multiplier * state + increment) & MODULUS_MASK


def numbers(first: int, count: int) -> tuple[Words, Words]:
    """X(first + 1) to X(first + count): their high and their low 64 bits."""
    high = np.empty(count, dtype=np.uint64)
    low = np.empty(count, dtype=np.uint64)
    if count == 0:
        return high, low
    start = jumped(0, first + 1)
    high[0], low[0] = start >> 64, start & _HALF_MASK
    # The first block grows by doubling, every later one is the one before it, a block further.
    done = 1
    while done < count:
        width = min(done, BLOCK_COUNT, count - done)
        source = done - min(done, BLOCK_COUNT)
        _advance(high, low, source, done, width)
        done += width
    return high, low


def _advance(high: Words, low: Words, source: int, target: int, width: int) -> None:
    multiplier, increment = step_of(target - source)
    multiplier_high = np.uint64(multiplier >> 64)
    multiplier_low = np.uint64(multiplier & _HALF_MASK)
    increment_low = np.uint64(increment & _HALF_MASK)
    old_high, old_low = high[source : source + width], low[source : source + width]
    new_low = old_low * multiplier_low
    new_high = _product_high(old_low, int(multiplier_low))
    new_high += old_low * multiplier_high
    new_high += old_high * multiplier_low
    new_low += increment_low
    new_high += (new_low < increment_low).astype(np.uint64)
    new_high += np.uint64(increment >> 64)
    high[target : target + width] = new_high
    low[target : target + width] = new_low


def _product_high(left: Words, right: int) -> Words:
    """The high 64 bits of 64 by 64 bits."""
    left_low, left_high = left & _QUARTER_MASK, left >> _QUARTER_BITS
    right_low, right_high = np.uint64(right & 0xFFFFFFFF), np.uint64(right >> 32)
    crossed = left_low * right_high
    middle = (left_low * right_low >> _QUARTER_BITS) + (crossed & _QUARTER_MASK)
    middle += left_high * right_low
    high: Words = left_high * right_high
    high += crossed >> _QUARTER_BITS
    high += middle >> _QUARTER_BITS
    return high
