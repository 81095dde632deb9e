"""Bits out of base64url text, read strictly: a missing bit is an error, and so is a bit too many.

Data types as in the GPP string specification (IAB Tech Lab, Global-Privacy-Platform, Core/Consent String Specification.md,
"Section Encoding", v1.0 of 28 September 2022) and, for ranges of 16-bit ids, in the TC string specification (v2.2/2.3).

Belongs here: bits, integers, letters, ranges, padding. Does not belong here: what a field means.
"""

import binascii
import string
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from operator import lt
from struct import Struct

from orchestration.consent.signals.results import NotUnderstood

_BASE64URL = (string.ascii_letters + string.digits + "-_").encode()
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIBONACCI = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597)   # up to 16 digits: no id is larger
_ONE = ord("1")
MAX_VENDOR_ID = 65_535
_NO_ID = b"0" * 16
_HEAD = 256                            # more bits than all fields of fixed width of any segment take

Group = tuple[int, int]


class IdSet:
    """A set of ids, kept as it was sent and spelled out on demand: most readers never ask, and a string may name thousands.

    Either a bit field, a number whose highest of `size` bits is id 1, or the digits of range entries (`ranges`).
    """

    __slots__ = ("field", "ranges", "size")

    def __init__(self, field: int = 0, size: int = 0, ranges: bytes = b"") -> None:
        self.field, self.size, self.ranges = field, size, ranges

    @property
    def groups(self) -> tuple[Group, ...]:
        """First and last id of each range entry, in the order in which they were sent."""
        return tuple((first, last) for _, first, last in _entries(self.ranges))

    def __iter__(self) -> Iterator[int]:
        if self.field:
            yield from (number for number, digit in enumerate(f"{self.field:0{self.size}b}", 1) if digit == "1")
        for first, last in sorted(self.groups):
            yield from range(first, last + 1)

    def __contains__(self, wanted: int) -> bool:
        in_field = 1 <= wanted <= self.size and self.field >> self.size - wanted & 1
        return bool(in_field) or any(first <= wanted <= last for first, last in self.groups)

    def __len__(self) -> int:
        return self.field.bit_count() + sum(last - first + 1 for first, last in self.groups)


def bits_of(text: str) -> int:
    """The bits of base64url text, six for each character, as an integer with a 1 before them that keeps their zeros.

    Six bits a character, whatever their number: this is not base64 of whole bytes. Padding characters are not allowed.
    """
    given = text.encode()
    if not given or given.translate(None, _BASE64URL):
        raise NotUnderstood("empty segment, or a character outside base64url")
    filler = -len(given) % 4
    raw = binascii.a2b_base64(given.translate(_TO_BASE64) + b"A" * filler)
    return int.from_bytes(b"\x01" + raw, "big") >> 6 * filler


