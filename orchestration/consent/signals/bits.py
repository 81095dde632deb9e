"""Bits out of base64url text, read strictly: a missing bit is an error, and so is a bit too many.

Data types as in the GPP string specification (IAB Tech Lab, Global-Privacy-Platform, Core/Consent String Specification.md,
"Section Encoding", v1.0 of 28 September 2022) and, for ranges of 16-bit ids, in the TC string specification (v2.2/2.3).

Belongs here: bits, integers, letters, ranges, padding. Does not belong here: what a field means.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from orchestration.consent.signals.results import NotUnderstood

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_TO_BASE64 = str.maketrans("-_", "+/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIBONACCI = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597)   # up to 16 digits: no id is larger
MAX_VENDOR_ID = 65_535


@dataclass(frozen=True, slots=True)
class IdSet:
    """A set of ids as a bit mask (bit n stands for id n): a thousand vendors cost one integer, not a thousand objects."""

    mask: int

    def __contains__(self, wanted: int) -> bool:
        return bool(self.mask >> wanted & 1)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __iter__(self) -> Iterator[int]:
        return (position for position, bit in enumerate(bin(self.mask)[:1:-1]) if bit == "1")


def bits_of(text: str) -> str:
    """The bits of base64url text, six for each character, as a text of 0 and 1; padding characters are not allowed.

    Six bits a character, whatever their number: this is not base64 of whole bytes.
    """
    if not _BASE64URL.fullmatch(text):
        raise NotUnderstood("empty segment, or a character outside base64url")
    filled = text.translate(_TO_BASE64) + "A" * (-len(text) % 4)
    return f"{int.from_bytes(binascii.a2b_base64(filled), 'big'):0{6 * len(filled)}b}"[: 6 * len(text)]


def round_up(count: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `count`."""
    return -(-count // unit) * unit


class BitReader:
    """Reads one base64url segment from left to right. Every method raises `NotUnderstood` when the bits do not suffice."""

    __slots__ = ("at", "bits")

    def __init__(self, text: str) -> None:
        self.bits = bits_of(text)
        self.at = 0

    def take(self, count: int) -> str:
        """The next `count` bits."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.bits):
            raise NotUnderstood(f"cut off: bit {self.at} of a segment of {len(self.bits)} bits is needed")
        return self.bits[start : self.at]

    def integer(self, count: int) -> int:
        """An unsigned integer of `count` bits, at least one."""
        return int(self.take(count), 2)

    def flag(self) -> bool:
        """One bit."""
        return self.take(1) == "1"

    def instant(self) -> datetime:
        """36 bits: tenths of a second since 1970 in UTC."""
        return _EPOCH + timedelta(milliseconds=100 * self.integer(36))

    def letters(self) -> str:
        """Two capital letters, six bits each, A = 0."""
        first, second = self.integer(6), self.integer(6)
        if first > 25 or second > 25:
            raise NotUnderstood("a two-letter code has a value above 25 (Z)")
        return chr(65 + first) + chr(65 + second)

    def ids(self, count: int) -> tuple[int, ...]:
        """A bit field of `count` bits: the numbers, from 1, of the bits that are set."""
        return tuple(number for number, bit in enumerate(self.take(count), 1) if bit == "1")

    def fibonacci(self) -> int:
        """A Fibonacci-coded integer of at least 1: digits up to the first two ones in a row."""
        end = self.bits.find("11", self.at)
        if end < 0:
            raise NotUnderstood("cut off inside a Fibonacci-coded number")
        digits = self.take(end + 2 - self.at)[:-1]
        if len(digits) > len(_FIBONACCI):
            raise NotUnderstood("a Fibonacci-coded number is larger than any id")
        return sum(value for value, digit in zip(_FIBONACCI, digits, strict=False) if digit == "1")

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
        mask = 0
        for _ in range(self.integer(12)):
            grouped = self.flag()
            first = self.integer(16)
            last = self.integer(16) if grouped else first
            if grouped and first >= last:
                raise NotUnderstood(f"a group of vendors begins at {first} and ends at {last}")
            if first < 1 or last > max_id:
                raise NotUnderstood(f"vendor {last if first else 0} is outside 1 to {max_id}")
            group = ((1 << (last - first + 1)) - 1) << first
            if mask & group:
                raise NotUnderstood(f"a range entry that begins at vendor {first} overlaps another")
            mask |= group
        return IdSet(mask)

    def vendors(self) -> tuple[int, IdSet]:
        """A vendor section: MaxVendorId, IsRangeEncoding, and a bit field of that length or ranges within it."""
        max_id = self.integer(16)
        if self.flag():
            return max_id, self.vendor_ranges(max_id)
        field = self.take(max_id)
        return max_id, IdSet(int(field[::-1], 2) << 1 if field else 0)

    def finish(self) -> None:
        """Nothing but zero padding may follow, and no more of it than an encoder of the published kinds writes.

        The specification pads to six bits. Encoders that write whole bytes pad to eight first (the specification prints
        such a header, DBACNYA), and IAB Tech Lab's encoders have padded to 24. All three are the same bits, so refusing
        the last two would lose real opt-outs and protect nobody.
        """
        used, given = self.at, len(self.bits)
        if given not in (round_up(used, 6), round_up(round_up(used, 8), 6), round_up(used, 24)):
            raise NotUnderstood(f"{given - used} bits follow the last field")
        if "1" in self.bits[used:]:
            raise NotUnderstood("the padding is not zero")
