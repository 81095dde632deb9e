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
from orchestration.identity.pseudonyms import PREFIXES
from orchestration.rights.errors import RightsError
from orchestration.rights.requests import Subject

# A shorter text occurs by chance; it is then looked for as a whole value in cells, not inside other text.
SHORTEST = 6
_WINDOW = 6
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
        body = value.removeprefix(PREFIXES.get(zone, ""))  # type: ignore[call-overload]
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

    The first six bytes at every position are hashed into a bitmap (a Bloom filter with one hash). What it lets through is
    looked up, and where a needle begins so, the six bytes at which it would end are, before anything is compared: the
    identifiers of one tenant begin alike, and so does every row of a table of them. `needles` are at least that long.
    """

    def __init__(self, needles: Iterable[bytes]) -> None:
        self.needles = sorted(set(needles))
        if any(len(needle) < _WINDOW for needle in self.needles):
            raise ValueError(f"a needle is shorter than {_WINDOW} bytes")
        self._known = frozenset(self.needles)
        heads = _windows_at(needle[:_WINDOW] for needle in self.needles)
        tails = _windows_at(needle[-_WINDOW:] for needle in self.needles)
        lengths = np.fromiter(map(len, self.needles), dtype=np.uint64, count=len(self.needles))
        self._heads, group = np.unique(heads, return_inverse=True)
        self._ends = np.unique(_end_key(heads, tails, lengths))
        # For each length, which of the heads begin a needle that long.
        self._begins: dict[int, np.ndarray] = {}
        for length in np.unique(lengths):
            self._begins[int(length)] = begins = np.zeros(len(self._heads), dtype=bool)
            begins[group[lengths == length]] = True
        self._shift = np.uint64(64 - max(16, min(24, (64 * max(1, len(self._heads))).bit_length())))
        self._map = np.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._map[(self._heads * _MULTIPLIER) >> self._shift] = True

    def find(self, data: bytes | memoryview) -> list[tuple[int, bytes]]:
        """Position and needle of every hit, ascending."""
        view = memoryview(data)
        hits: list[tuple[int, bytes]] = []
        if not self.needles:
            return hits
        for start in range(0, max(0, len(view) - _WINDOW + 1), _BLOCK):
            block = bytes(view[start : start + _BLOCK + _WINDOW - 1])
            count = len(block) - _WINDOW + 1
            # Six bytes from every position on, in the upper six of eight (what lies before the first is shifted out).
            windows = np.ndarray((count,), dtype="<u8", buffer=block + bytes(8), strides=(1,)) << _LIFT
            slots = windows * _MULTIPLIER
            slots >>= self._shift
            candidates = np.flatnonzero(self._map.take(slots))
            if not len(candidates):
                continue
            found = windows[candidates]
            place = np.minimum(np.searchsorted(self._heads, found), len(self._heads) - 1)
            real = self._heads[place] == found
            if real.any():
                hits += self._compared(view, candidates[real] + start, place[real])
        return sorted(hits)

    def _compared(self, view: memoryview, begins: np.ndarray, groups: np.ndarray) -> Iterator[tuple[int, bytes]]:
        """The needles that are at positions where one of the group of heads is."""
        # Eight bytes from every position on: the last six of those before a needle's end are its tail.
        eights = np.ndarray((max(0, len(view) - 7),), dtype="<u8", buffer=view, strides=(1,))
        for length, begun in self._begins.items():
            chosen = begun[groups]
            if not chosen.any():
                continue
            chosen &= begins + length <= len(view)
            at, heads = begins[chosen], self._heads[groups[chosen]]
            if len(at) > _FEW:
                before = at + (length - 8)
                tails = (eights[np.maximum(before, 0)] >> _LIFT) << _LIFT
                keys = _end_key(heads, tails, np.uint64(length))
                place = np.minimum(np.searchsorted(self._ends, keys), len(self._ends) - 1)
                at = at[(self._ends[place] == keys) | (before < 0)]
            for position in at.tolist():
                text = bytes(view[position : position + length])
                if text in self._known:
                    yield position, text


def _windows_at(pieces: Iterable[bytes]) -> np.ndarray:
    """Pieces of six bytes as numbers: in the upper six of eight."""
    return np.frombuffer(b"".join(bytes(8 - _WINDOW) + piece for piece in pieces), dtype="<u8")


def _end_key(heads: np.ndarray, tails: np.ndarray, lengths: np.ndarray | np.uint64) -> np.ndarray:
    """A hash of how needles begin, how they end, and how far apart that is."""
    return (heads * _MULTIPLIER ^ tails) * _MULTIPLIER + lengths
