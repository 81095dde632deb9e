"""The search for a person in every file under the home: the proof of a deletion, and the proof of the search itself.

Each file is searched as it lies there, and then opened as what it is: Parquet decompressed and, if encrypted, decrypted
with the key from its catalogue; SQLite and DuckDB read table by table; gzip, zip, tar and their like unpacked, also inside
one another; the vault's sealed values opened with the keys that there are. A search that finds nobody proves nothing
unless it also finds somebody who is there (the control): without that the verdict is `inconclusive`, as it is if a file
could not be opened.

Belongs here: opening and searching. Does not belong here: what is searched for (`needles`), removing it (`stores`).
Method: consent reference, "Proving deletion"; NIST SP 800-88 asks for verification by sampling, this searches all.
"""

import base64
import bz2
import gzip
import io
import lzma
import os
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestration.identity.keys import MasterKeys
from orchestration.identity.sealing import NONCE_BYTES
from orchestration.lake import identifier, literal
from orchestration.rights.engines import attached_lake, one_engine
from orchestration.rights.needles import Searcher, needles_of
from orchestration.settings import Settings

CLEAR, FOUND, INCONCLUSIVE = "clear", "found", "inconclusive"
CONTROL = "control"
MAX_DEPTH = 6
MAX_UNPACKED = 4_000_000_000
_BATCH_ROWS = 100_000
_SEPARATOR = b"\0" * 8
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0")     # gzip, zip, zstd, bzip2, xz
_DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, pa.ArrowException)


@dataclass(frozen=True, order=True)
class Hit:
    """Something was found: in which file (relative to the home), where in it, in which form; never the value."""

    file: str
    place: str
    form: str


@dataclass
class Scan:
    """What a search saw: files by the way they were opened, bytes searched, hits, and files that stayed shut with why."""

    opened: dict[str, int] = field(default_factory=dict)
    files: int = 0
    bytes_searched: int = 0
    hits: dict[str, set[Hit]] = field(default_factory=dict)
    shut: dict[str, str] = field(default_factory=dict)

    def of(self, who: str) -> list[Hit]:
        """Hits of one of those who were searched for."""
        return sorted(self.hits.get(who, set()))


@dataclass(frozen=True)
class Verdict:
    """`clear` only if nothing of the person was found, every file could be opened, and the control was found."""

    verdict: str
    person: list[Hit]
    control: list[Hit]
    scan: Scan
    reason: str


