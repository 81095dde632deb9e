"""What is asked of the clusters of every run before and beside publication.

Belongs here: judging what was assigned. Does not belong here: assigning (dbt), what an alarm leads to.
"""

from dataclasses import dataclass, field

import duckdb
import numpy as np

from orchestration.clustering.fitting import CURRENT
from orchestration.clustering.sides import AUDIENCE, Side
from orchestration.clustering.stability import LEAST_PEOPLE, MOST
from orchestration.lake import identifier

NO_CLUSTER = ("default", "unclustered")
MOST_OUTLIERS = 0.05  # one in a hundred lay outside at the fit


@dataclass(frozen=True)
class Verdict:
    """Whether it passed, and what was found wrong, in sentences; `state` is the clustering's."""

    passed: bool
    state: str
    wrong: list[str] = field(default_factory=list)


def on_record(connection: duckdb.DuckDBPyConnection, side: Side = AUDIENCE) -> Verdict:
    """Every cluster that somebody is in is on record, nobody is in one while none stands, and there are not too many."""
    state, known = _profiles(connection, side)
    members = f"lake.candidate.{identifier(side.published[0])}"
    used = [row[0] for row in connection.execute(f"select distinct cluster_id from {members} order by 1").fetchall()]
    wrong = [f"cluster {name} is not on record" for name in used if name not in {*NO_CLUSTER, *known}]
    if len(known) > MOST:
        wrong.append(f"{len(known)} clusters; more than {MOST} are no help to anybody")
    if state != CURRENT and known:
        wrong.append(f"there are clusters although the clustering is {state}")
    return Verdict(not wrong, state, wrong)


def still_fit(connection: duckdb.DuckDBPyConnection, side: Side = AUDIENCE) -> Verdict:
    """A clustering stands or was never asked for; shares, outliers and sizes are about those of the fit."""
    from orchestration.scoring.drift import LEAST_EFFECT, null_limit, psi

    state, known = _profiles(connection, side)
    if state != CURRENT:
        # Nobody asked for clusters in a new store, and few people or no structure are honest answers.
        return Verdict(state in ("no_clustering", "no_stable_clustering", "too_few_people"), state)
    now = {
        name: (people, outliers)
        for name, people, outliers in connection.execute(
            "select cluster_id, count(*), count(*) filter (where is_outlier) "
            f"from lake.candidate.{identifier(side.published[0])} "
            "where cluster_id not in ('default', 'unclustered') group by 1"
        ).fetchall()
    }
    then_counts = np.array([known[name] for name in sorted(known)], dtype=float)
    now_counts = np.array([now.get(name, (0, 0))[0] for name in sorted(known)], dtype=float)
    wrong = []
    value, limit = psi(then_counts, now_counts), null_limit(len(known), then_counts.sum(), now_counts.sum())
    if value > max(limit, LEAST_EFFECT):
        wrong.append(f"the clusters' shares moved: PSI {value:.3f}, by chance at most {max(limit, LEAST_EFFECT):.3f}")
    people, outliers = now_counts.sum(), sum(row[1] for row in now.values())
    if people and outliers / people > MOST_OUTLIERS:
        wrong.append(f"{outliers / people:.1%} lie far from every centre, at the fit 1.0%: fit again")
    small = [name for name, count in zip(sorted(known), now_counts, strict=True) if count < LEAST_PEOPLE / 2]
    if small:
        wrong.append(f"{', '.join(small)} shrank below {LEAST_PEOPLE // 2} people: fit again")
    return Verdict(not wrong, state, wrong)


def _profiles(connection: duckdb.DuckDBPyConnection, side: Side) -> tuple[str, dict[str, int]]:
    rows = connection.execute(
        f"select state, cluster_id, fitted_count from lake.candidate.{identifier(side.published[1])} order by cluster_id"
    ).fetchall()
    return rows[0][0], {name: int(count or 0) for _, name, count in rows if name not in NO_CLUSTER}
