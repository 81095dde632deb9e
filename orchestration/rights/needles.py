"""What to search for: an identifier in every form in which it could lie in a file, and a fast search for all of them.

Belongs here: forms, and finding them in bytes. Does not belong here: opening files (`scanner`).
"""

import base64
import hashlib
import html
import json
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator

import numpy as np

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import PREFIXES, zone_of
from orchestration.rights.errors import RightsError
from orchestration.rights.requests import Subject

# A shorter text occurs by chance; it is then looked for as a whole value in cells, not inside other text.
SHORTEST = 6
_WINDOW = 6
_MOST_STRIDE = 8
_LIFT = np.uint64(8 * (8 - _WINDOW))
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing, Knuth vol. 3, 6.4
_FEW = 4  # that many positions are compared sooner than looked up
_BLOCK = 1 << 16  # its windows, eight bytes each, stay in a core's cache
_HASHES = ("md5", "sha1", "sha256")


def _spellings(identifier: str) -> dict[str, str]:
    """The identifier as people and systems write it."""
    trimmed = identifier.strip()
    forms = {"as given": identifier, "trimmed": trimmed}
    for name in ("lower", "upper", "title", "casefold", "swapcase"):
        forms[f"{name} case"] = getattr(trimmed, name)()
    for form in ("NFC", "NFD"):
        forms[f"Unicode {form}"] = unicodedata.normalize(form, trimmed)
    return forms


def _base64_forms(data: bytes) -> dict[str, bytes]:
    """Base64 of the data wherever it may begin in what was encoded: three alignments, two alphabets."""
    forms = {}
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + data)
        # The characters that the neighbours' bits do not reach.
        clean = encoded[(shift * 8 + 5) // 6 : (shift + len(data)) * 8 // 6]
        forms[f"base64 at {shift}"] = clean
        forms[f"base64url at {shift}"] = clean.translate(bytes.maketrans(b"+/", b"-_"))
    return forms


def _escaped(text: str) -> dict[str, bytes]:
    """The text as formats write it."""
    quoted = urllib.parse.quote(text, safe="")
    forms = {
        "UTF-8": text.encode(),
        "UTF-16 little-endian": text.encode("utf-16-le"),
        "UTF-16 big-endian": text.encode("utf-16-be"),
        "URL-encoded": quoted.encode(),
        "URL-encoded, lower hex": "".join(
            part.lower() if part.startswith("%") else part for part in _percent_parts(quoted)
        ).encode(),
        "URL-encoded form": urllib.parse.quote_plus(text).encode(),
        "URL-encoded, path": urllib.parse.quote(text, safe="/@:+").encode(),
        "JSON": json.dumps(text)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(text)[1:-1])[1:-1].encode(),
        "HTML": html.escape(text).encode(),
        "SQL or CSV, doubled quotes": text.replace("'", "''").encode(),
        "CSV, doubled quotes": text.replace('"', '""').encode(),
        "hex": text.encode().hex().encode(),
        "hex, upper": text.encode().hex().upper().encode(),
    }
    for codec in ("latin-1", "cp1252"):
        try:
            forms[codec] = text.encode(codec)
        except UnicodeEncodeError:
            continue
    return forms | _base64_forms(text.encode())


def _percent_parts(quoted: str) -> list[str]:
    parts, at = [], 0
    while at < len(quoted):
        width = 3 if quoted[at] == "%" else 1
        parts.append(quoted[at : at + width])
        at += width
    return parts


def _hash_forms(text: str) -> dict[str, bytes]:
    """Plain hashes of the text, as code and tools write them."""
    forms = {}
    for name in _HASHES:
        digest = hashlib.new(name, text.encode(), usedforsecurity=False).digest()
        forms[f"{name}, raw"] = digest
        forms[f"{name}, hex"] = digest.hex().encode()
        forms[f"{name}, upper hex"] = digest.hex().upper().encode()
        forms[f"{name}, base64"] = base64.b64encode(digest).rstrip(b"=")
        forms[f"{name}, base64url"] = base64.urlsafe_b64encode(digest).rstrip(b"=")
    return forms


def identifier_forms(identifier: str) -> dict[bytes, str]:
    """Every form of an identifier, each with what it is called; those too short to be told from chance are left out."""
    found: dict[bytes, str] = {}
    for spelling, text in _spellings(identifier).items():
        for name, form in {**_escaped(text), **_hash_forms(text)}.items():
            if len(form) >= SHORTEST:
                found.setdefault(form, f"{name} ({spelling})")
    return found


def token_forms(tokens: Iterable[tuple[str, str]]) -> dict[bytes, str]:
    """Pseudonyms (zone, token) in text and as the bytes that they stand for."""
    found: dict[bytes, str] = {}
    for zone, value in tokens:
        body = value.removeprefix(PREFIXES.get(zone_of(zone), ""))  # type: ignore[call-overload]
        found[value.encode()] = f"pseudonym of zone {zone}"
        found[value.encode("utf-16-le")] = f"pseudonym of zone {zone}, UTF-16"
        found.setdefault(body.encode(), f"pseudonym of zone {zone}, without prefix")
        found[base64.urlsafe_b64decode(body + "==")] = f"pseudonym of zone {zone}, raw"
    return found


