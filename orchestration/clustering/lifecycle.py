"""One fit from the gated features to the record.

Belongs here: reading people as they may be read now, and the order of the steps. Does not belong here: the steps.
"""

from collections.abc import Sequence

import duckdb
import numpy as np

from orchestration import progress
from orchestration.clustering.errors import ClusteringError
from orchestration.clustering.fitting import Clustering, fit
from orchestration.clustering.record import history, keep, person
from orchestration.clustering.sides import Side
from orchestration.identity.keys import load_keys
from orchestration.lake import identifier, open_lake, table_exists
from orchestration.rights.canary import canary_tokens
from orchestration.settings import Settings


def people_of(
    connection: duckdb.DuckDBPyConnection, side: Side, skipped: Sequence[str] = ()
) -> tuple[np.ndarray, str]:
    """The side's features of everybody whom the gate allows now (people by features, float32), and their instant.

    `skipped` are pseudonyms of nobody, such as the canary's. In the order of the pseudonyms, so that the same people give the
    same clusters. Raises `ClusteringError` before a run.
    """
    if not table_exists(connection, *side.relation):
        raise ClusteringError(f"there are no features to cluster yet ({'.'.join(side.relation)}): start a run with `segline run`")
    columns = ", ".join(f"cast({identifier(feature.name)} as float) as {identifier(feature.name)}" for feature in side.features)
    (instant,) = connection.execute(f"select max(as_of) from {side.source}").fetchone()
    token = identifier(side.token)
    found = connection.execute(
        f"select {columns} from {side.source} where not list_contains($skipped, {token}) order by {token}",
        {"skipped": list(skipped)},
    ).fetchnumpy()
    arrays = [np.ma.filled(found[feature.name], np.nan) for feature in side.features]
    values = np.column_stack(arrays).astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        broken = [feature.name for feature, array in zip(side.features, arrays, strict=True) if not np.isfinite(array).all()]
        raise ClusteringError(f"{', '.join(broken)} has values that are no numbers: nothing was fitted")
    return values, f"{instant:%Y-%m-%d %H:%M:%S}" if instant else ""


def fit_and_record(settings: Settings, side: Side, by: str) -> Clustering:
    """Fit the side's clusters on the newest build and put the result on record, stable or not.

    It assigns from the next run on. Raises `ClusteringError` if there is nothing to read, `NamingRefused` without a person.
    """
    person(by)
    twins = [token for tokens in canary_tokens(load_keys(settings)).values() for token in tokens]
    progress.report("reading gated features")
    with open_lake(settings, read_only=True) as connection:
        past = history(connection, side)
        values, instant = people_of(connection, side, twins)
    progress.report("fitting clusters")
    stable = [one for one in past if one.document["clusters"]]
    used = [cluster["cluster_id"] for one in stable for cluster in one.document["clusters"]]
    number = past[-1].number + 1 if past else 1
    clustering = fit(
        values, side, f"{side.name}-{number}", instant, stable[-1].document if stable else None, used
    )
    keep(settings, side, clustering, by.strip(), number)
    return clustering
