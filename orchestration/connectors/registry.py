"""From a connector's name to a pull or a comparison.

Belongs here: putting settings, vocabulary, vendor and folders together. dlt is imported here and not before.
"""

from datetime import datetime
from pathlib import Path

from orchestration.connectors.drift import DriftLimits, DriftReport, measure_drift, record_drift
from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.pulling import PullReport, pull
from orchestration.connectors.recording import record_pull
from orchestration.connectors.resources import Connector
from orchestration.connectors.settings import Patience, vendor_settings
from orchestration.connectors.vocabulary import Vocabulary, load_vocabulary
from orchestration.deliveries import source_folders
from orchestration.identity.keys import load_keys
from orchestration.ingestion.mapping import load_mapping
from orchestration.lake import open_lake
from orchestration.run_lock import run_lock
from orchestration.settings import Settings


def connector(name: str, vocabulary: Vocabulary, patience: Patience, platform: Settings) -> Connector:
    """The connector of that name with the environment's settings. `ConnectorError` if they are incomplete."""
    settings = vendor_settings(name)
    if name == "onetrust":
        from orchestration.connectors.onetrust import OneTrustConnector

        return OneTrustConnector(settings, vocabulary, patience)  # type: ignore[arg-type]
    if name == "trustarc":
        from orchestration.connectors.trustarc import TrustArcConnector

        return TrustArcConnector(settings, vocabulary, patience)  # type: ignore[arg-type]
    if name == "zigpoll":
        from orchestration.connectors.zigpoll import ZigpollConnector

        return ZigpollConnector(settings, vocabulary, patience)  # type: ignore[arg-type]
    if name == "signals":
        from orchestration.connectors.signals import SignalsConnector

        return SignalsConnector(settings, vocabulary, platform)  # type: ignore[arg-type]
    raise ConnectorError("not_configured", f"there is no connector {name}")


def pulled_folder(data: Path, name: str) -> Path:
    """Where a connector's rows lie in the tenant's data folder."""
    return data / "pulled" / name


def vocabulary_path(sources: Path, name: str) -> Path:
    """Where a connector's vocabulary lies: beside the mapping."""
    return (sources if sources.is_dir() else sources.parent) / f"{name}.yml"


def pull_into_data(settings: Settings, name: str, now: datetime, from_start: bool = False) -> PullReport:
    """Pull into the tenant's data folder, then record the pull in the lake. `now` is UTC without zone.

    The rows are durable before the record: it waits for a run that writes, and may fail (`RunLocked`) without harm; the
    next pull records the dead letters that are missing.
    """
    sources, data = source_folders(settings)
    vocabulary = load_vocabulary(vocabulary_path(sources, name), name)
    patience = Patience()
    folder = pulled_folder(data, name)
    vendor = connector(name, vocabulary, patience, settings)
    report = pull(vendor, vocabulary, settings, load_keys(settings), folder, patience, now, from_start)
    with run_lock(settings), open_lake(settings) as connection:
        record_pull(connection, report, folder, now)
    return report


def drift_of(settings: Settings, name: str, run_id: str) -> DriftReport:
    """Compare and record, under the run's lock."""
    with run_lock(settings):
        return drift_in_run(settings, name, run_id)


def drift_in_run(settings: Settings, name: str, run_id: str) -> DriftReport:
    """Compare and record, where the caller holds the lock (a Dagster run does)."""
    sources, data = source_folders(settings)
    vocabulary = load_vocabulary(vocabulary_path(sources, name), name)
    vendor = connector(name, vocabulary, Patience(), settings)
    mapping = load_mapping(sources)
    keys = load_keys(settings)
    with open_lake(settings) as connection:
        report = measure_drift(connection, settings, keys, vendor, mapping, data, pulled_folder(data, name))
        record_drift(connection, report, DriftLimits(), run_id)
    return report
