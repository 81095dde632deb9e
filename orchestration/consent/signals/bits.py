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
from struct import Struct

from orchestration.consent.signals.results import NotUnderstood

_BASE64URL = (string.ascii_letters + string.digits + "-_").encode()
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIBONACCI = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597)   # up to 16 digits: no id is larger
_ONE = ord("1")
MAX_VENDOR_ID = 65_535
_ENTRY = (1 << 33) - 1                 # the longest range entry: a flag and two ids

Group = tuple[int, int]


class IdSet:
    """A set of ids, kept as it was sent (one digit per id from 1, or groups of first and last) and spelled out on demand.

    Most readers never ask for the vendors, and a string may name thousands.
    """

    __slots__ = ("field", "groups")

    def __init__(self, field: bytes = b"", groups: tuple[Group, ...] = ()) -> None:
        self.field, self.groups = field, groups

    def __iter__(self) -> Iterator[int]:
        yield from (number for number, digit in enumerate(self.field, 1) if digit == _ONE)
        for first, last in sorted(self.groups):
            yield from range(first, last + 1)

    def __contains__(self, wanted: int) -> bool:
        in_field = 1 <= wanted <= len(self.field) and self.field[wanted - 1] == _ONE
        return in_field or any(first <= wanted <= last for first, last in self.groups)

    def __len__(self) -> int:
        return self.field.count(b"1") + sum(last - first + 1 for first, last in self.groups)


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


def _check_group(first: int, last: int, grouped: bool, max_id: int) -> None:
    """Raise `NotUnderstood` unless all that is wrong with a range entry is its place among the others."""
    if grouped and first >= last:
        raise NotUnderstood(f"a group of vendors begins at {first} and ends at {last}")
    if first < 1 or last > max_id:
        raise NotUnderstood(f"vendors {first} to {last} are not within 1 to {max_id}")


def overlap(groups: Iterable[Group]) -> bool:
    """Whether two of the groups share an id."""
    return any(before[1] >= after[0] for before, after in pairwise(sorted(groups)))


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


class BitReader:
    """Reads one base64url segment from left to right. Every method raises `NotUnderstood` when the bits do not suffice.

    The bits are kept twice: as digits, which slices and layouts cut fastest, and as a number, which long ranges need.
    """

    __slots__ = ("at", "bits", "number")

    def __init__(self, text: str) -> None:
        self.number = bits_of(text)
        self.bits = bin(self.number)[3:].encode()
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bits, as digits."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.bits):
            raise NotUnderstood(f"cut off: bit {self.at} of a segment of {len(self.bits)} bits is needed")
        return self.bits[start : self.at]

    def fields(self, struct: Struct) -> tuple[bytes, ...]:
        """The digits of several fields at once, as `layout` describes them."""
        return struct.unpack(self.take(struct.size))

    def integer(self, count: int) -> int:
        """An unsigned integer of `count` bits, at least one."""
        return int(self.take(count), 2)

    def flag(self) -> bool:
        """One bit."""
        return self.take(1) == b"1"

    def ids(self, count: int) -> tuple[int, ...]:
        """A bit field of `count` bits: the numbers, from 1, of the bits that are set."""
        return numbers_set(self.take(count))

    def fibonacci(self) -> int:
        """A Fibonacci-coded integer of at least 1: digits up to the first two ones in a row."""
        end = self.bits.find(b"11", self.at)
        if end < 0:
            raise NotUnderstood("cut off inside a Fibonacci-coded number")
        digits = self.take(end + 2 - self.at)[:-1]
        if len(digits) > len(_FIBONACCI):
            raise NotUnderstood("a Fibonacci-coded number is larger than any id")
        return sum(value for value, digit in zip(_FIBONACCI, digits, strict=False) if digit == _ONE)

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
        count, at, length = self.integer(12), self.at, len(self.bits)
        number = self.number << 33      # zeros behind the end, so that an entry is read in one piece; the end is asked below
        groups: list[Group] = []
        highest, ascending = 0, True
        for _ in range(count):
            entry = number >> length - at & _ENTRY
            first = entry >> 16 & 0xFFFF
            grouped = entry > 0xFFFFFFFF
            if grouped:
                last = entry & 0xFFFF
                at += 33
            else:
                last = first
                at += 17
            if at > length:
                raise NotUnderstood(f"cut off: the segment ends inside range entry {len(groups) + 1} of {count}")
            if not (highest < first and first + grouped <= last <= max_id):
                _check_group(first, last, grouped, max_id)
                ascending = False
            highest = last
            groups.append((first, last))
        self.at = at
        if not ascending and overlap(groups):
            raise NotUnderstood("range entries overlap")
        return IdSet(groups=tuple(groups))

    def vendors(self) -> tuple[int, IdSet]:
        """A vendor section: MaxVendorId, IsRangeEncoding, and a bit field of that length or ranges within it."""
        head = self.take(17)
        max_id = int(head[:16], 2)
        if head[16] == _ONE:
            return max_id, self.vendor_ranges(max_id)
        return max_id, IdSet(self.take(max_id))

    def finish(self) -> None:
        """Nothing but zero padding may follow, and no more of it than an encoder of the published kinds writes.

        The specification pads to six bits. Encoders that write whole bytes pad to eight first (the specification prints
        such a header, DBACNYA), and IAB Tech Lab's encoders have padded to 24. All three are the same bits, so refusing
        the last two would lose real opt-outs and protect nobody.
        """
        used, given = self.at, len(self.bits)
        spare = given - used
        if not 0 <= spare < 6 and given not in (round_up(round_up(used, 8), 6), round_up(used, 24)):
            raise NotUnderstood(f"{spare} bits follow the last field")
        if b"1" in self.bits[used:]:
            raise NotUnderstood("the padding is not zero")