def needles_of(keys: MasterKeys, identifier: str) -> dict[bytes, str]:
    """All that is searched for when a person is: the identifier's forms and, as if it were a customer's, its pseudonyms."""
    if not identifier.strip():
        raise RightsError("a blank identifier cannot be searched for")
    return {**identifier_forms(identifier), **token_forms(Subject.of(keys, identifier).tokens.items())}


class Searcher:
    """Finds any of many byte strings in one pass; time hardly depends on how many there are, nor on how alike they are.

    Six bytes at every nth position are hashed into a bitmap (a Bloom filter with one hash); n is such that one of these
    windows lies within the first bytes of every needle, wherever it stands. What the bitmap lets through is looked up, and
    before anything is compared, how a needle would begin and end there is: the identifiers of one tenant are alike, and so
    is every row of a table of them. `needles` are at least six bytes long, and the longer the shortest of them, the faster.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self.needles = sorted(set(needles))
        if any(len(needle) < _WINDOW for needle in self.needles):
            raise ValueError(f"a needle is shorter than {_WINDOW} bytes")
        self._known = frozenset(self.needles)
        lengths = np.fromiter(map(len, self.needles), dtype=np.int64, count=len(self.needles))
        self._stride = int(min(_MOST_STRIDE, lengths.min(initial=_MOST_STRIDE + _WINDOW) - _WINDOW + 1))
        text = b"".join(self.needles) + bytes(8)
        eights, starts = _eights(text), np.cumsum(lengths) - lengths
        heads, tails = (eights[place] << _LIFT for place in (starts, starts + lengths - _WINDOW))
        self._ends = np.unique(_end_key(heads, tails, lengths))
        # Which window stands at which place of needles of which length: one entry for all that are alike in this.
        windows = np.concatenate([eights[starts + place] << _LIFT for place in range(self._stride)])
        places, lengths = np.repeat(np.arange(self._stride), len(starts)), np.tile(lengths, self._stride)
        order = np.lexsort((lengths, places, windows))
        windows, places, lengths = windows[order], places[order], lengths[order]
        is_new = np.ones(len(windows), dtype=bool)
        is_new[1:] = (np.diff(windows) != 0) | (np.diff(places) != 0) | (np.diff(lengths) != 0)
        self._places, self._lengths = places[is_new], lengths[is_new]
        self._windows, first = np.unique(windows[is_new], return_index=True)
        self._first = np.append(first, len(self._places))
        self._shift = np.uint64(64 - max(16, min(24, (64 * max(1, len(self._windows))).bit_length())))
        self._map = np.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._map[(self._windows * _MULTIPLIER) >> self._shift] = True

    def find(self, data: bytes | memoryview) -> list[tuple[int, bytes]]:
        """Position and needle of every hit, ascending."""
        view = memoryview(data)
        hits: list[tuple[int, bytes]] = []
        if not self.needles:
            return hits
        step = _BLOCK * self._stride
        for start in range(0, max(0, len(view) - _WINDOW + 1), step):
            block = bytes(view[start : start + step + _WINDOW - 1])
            count = (len(block) - _WINDOW) // self._stride + 1
            # Six bytes from every nth position on, in the upper six of eight (what follows them is shifted out).
            windows = np.ndarray((count,), dtype="<u8", buffer=block + bytes(8), strides=(self._stride,)) << _LIFT
            slots = windows * _MULTIPLIER
            slots >>= self._shift
            candidates = np.flatnonzero(self._map.take(slots))
            if not len(candidates):
                continue
            found = windows[candidates]
            place = np.minimum(np.searchsorted(self._windows, found), len(self._windows) - 1)
            real = self._windows[place] == found
            if real.any():
                hits += self._compared(view, candidates[real] * self._stride + start, place[real])
        return sorted(hits)

    def _compared(self, view: memoryview, positions: np.ndarray, windows: np.ndarray) -> Iterator[tuple[int, bytes]]:
        """The needles that stand where a window of theirs, given by its number, was found."""
        counts = self._first[windows + 1] - self._first[windows]
        entries = np.arange(counts.sum()) + np.repeat(self._first[windows] - np.cumsum(counts) + counts, counts)
        begins, lengths = np.repeat(positions, counts) - self._places[entries], self._lengths[entries]
        inside = (begins >= 0) & (begins + lengths <= len(view))
        begins, lengths = begins[inside], lengths[inside]
        if len(begins) > _FEW and len(view) >= 8:
            eights = _eights(view)
            heads = eights[np.minimum(begins, len(eights) - 1)] << _LIFT
            tails = eights[np.maximum(begins + lengths - 8, 0)] >> _LIFT << _LIFT
            keys = _end_key(heads, tails, lengths)
            place = np.minimum(np.searchsorted(self._ends, keys), len(self._ends) - 1)
            # At the very edges there are no eight bytes to look at.
            kept = (self._ends[place] == keys) | (begins >= len(eights)) | (begins + lengths < 8)
            begins, lengths = begins[kept], lengths[kept]
        for position, length in zip(begins.tolist(), lengths.tolist(), strict=True):
            text = bytes(view[position : position + length])
            if text in self._known:
                yield position, text


def _eights(data: bytes | memoryview) -> np.ndarray:
    """The eight bytes from every position on as a number, the first of them lowest."""
    return np.ndarray((max(0, len(data) - 7),), dtype="<u8", buffer=data, strides=(1,))


def _end_key(heads: np.ndarray, tails: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A hash of how needles begin, how they end, and how far apart that is."""
    return (heads * _MULTIPLIER ^ tails) * _MULTIPLIER + lengths.astype(np.uint64)
