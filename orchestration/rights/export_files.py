"""Files that were exported from what is published, kept in one folder, so that a right reaches them too.

Whoever exports segments writes into `exports/` of the home; what has left the platform from there is the recipient's to
withdraw. A file that holds a person who opted out is written anew without that person; one that cannot be read is
withdrawn if the person's pseudonym is found in its bytes, for then nothing else is safe.

Belongs here: the folder, finding and removing persons. Does not belong here: making exports.
"""

import csv
import os
from pathlib import Path

import duckdb

from orchestration.lake import identifier, literal
from orchestration.settings import Settings

READERS = {
    ".csv": "read_csv({file}, all_varchar = true, header = true, strict_mode = true)",
    ".parquet": "read_parquet({file})",
    ".json": "read_json({file})",
}
WRITERS = {".csv": "format csv, header true", ".parquet": "format parquet", ".json": "format json, array true"}


def exports_folder(settings: Settings) -> Path:
    """Where exports are kept; it exists as soon as somebody exports."""
    return settings.root / "exports"


def remove_subjects(settings: Settings, connection: duckdb.DuckDBPyConnection, people: str, condition: str) -> int:
    """Remove from all exports those pseudonyms (column `token`) of `people` that meet the condition; returns files changed."""
    folder = exports_folder(settings)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        return 0
    tokens = {row[0] for row in connection.execute(f"select token from {people} where {condition}").fetchall()}
    return sum(_remove(connection, path, tokens) for path in files) if tokens else 0


def withdraw_all(settings: Settings) -> int:
    """Remove every export: after a re-keying a right would not find anybody in them. Returns how many files."""
    folder = exports_folder(settings)
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    for path in files:
        path.unlink()
    return len(files)


def _remove(connection: duckdb.DuckDBPyConnection, path: Path, tokens: set[str]) -> bool:
    draft = path.with_name(f".{path.name}.rewritten")
    draft.unlink(missing_ok=True)
    try:
        if path.suffix not in READERS:
            raise ValueError("no format that is known here")
        with connection.cursor() as reader:  # of its own: the caller's transaction writes to the lake
            source = READERS[path.suffix].format(file=literal(path))
            columns = [column[0] for column in reader.execute(f"select * from {source} limit 0").description]
            named = [identifier(name) for name in columns if name.endswith("subject_token")]
            if not named:
                raise ValueError("no column of pseudonyms")
            wanted = ", ".join(map(literal, sorted(tokens)))
            holds = " or ".join(f"coalesce({name}, '') in ({wanted})" for name in named)
            if not reader.execute(f"select count(*) from {source} where {holds}").fetchone()[0]:
                return False
            reader.execute(
                f"copy (select * from {source} where not ({holds})) to {literal(draft)} ({WRITERS[path.suffix]})"
            )
            draft.chmod(path.stat().st_mode)
            os.replace(draft, path)
            return True
    except (duckdb.Error, ValueError, csv.Error):
        draft.unlink(missing_ok=True)
        content = path.read_bytes()
        if any(token.encode() in content for token in tokens) or path.suffix == ".parquet":
            path.unlink()  # a compressed file hides what it holds
            return True
        return False