class Scanner:
    """One search of a home for several persons at once.

    `wanted` maps who is searched for (any name) to needles with what they are called. `unsealed` limits whose vault entries
    are opened (raw pseudonyms); by default everybody's are, at some 50 s of processor time per million persons.
    """

    def __init__(
        self,
        settings: Settings,
        keys: MasterKeys | None,
        wanted: dict[str, dict[bytes, str]],
        unsealed: Collection[str] | None = None,
    ) -> None:
        self._settings, self._keys, self._unsealed_only = settings, keys, unsealed
        self._names: dict[bytes, list[tuple[str, str]]] = {}
        for who, needles in wanted.items():
            for needle, form in needles.items():
                self._names.setdefault(needle, []).append((who, form))
        self._searcher = Searcher(self._names)
        self._longest = max(map(len, self._names), default=1)
        self._scan = Scan()
        self._person_keys: dict[bytes, tuple[bytes, bytes]] = {}

    def run(self, paths: Iterable[Path] | None = None) -> Scan:
        """Search the given files, or every file under the home."""
        root = self._settings.root
        given = root.rglob("*") if paths is None else paths
        chosen = sorted(path for path in given if path.is_file() and not path.is_symlink())
        file_keys = self._catalogue_keys()
        self._load_person_keys()
        with ExitStack() as stack:
            # An engine only if there is something that needs it: logs and reports do not.
            needed = any(path.name in file_keys for path in chosen)
            connection = stack.enter_context(one_engine(self._settings)) if needed else None
            for path in chosen:
                self._file(connection, path, file_keys)
        return self._scan

    # a file

    def _file(self, connection: duckdb.DuckDBPyConnection | None, path: Path, file_keys: dict[str, str]) -> None:
        name = str(path.relative_to(self._settings.root)) if path.is_relative_to(self._settings.root) else str(path)
        self._scan.files += 1
        self._search_name(name)
        try:
            with path.open("rb") as stream:
                head = stream.read(16)
                stream.seek(0)
                self._stream(stream, name, "as it lies there")
        except FileNotFoundError:
            self._scan.files -= 1
            return  # a reader's spill file that went meanwhile
        except OSError as error:
            self._scan.shut[name] = f"cannot be read ({error.strerror})"
            return
        try:
            self._open(connection, path, name, head, file_keys)
        except (*_DAMAGED, duckdb.Error, sqlite3.Error) as error:
            # The message may quote a value.
            self._scan.shut[name] = f"cannot be opened ({type(error).__name__})"

    def _open(
        self, connection: duckdb.DuckDBPyConnection | None, path: Path, name: str, head: bytes, file_keys: dict[str, str]
    ) -> None:
        if head[:4] == b"PARE":
            key = file_keys.get(path.name)
            if key is None or connection is None:
                self._scan.shut[name] = "encrypted, and no catalogue holds its key: left by a killed run, nobody can open it"
                return
            self._count("encrypted Parquet")
            self._encrypted_parquet(connection, path, name, key)
        elif head[:4] == b"PAR1":
            self._count("Parquet")
            self._plain_parquet(pq.ParquetFile(path), name)
        elif head[:16] == b"SQLite format 3\0":
            self._count("SQLite")
            self._sqlite(path, name)
        elif head[8:12] == b"DUCK":
            self._count("DuckDB")
            self._duckdb(path, name)
        elif _is_packed(head) or path.suffix == ".tar":
            self._count("packed")
            self._packed(path.read_bytes(), name, 0)
        else:
            self._count("plain")

    def _count(self, way: str) -> None:
        self._scan.opened[way] = self._scan.opened.get(way, 0) + 1

    def _search_name(self, name: str) -> None:
        self._bytes(name.encode(), name, "file name")

    def _stream(self, stream: io.BufferedReader, name: str, place: str) -> None:
        """A file of any size, in blocks that overlap by the longest needle."""
        overlap = self._longest - 1
        block = b""
        while True:
            fresh = stream.read(1 << 24)
            if not fresh:
                return
            block = block[-overlap:] + fresh if overlap else fresh
            self._bytes(block, name, place, len(fresh))

    # finding

    def _bytes(self, data: bytes | memoryview, name: str, place: str, size: int | None = None) -> None:
        self._scan.bytes_searched += len(data) if size is None else size
        for _, needle in self._searcher.find(data):
            self._hit(needle, name, place)

    def _hit(self, needle: bytes, name: str, place: str) -> None:
        for who, form in self._names[needle]:
            self._scan.hits.setdefault(who, set()).add(Hit(name, place, form))

    def _table(self, batches: Iterable[pa.RecordBatch], name: str, table: str) -> None:
        for batch in batches:
            for column, array in zip(batch.schema.names, batch.columns, strict=True):
                self._column(array, name, f"{table}{column}")

    def _column(self, array: pa.Array, name: str, place: str) -> None:
        """A column's values at once; a hit that runs over the end of a value is none."""
        kind = array.type
        if pa.types.is_dictionary(kind):
            array = array.dictionary
            kind = array.type
        if pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind) or pa.types.is_floating(kind):
            return
        if not (pa.types.is_string(kind) or pa.types.is_binary(kind) or _is_large(kind)):
            text = array.to_pylist() if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind) else None
            array = pa.array([str(value) for value in text], pa.string()) if text is not None else array.cast(pa.string())
        array = array.cast(pa.large_binary())
        _, offset_buffer, data = array.buffers()
        if data is None or offset_buffer is None:
            return
        offsets = np.frombuffer(offset_buffer, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        view = memoryview(data)[int(offsets[0]) : int(offsets[-1])]
        self._scan.bytes_searched += len(view)
        for at, needle in self._searcher.find(view):
            begin = at + int(offsets[0])
            row = int(np.searchsorted(offsets, begin, side="right"))
            if begin + len(needle) <= int(offsets[row]):
                self._hit(needle, name, place)
        if pa.types.is_binary(kind):
            self._packed_cells(array, name, place)

    def _packed_cells(self, array: pa.Array, name: str, place: str) -> None:
        for position in np.flatnonzero(_look_packed(array)).tolist():
            self._packed_quietly(array[position].as_py(), name, f"{place}, unpacked")

    # formats

    def _plain_parquet(self, file: pq.ParquetFile, name: str, place: str = "") -> None:
        self._table(file.iter_batches(_BATCH_ROWS), name, place)

    def _encrypted_parquet(self, connection: duckdb.DuckDBPyConnection, path: Path, name: str, key: str) -> None:
        reader = connection.execute(
            "select * from read_parquet(?, encryption_config = {footer_key_value: from_base64(?)})", [str(path), key]
        ).to_arrow_reader(_BATCH_ROWS)
        is_vault = path.is_relative_to(self._settings.vault_data)
        for batch in reader:
            self._table([batch], name, "column ")
            if is_vault:
                self._unsealed(batch, name)

    def _sqlite(self, path: Path, name: str) -> None:
        # As a reader of the live file, so that what the write-ahead log holds is seen too.
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
            db.text_factory = bytes
            tables = [row[0].decode() for row in db.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                rows = db.execute(f"select * from {identifier(table)}")
                names = [column[0] for column in rows.description]
                self._cells(rows, names, name, f"table {table}, ")

    def _cells(self, rows: Iterable[tuple], names: list[str], name: str, table: str) -> None:
        """Rows of cells, gathered by column so that the search runs over large pieces."""
        gathered: list[list[bytes]] = [[] for _ in names]
        size = 0
        for row in rows:
            for column, value in zip(gathered, row, strict=True):
                if value is not None:
                    cell = value if isinstance(value, bytes) else str(value).encode()
                    column.append(cell)
                    size += len(cell)
            if size > 1 << 25:
                self._gathered(gathered, names, name, table)
                gathered, size = [[] for _ in names], 0
        self._gathered(gathered, names, name, table)

    def _gathered(self, gathered: list[list[bytes]], names: list[str], name: str, table: str) -> None:
        for column, cells in zip(names, gathered, strict=True):
            self._bytes(_SEPARATOR.join(cells), name, f"{table}column {column}")
            for cell in cells:
                if _is_packed(cell[:6]):
                    self._packed_quietly(cell, name, f"{table}column {column}, unpacked")

    def _duckdb(self, path: Path, name: str) -> None:
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = connection.execute("select schema_name, table_name from duckdb_tables() where not internal").fetchall()
            for schema, table in tables:
                rows = connection.execute(f"select * from {identifier(schema)}.{identifier(table)}")
                self._table(rows.to_arrow_reader(_BATCH_ROWS), name, f"table {table}, column ")

    def _packed_quietly(self, data: bytes, name: str, place: str) -> None:
        """A cell that looks packed; if it is not, it has been searched as it lies there."""
        try:
            self._packed(data, name, 1, place)
        except _DAMAGED:
            return

    def _packed(self, data: bytes, name: str, depth: int, place: str = "unpacked") -> None:
        if depth > MAX_DEPTH:
            raise ValueError("packed too deep")
        for member, content in _members(data):
            where = f"{place}: {member}" if member else place
            if member:
                self._bytes(member.encode(), name, f"{place}: member name")
            self._bytes(content, name, where)
            if _is_packed(content[:6]) or _is_tar(content):
                self._packed(content, name, depth + 1, where)
            elif content[:4] == b"PAR1":
                self._plain_parquet(pq.ParquetFile(io.BytesIO(content)), name, f"{where}, column ")

    # keys

    def _catalogue_keys(self) -> dict[str, str]:
        """File name to key of every data file that the catalogues of lake and vault know, old snapshots' too."""
        keys: dict[str, str] = {}
        for catalog in (self._settings.catalog, self._settings.vault_catalog):
            if not catalog.exists():
                continue
            with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True, timeout=30)) as db:
                for table in ("ducklake_data_file", "ducklake_delete_file"):
                    for path, key in db.execute(f"select path, encryption_key from {table} where encryption_key is not null"):
                        keys[path.rsplit("/", 1)[-1]] = key if isinstance(key, str) else base64.b64encode(key).decode()
        return keys

    def _load_person_keys(self) -> None:
        if self._keys is None or not self._settings.key_store.exists():
            return
        with closing(sqlite3.connect(f"file:{self._settings.key_store}?mode=ro", uri=True, timeout=30)) as store:
            query = "select subject_token, nonce, wrapped_key from subject_keys"
            if self._unsealed_only is None:
                rows = store.execute(query).fetchall()
            else:
                chosen = [(token,) for token in self._unsealed_only]
                rows = [row for one in chosen for row in store.execute(f"{query} where subject_token = ?", one)]
            self._person_keys = {token.encode(): (nonce, wrapped) for token, nonce, wrapped in rows}

    def _unsealed(self, batch: pa.RecordBatch, name: str) -> None:
        """The vault's values in plain text, of those persons whose key there is."""
        if self._keys is None or "subject_token" not in batch.schema.names:
            return
        kek = AESGCM(self._keys.kek)
        column = batch.column(batch.schema.get_field_index("subject_token"))
        if self._unsealed_only is not None:
            held = pa.compute.is_in(column, pa.array([token.decode() for token in self._person_keys], column.type))
            batch = batch.filter(held)
            column = batch.column(batch.schema.get_field_index("subject_token"))
        subjects = column.cast(pa.binary()).to_pylist()
        opened: list[Callable[[bytes, bytes, bytes], bytes] | None] = []
        for subject in subjects:
            held = self._person_keys.get(subject)
            try:
                opened.append(AESGCM(kek.decrypt(held[0], held[1], subject)).decrypt if held else None)
            except InvalidTag:
                opened.append(None)
        for label, column in zip(batch.schema.names, batch.columns, strict=True):
            if not pa.types.is_binary(column.type) or label == "fingerprint":
                continue
            plain = []
            for subject, decrypt, value in zip(subjects, opened, column.to_pylist(), strict=True):
                if decrypt is not None and value is not None:
                    try:
                        plain.append(decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], subject + label.encode()))
                    except InvalidTag:
                        continue
            self._bytes(_SEPARATOR.join(plain), name, f"column {label}, opened with the person's key")


