"""From a connector's name to the connector.

Belongs here: putting settings, vocabulary and vendor together. dlt is imported here and not before.
"""

from pathlib import Path

from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.resources import Connector
from orchestration.connectors.settings import Patience, vendor_settings
from orchestration.connectors.vocabulary import Vocabulary


def connector(name: str, vocabulary: Vocabulary, patience: Patience) -> Connector:
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
    raise ConnectorError("not_configured", f"there is no connector {name}")


def pulled_folder(data: Path, name: str) -> Path:
    """Where a connector's rows lie in the tenant's data folder."""
    return data / "pulled" / name


def vocabulary_path(sources: Path, name: str) -> Path:
    """Where a connector's vocabulary lies: beside the mapping."""
    return (sources if sources.is_dir() else sources.parent) / f"{name}.yml"
