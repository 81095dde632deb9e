"""Where a run keeps its things, and which tenant profile it serves.

Belongs here: paths under the home folder, the environment variables that move them, limits for the engine.
Does not belong here: anything that opens a file or a database (see `lake`), rules or policy (dbt seeds and macros).
Settings follow pydantic-settings: https://docs.pydantic.dev/latest/concepts/pydantic_settings/
"""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DBT_PROJECT_DIR = PROJECT_ROOT / "dbt_project"
EXPECTATIONS_DIR = PROJECT_ROOT / "expectations"
Profile = Literal["fintech", "childrens_retail"]


class Settings(BaseSettings):
    """One run's settings, read from `SEGLINE_*` variables when constructed, never at import.

    `home` holds everything that the platform writes. `memory_limit_mb` bounds each DuckDB engine (MB). `openlineage` is
    where lineage events go: an endpoint's base address, or a file; without it none are made. `ledger_origin` names the
    ledger in its checkpoints, a URL without scheme; the `anchor_*` say where checkpoints are sent and at least how often
    (hours), see `orchestration.ledger.anchoring`.
    """

    model_config = SettingsConfigDict(env_prefix="SEGLINE_", extra="ignore")

    home: Path = Path(".segline")
    profile: Profile = "fintech"
    sources: Path | None = None
    data: Path | None = None
    as_of: str | None = None
    memory_limit_mb: int = 3000
    openlineage: str | None = None
    lock_wait_seconds: int = 900
    ledger_origin: str | None = None
    anchor_folder: Path | None = None
    anchor_webhook: str | None = None
    anchor_email: str | None = None
    anchor_smtp: SecretStr | None = None
    anchor_timestamp_url: str | None = None
    anchor_hours: float = 24.0

    @cached_property
    def root(self) -> Path:
        """The home folder, absolute, so that subprocesses in other folders find it."""
        return self.home.expanduser().resolve()

    @property
    def catalog(self) -> Path:
        """DuckLake's SQLite catalogue; it holds the data files' keys and is guarded like a key."""
        return self.root / "lake" / "catalog.sqlite"

    @property
    def lake_data(self) -> Path:
        """Encrypted Parquet files of the lake."""
        return self.root / "lake" / "data"

    @property
    def vault_catalog(self) -> Path:
        """The vault's own DuckLake catalogue."""
        return self.root / "vault" / "catalog.sqlite"

    @property
    def vault_data(self) -> Path:
        """Encrypted Parquet files of the vault."""
        return self.root / "vault" / "data"

    @property
    def key_store(self) -> Path:
        """SQLite file of the wrapped per-person keys."""
        return self.root / "vault" / "keys.sqlite"

    @property
    def key_file(self) -> Path:
        """Master keys, mode 0600, unless the environment carries them."""
        return self.root / "keys" / "segline.keys"

    @property
    def ledger_key_file(self) -> Path:
        """The ledger's signing key, mode 0600, unless the environment carries it."""
        return self.root / "keys" / "ledger.key"

    @property
    def ledger_readings(self) -> Path:
        """Who read the ledger since the last run, one line each; the next run takes it in."""
        return self.root / "ledger" / "readings.jsonl"

    @property
    def temp(self) -> Path:
        """Private folder for the engine's spill files (encrypted)."""
        return self.root / "tmp"

    @property
    def dbt_dir(self) -> Path:
        """dbt's artefacts and logs, and the small file that its profile opens."""
        return self.root / "dbt"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance: run and event storage."""
        return self.root / "dagster"

    @property
    def runs_dir(self) -> Path:
        """One folder per run with its summary."""
        return self.root / "runs"

    @property
    def rights_dir(self) -> Path:
        """Log of rights requests, suppression list, certificates. Backed up apart from lake and vault: it outlives a restore."""
        return self.root / "rights"

    @property
    def models_dir(self) -> Path:
        """Registered models: the registry's database and one folder per version."""
        return self.root / "models"

    @property
    def online_dir(self) -> Path:
        """The online service's: the log of accepted events, by pseudonym, and the hashes of the callers' keys."""
        return self.root / "online"

    @property
    def access_dir(self) -> Path:
        """The register of grants: who has which role. Bundles lie where the grant says, outside the home."""
        return self.root / "access"

    @property
    def documentation_dir(self) -> Path:
        """The pages about the standing publication. They hold no person."""
        return self.root / "documentation"

    @property
    def lock_file(self) -> Path:
        """Held by the one run that writes."""
        return self.root / "run.lock"

    @property
    def turn_file(self) -> Path:
        """Locked by whoever has a writing transaction open on the lake (see `turns`)."""
        return self.root / "store.turn"

    @property
    def sample_dir(self) -> Path:
        """The built-in sample lies beside the home, not in it: it holds plain identifiers, the home never does."""
        return self.root.parent / f"{self.root.name}-sample" / self.profile
