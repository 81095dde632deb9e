"""No key, password or credential in anything that a run leaves behind, in any form; and the search finds one that is there."""

import base64
import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from orchestration.identity.keys import load_keys
from orchestration.rights.needles import identifier_forms
from orchestration.rights.scanner import Scanner
from orchestration.settings import Settings
from tests.e2e.conftest import PASSWORD

pytestmark = pytest.mark.slow


def forms(secret: bytes) -> dict[bytes, str]:
    """A secret's bytes as files might hold them: raw, hex, Base64 of either alphabet at any alignment, JSON's list of numbers."""
    found = {secret: "raw", secret.hex().encode(): "hex", secret.hex().upper().encode(): "upper hex", str(list(secret))[1:-1].encode(): "numbers"}
    for shift in range(3):
        # Without the characters that the neighbours' bits reach.
        clean = base64.b64encode(bytes(shift) + secret)[(shift * 8 + 5) // 6 : (shift + len(secret)) * 8 // 6]
        found |= {clean: f"base64 at {shift}", clean.translate(bytes.maketrans(b"+/", b"-_")): f"base64url at {shift}"}
    return found


def secrets_of(settings: Settings) -> dict[str, dict[bytes, str]]:
    """Every secret of a home by name: master keys, the ledger's signing key, the password of its environment."""
    keys = load_keys(settings)
    values = {f"master key {name}": getattr(keys, name) for name in ("kek", "pseudonym", "fingerprint")}
    text = settings.ledger_key_file.read_text().strip()
    values["ledger key"] = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return {name: forms(value) for name, value in values.items()} | {"password": identifier_forms(PASSWORD)}


def left_behind(settings: Settings, *beside: Path) -> list[Path]:
    """Everything under the home but the keys' own folder: store, dbt target, Dagster storage, logs, site, ledger, models."""
    own = settings.key_file.parent
    found = [path for path in settings.root.rglob("*") if path.is_file() and not path.is_relative_to(own)]
    return [*found, *beside]


def test_no_secret_is_in_anything_that_a_run_leaves_behind(fintech):
    settings = Settings(home=fintech.cli.home, memory_limit_mb=1000)
    wanted = secrets_of(settings)
    folders = {path.relative_to(settings.root).parts[0] for path in left_behind(settings)}
    assert {"dbt", "dagster", "documentation", "lake", "vault", "runs"} <= folders
    scan = Scanner(settings, None, wanted).run(left_behind(settings))
    assert scan.files > 100 and not scan.shut, scan.shut
    assert {name: [(hit.file, hit.place, hit.form) for hit in scan.of(name)] for name in wanted if scan.of(name)} == {}
    assert not any(PASSWORD in text for text in (fintech.printed, str(settings)))


def test_the_search_finds_a_secret_wherever_one_is_planted(fintech, tmp_path):
    """A search that finds nothing shows something only if it would have."""
    settings = Settings(home=fintech.cli.home, memory_limit_mb=1000)
    wanted = secrets_of(settings)
    keys = load_keys(settings)
    log, page, packed, database = (tmp_path / name for name in ("output.log", "index.html", "trace.gz", "events.db"))
    log.write_text(f"started with {PASSWORD}\n")
    page.write_text(f"<p>{keys.kek.hex()}</p>")
    packed.write_bytes(gzip.compress(b"x" + base64.b64encode(b"ab" + keys.pseudonym)))
    with closing(sqlite3.connect(database)) as db:
        db.execute("create table events (body blob)")
        db.execute("insert into events values (?)", [settings.ledger_key_file.read_bytes()])
        db.commit()
    scan = Scanner(settings, None, wanted).run([log, page, packed, database])
    assert {name for name in wanted if scan.of(name)} == {"password", "master key kek", "master key pseudonym", "ledger key"}
    whole = Scanner(settings, None, wanted).run([settings.key_file, settings.ledger_key_file])
    assert {name for name in wanted if whole.of(name)} == set(wanted) - {"password"}
