"""Columns of text and money built from numpy arrays, without a loop over rows.

Belongs here: rendering of numbers, dates, instants and labels as Arrow arrays. Does not belong here: what a column
means.
Arrow's buffer layout: https://arrow.apache.org/docs/format/Columnar.html
"""

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DAY = 86_400
FIRST_DAY, LAST_DAY = -25_567, 40_176  # 1900-01-01 to 2079-12-31, days since 1970


@cache
def _four_digits() -> np.ndarray:
    """ASCII of 0000 to 9999, shape (10000, 4)."""
    numbers = np.arange(10_000)
    return (np.stack([numbers // 10**power % 10 for power in (3, 2, 1, 0)], axis=1) + ord("0")).astype(np.uint8)


@cache
def _dates() -> np.ndarray:
    """ASCII of every day from `FIRST_DAY` to `LAST_DAY` as YYYY-MM-DD, shape (days, 10)."""
    days = np.arange(FIRST_DAY, LAST_DAY + 1).astype("datetime64[D]")
    return np.datetime_as_string(days).astype("S10").view(np.uint8).reshape(-1, 10)


@cache
def _clock() -> np.ndarray:
    """ASCII of every second of a day as HH:MM:SS, shape (86400, 8)."""
    seconds = np.arange(DAY)
    clock = np.full((DAY, 8), ord(":"), dtype=np.uint8)
    for position, part in ((0, seconds // 3600), (3, seconds // 60 % 60), (6, seconds % 60)):
        clock[:, position] = part // 10 + ord("0")
        clock[:, position + 1] = part % 10 + ord("0")
    return clock


def _mask(valid: np.ndarray | None) -> tuple[pa.Buffer | None, int]:
    """Arrow's validity bitmap and the number of nulls."""
    if valid is None or valid.all():
        return None, 0
    return pa.py_buffer(np.packbits(valid, bitorder="little")), int((~valid).sum())


def _strings(matrix: np.ndarray, valid: np.ndarray | None = None) -> pa.StringArray:
    """A matrix of ASCII, shape (rows, width), as strings of that width; null where `valid` is false."""
    rows, width = matrix.shape
    bitmap, nulls = _mask(valid)
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
    data = pa.py_buffer(np.ascontiguousarray(matrix))
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), data, bitmap, nulls)


def numbered(prefix: str, values: np.ndarray, width: int, suffix: str = "") -> pa.StringArray:
    """`prefix`, each non-negative integer with leading zeros to `width` digits (a multiple of 4), then `suffix`."""
    if width % 4:
        raise ValueError("width must be a multiple of 4")
    start = len(prefix)
    matrix = np.empty((len(values), start + width + len(suffix)), dtype=np.uint8)
    matrix[:, :start] = np.frombuffer(prefix.encode("ascii"), dtype=np.uint8)
    matrix[:, start + width :] = np.frombuffer(suffix.encode("ascii"), dtype=np.uint8)
    rest = values.astype(np.int64)
    for position in range(start + width - 4, start - 1, -4):
        matrix[:, position : position + 4] = _four_digits()[rest % 10_000]
        rest = rest // 10_000
    return _strings(matrix)


def dates(days: np.ndarray, valid: np.ndarray | None = None) -> pa.StringArray:
    """Days since 1970 as YYYY-MM-DD; null where `valid` is false."""
    return _strings(_dates()[np.clip(days, FIRST_DAY, LAST_DAY) - FIRST_DAY], valid)


def instants(seconds: np.ndarray, valid: np.ndarray | None = None, suffix: str = "") -> pa.StringArray:
    """Seconds since 1970, UTC, as YYYY-MM-DDTHH:MM:SS and `suffix`; null where `valid` is false."""
    matrix = np.empty((len(seconds), 19 + len(suffix)), dtype=np.uint8)
    matrix[:, :10] = _dates()[np.clip(seconds // DAY, FIRST_DAY, LAST_DAY) - FIRST_DAY]
    matrix[:, 10] = ord("T")
    matrix[:, 11:19] = _clock()[seconds % DAY]
    matrix[:, 19:] = np.frombuffer(suffix.encode("ascii"), dtype=np.uint8)
    return _strings(matrix, valid)


def typed_instants(seconds: np.ndarray) -> pa.Array:
    """Seconds since 1970, UTC, as Arrow timestamps in microseconds without zone."""
    return pa.array(seconds.astype(np.int64) * 1_000_000).cast(pa.timestamp("us"))


def money(cents: np.ndarray) -> pa.Array:
    """Non-negative cents as decimal(18, 2); casting the result to string gives '1234.50'."""
    words = np.zeros((len(cents), 2), dtype=np.int64)
    words[:, 0] = cents
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words)])


def pick(labels: list[str | None] | pa.Array, codes: np.ndarray) -> pa.Array:
    """`labels[code]` for each code (or boolean); a negative code is null."""
    array = labels if isinstance(labels, pa.Array) else pa.array(labels, type=pa.string())
    if codes.dtype == bool:
        codes = codes.view(np.int8)
    valid = codes >= 0
    if valid.all():
        return array.take(pa.array(codes))
    return array.take(pa.array(codes, mask=~valid))


def flags(values: np.ndarray, valid: np.ndarray | None = None) -> pa.Array:
    """Booleans as 'true' and 'false'; null where `valid` is false."""
    codes = values.astype(np.int8)
    return pick(["false", "true"], codes if valid is None else np.where(valid, codes, -1))


def joined(*parts: pa.Array | str, separator: str = "") -> pa.Array:
    """The parts of each row in one string; null if one of them is null."""
    return pc.binary_join_element_wise(
        *(pa.scalar(part) if isinstance(part, str) else part for part in parts), separator
    )