def round_up(count: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `count`."""
    return -(-count // unit) * unit


def layout(widths: Iterable[int]) -> Struct:
    """Fields of these widths in bits, one after the other, for `BitReader.fields`."""
    return Struct("".join(f"{width}s" for width in widths))


def _entries(digits: bytes) -> Iterator[tuple[bool, int, int]]:
    """Whole range entries: whether each is a group, its first and its last id."""
    at = 0
    while at < len(digits):
        grouped, first = digits[at] == _ONE, int(digits[at + 1 : at + 17], 2)
        yield grouped, first, int(digits[at + 17 : at + 33], 2) if grouped else first
        at += 33 if grouped else 17


def _check_ranges(digits: bytes, max_id: int) -> None:
    """Raise `NotUnderstood` unless all that is unusual with range entries is their order, which is free."""
    for grouped, first, last in _entries(digits):
        if grouped and first >= last:
            raise NotUnderstood(f"a group of vendors begins at {first} and ends at {last}")
        if first < 1 or last > max_id:
            raise NotUnderstood(f"vendors {first} to {last} are not within 1 to {max_id}")
    if overlap((first, last) for _, first, last in _entries(digits)):
        raise NotUnderstood("range entries overlap")


def overlap(groups: Iterable[Group]) -> bool:
    """Whether two of the groups share an id."""
    return any(before[1] >= after[0] for before, after in pairwise(sorted(groups)))


@lru_cache(maxsize=512)
def _group_layout(count: int) -> Struct:
    """So many range entries that are groups: a flag, the first id, the last."""
    return Struct("x16s16s" * count)


@lru_cache(maxsize=4096)
def numbers_set(digits: bytes) -> tuple[int, ...]:
    """A bit field's ids: the numbers, from 1, of the digits that are 1."""
    return tuple(number for number, digit in enumerate(digits, 1) if digit == _ONE)


@lru_cache(maxsize=4096)
def instant(digits: bytes) -> datetime:
    """A Datetime of 36 bits: tenths of a second since 1970 in UTC."""
    return _EPOCH + timedelta(milliseconds=100 * int(digits, 2))


@lru_cache(maxsize=4096)
def letters(digits: bytes) -> str:
    """A String(2) of 12 bits: two capital letters, A = 0. Raises `NotUnderstood` for a value that is no letter."""
    first, second = int(digits[:6], 2), int(digits[6:], 2)
    if first > 25 or second > 25:
        raise NotUnderstood("a two-letter code has a value above 25 (Z)")
    return chr(65 + first) + chr(65 + second)


def _walk(digits: bytes, count: int) -> tuple[bool, bytes, int]:
    """Whether so many range entries name ids that ascend, the last id, and where they end: behind the digits if cut off.

    Digits of one length compare as their numbers do.
    """
    last, at, ascending = _NO_ID, 0, True
    try:
        for _ in range(count):
            if digits[at] == _ONE:
                middle, end = at + 17, at + 33
                if not last < digits[at + 1 : middle] < (last := digits[middle:end]):
                    ascending = False
            else:
                end = at + 17
                if not last < (last := digits[at + 1 : end]):
                    ascending = False
            at = end
    except IndexError:
        return False, last, len(digits) + 1
    return ascending, last, at


class BitReader:
    """Reads one base64url segment from left to right. Every method raises `NotUnderstood` when the bits do not suffice.

    The bits are kept as a number, from which long fields are cut. Those at the beginning are kept as digits as well: slices
    and layouts cut them faster, and to write out the thousands of bits of vendor fields would cost more than all else.
    """

    __slots__ = ("at", "head", "length", "number")

    def __init__(self, text: str) -> None:
        self.number = bits_of(text)
        self.length = self.number.bit_length() - 1
        self.head = bin(self.number >> max(0, self.length - _HEAD))[3:].encode()
        self.at = 0

    def long_integer(self, count: int) -> int:
        """The next `count` bits, as an unsigned integer; 0 where `count` is 0."""
        self.at += count
        if self.at > self.length:
            raise NotUnderstood(f"cut off: bit {self.at} of a segment of {self.length} bits is needed")
        return self.number >> self.length - self.at & (1 << count) - 1

    def take(self, count: int) -> bytes:
        """The next `count` bits, as digits."""
        start, end = self.at, self.at + count
        if end <= len(self.head):
            self.at = end
            return self.head[start:end]
        return f"{self.long_integer(count):0{count}b}".encode() if count else b""

    def fields(self, struct: Struct) -> tuple[bytes, ...]:
        """The digits of several fields at once, as `layout` describes them."""
        return struct.unpack(self.take(struct.size))

    def integer(self, count: int) -> int:
        """An unsigned integer of `count` bits, at least one."""
        return self.long_integer(count)

    def flag(self) -> bool:
        """One bit."""
        return self.take(1) == b"1"

    def ids(self, count: int) -> tuple[int, ...]:
        """A bit field of `count` bits: the numbers, from 1, of the bits that are set."""
        return numbers_set(self.take(count)) if count else ()

    def fibonacci(self) -> int:
        """A Fibonacci-coded integer of at least 1: digits up to the first two ones in a row."""
        start = self.at
        ahead = self.take(min(len(_FIBONACCI) + 1, self.length - start))
        end = ahead.find(b"11")
        if end < 0:
            raise NotUnderstood("no end of a Fibonacci-coded number: cut off, or larger than any id")
        self.at = start + end + 2
        return sum(value for value, digit in zip(_FIBONACCI, ahead[: end + 1], strict=False) if digit == _ONE)

    def fibonacci_range(self, most: int) -> tuple[int, ...]:
        """A Range(Fibonacci) of at most `most` ids, which ascend by their coding: offsets and lengths are at least 1."""
        found: list[int] = []
        last = 0
        for _ in range(self.integer(12)):
            grouped = self.flag()
            first = last + self.fibonacci()
            last = first + self.fibonacci() if grouped else first
            if len(found) + last - first + 1 > most:
                raise NotUnderstood(f"more than the {most} ids that can be there")
            found.extend(range(first, last + 1))
        return tuple(found)

    def vendor_ranges(self, max_id: int) -> IdSet:
        """NumEntries and that many entries of 16-bit ids, each a single id or a group of several, none named twice."""
        count, start = self.integer(12), self.at
        digits = self.take(min(33 * count, self.length - start))
        if count and digits[::33] == b"1" * count and len(digits) == 33 * count:
            bounds, at = _group_layout(count).unpack(digits), len(digits)
            ascending, last = bounds[0] > _NO_ID and all(map(lt, bounds, bounds[1:])), bounds[-1]
        else:
            ascending, last, at = _walk(digits, count)
        if at > len(digits):
            raise NotUnderstood(f"cut off: the segment ends inside one of {count} range entries")
        self.at, digits = start + at, digits[:at]
        # Entries that ascend, as all encoders write them, are in order; what is not may still be free of faults.
        if not ascending or int(last, 2) > max_id:
            _check_ranges(digits, max_id)
        return IdSet(ranges=digits)

    def vendors(self) -> tuple[int, IdSet]:
        """A vendor section: MaxVendorId, IsRangeEncoding, and a bit field of that length or ranges within it."""
        head = self.long_integer(17)
        max_id = head >> 1
        return max_id, self.vendor_ranges(max_id) if head & 1 else IdSet(self.long_integer(max_id), max_id)

    def finish(self) -> None:
        """Nothing but zero padding may follow, and no more of it than an encoder of the published kinds writes.

        The specification pads to six bits. Encoders that write whole bytes pad to eight first (the specification prints
        such a header, DBACNYA), and IAB Tech Lab's encoders have padded to 24. All three are the same bits, so refusing
        the last two would lose real opt-outs and protect nobody.
        """
        used, given = self.at, self.length
        spare = given - used
        if not 0 <= spare < 6 and given not in (round_up(round_up(used, 8), 6), round_up(used, 24)):
            raise NotUnderstood(f"{spare} bits follow the last field")
        if self.number & (1 << spare) - 1:
            raise NotUnderstood("the padding is not zero")