def _is_large(kind: pa.DataType) -> bool:
    return pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)


def _is_packed(head: bytes) -> bool:
    return head.startswith(_PACKED)


def _look_packed(array: pa.Array) -> np.ndarray:
    """Which values of a binary array begin as something packed does."""
    found = np.zeros(len(array), dtype=bool)
    for mark in _PACKED:
        heads = pa.compute.binary_slice(array, 0, len(mark))
        found |= pa.compute.equal(heads, pa.scalar(mark, heads.type)).fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _is_tar(data: bytes) -> bool:
    return data[257:262] == b"ustar"


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of what is packed in the data; one without a name for a mere compression."""
    if data[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(data)) as stream:
            yield "", _bounded(stream)
    elif data[:3] == b"BZh":
        with bz2.open(io.BytesIO(data)) as stream:
            yield "", _bounded(stream)
    elif data[:6] == b"\xfd7zXZ\0":
        with lzma.open(io.BytesIO(data)) as stream:
            yield "", _bounded(stream)
    elif data[:4] == b"\x28\xb5\x2f\xfd":
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            yield "", stream.read()
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    yield member.filename, _bounded(stream)
    elif _is_tar(data):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for entry in archive:
                stream = archive.extractfile(entry)
                if stream is not None:
                    yield entry.name, _bounded(stream)


def _bounded(stream: io.IOBase) -> bytes:
    content = stream.read(MAX_UNPACKED + 1)
    if len(content) > MAX_UNPACKED:
        raise ValueError("unpacks to more than is searched")
    return content


def judge(scan: Scan, who: str = "person", is_allowed: Callable[[Hit], bool] = lambda hit: False) -> Verdict:
    """What a search for somebody proves; hits that `is_allowed` accepts, where a duty keeps data, do not count.

    The control counts as found if it was found in the vault, opened with its key, and by a pseudonym in the lake: that
    shows that keys, decryption and decompression worked.
    """
    person = [hit for hit in scan.of(who) if not is_allowed(hit)]
    control = scan.of(CONTROL)
    shut = sorted(name for name in scan.shut if not name.startswith(f"tmp{os.sep}"))
    places = {
        "in the vault": any("opened with the person's key" in hit.place for hit in control),
        "in the lake": any(hit.file.startswith(f"lake{os.sep}data") and "pseudonym" in hit.form for hit in control),
    }
    missing = " and ".join(name for name, is_there in places.items() if not is_there)
    if person:
        return Verdict(FOUND, person, control, scan, "the person was found")
    if missing:
        return Verdict(INCONCLUSIVE, person, control, scan, f"the control was not found {missing}: the search proves nothing")
    if shut:
        return Verdict(INCONCLUSIVE, person, control, scan, f"{len(shut)} files stayed shut: {', '.join(shut[:3])}")
    return Verdict(CLEAR, person, control, scan, "nothing of the person was found, the control was")


def verify(settings: Settings, keys: MasterKeys, identifiers: Iterable[str], control: str | None) -> Verdict:
    """Search for identifiers of one person; `control` is the customer identifier of another who is in the store."""
    person: dict[bytes, str] = {}
    for value in identifiers:
        person.update(needles_of(keys, value))
    others = needles_of(keys, control) if control else {}
    wanted = {"person": person, CONTROL: {needle: form for needle, form in others.items() if needle not in person}}
    return judge(Scanner(settings, keys, wanted).run())


def any_control(settings: Settings, keys: MasterKeys, besides: set[str]) -> str | None:
    """The customer identifier of somebody who is in vault and lake, none of the given pseudonyms; `None` if nobody is."""
    from orchestration.identity.errors import IdentityError
    from orchestration.identity.vault import PERSONS, attached_vault, read_person
    from orchestration.lake import table_exists

    if not settings.vault_catalog.exists() or not settings.catalog.exists():
        return None
    with attached_lake(settings, read_only=True) as connection:
        if not table_exists(connection, "raw", "customers"):
            return None
        known = {row[0] for row in connection.execute("select subject_token from lake.raw.customers limit 20000").fetchall()}
        with attached_vault(connection, settings, read_only=True) as vault:
            chosen = ", ".join(literal(token) for token in sorted(known - besides)[:500]) or "''"
            found = vault.execute(f"select subject_token from {PERSONS} where subject_token in ({chosen}) limit 20").fetchall()
        for (token,) in found:
            try:
                return read_person(settings, keys, token, connection)["customer_id"]
            except (IdentityError, KeyError):
                continue
    return None
