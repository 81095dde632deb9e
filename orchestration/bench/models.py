"""How long it takes to score a book of made people with reasons, by the very SQL of the run, beside a floor; and to train.

Belongs here: made features, the clock, the floor. Does not belong here: scoring (dbt model `model_scores`), fitting (`scoring`).
The floor is the same sum of points without reasons, families and counts: what nobody could do without.
"""

import json
import re
import resource
import time
from typing import Any

import numpy as np

from orchestration import progress
from orchestration.bench.measure import BenchError
from orchestration.lake import literal
from orchestration.scoring.features import FEATURES
from orchestration.scoring.models import BAGS, fit_additive, folds
from orchestration.scoring.points import PointsTable, Term
from orchestration.settings import DBT_PROJECT_DIR, Settings

BINS = 32
CATEGORIES = ("branch", "online", "agent", "partner")
RARE, FEWEST_BAD = 0.005, 30
EVIDENCE = ("consent_event_id", "consent_status", "legal_basis", "legal_reference", "policy_version")
EVIDENCE += ("gate_outcome", "gate_reason")


def made_table(seed: int = 3) -> PointsTable:
    """A points table over every declared feature, 32 bins each."""
    rng = np.random.default_rng(seed)
    terms = []
    for feature in FEATURES:
        common = {"feature": feature.name, "family": feature.family, "kind": feature.kind, "monotone": feature.monotone}
        if feature.kind == "number":
            points = np.sort(rng.normal(0, 0.2, BINS)) * (feature.monotone or 1)
            cuts = np.linspace(0.05, 4, BINS - 1)
            terms.append(Term(points=tuple(map(float, points)), cuts=tuple(map(float, cuts)), missing=0.01, **common))
        else:
            points = tuple(float(value) for value in rng.normal(0, 0.2, len(CATEGORIES)))
            terms.append(Term(points=points, categories=CATEGORIES, missing=0.01, unseen=0.02, **common))
    return PointsTable("bench", "additive_ebm", -5.0, tuple(terms), -3.0, -1.0, "2026-11-01 00:00:00", 180)


def scoring_sql(table: PointsTable, relation: str) -> str:
    """The text of the dbt model `model_scores` over a relation, rendered with the project's own macros and without dbt."""
    import jinja2

    from orchestration.scoring.deployment import document

    class Given(Exception):
        """A macro's return value on its way out."""

    files = [DBT_PROJECT_DIR / "macros" / name for name in ("risk_score.sql", "fitted_record.sql")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    names = re.findall(r"\{% macro (\w+)\(", text)
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    macros: dict[str, Any] = {}

    def give(value: Any) -> None:
        raise Given(value)

    def caller(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            try:
                return getattr(module, f"inner__{name}")(*arguments)
            except Given as given:
                return given.args[0]

        return call

    model = {**json.loads(document(table)), "status": "current", "model_version": table.version, "model_sha256": table.sha256}
    macros |= {name: caller(name) for name in names}
    context = macros | {
        "return": give,
        "adapter": type("Adapter", (), {"dispatch": staticmethod(lambda name: macros[f"duckdb__{name}"])}),
        "dbt": type("Types", (), {"type_string": staticmethod(lambda: "varchar")}),
        "fromjson": json.loads, "score_model": lambda: model, "ref": lambda name: relation,
    }  # fmt: skip
    module = environment.from_string(re.sub(r"\{% macro (\w+)\(", r"{% macro inner__\1(", text), globals=context).make_module({})
    sql = (DBT_PROJECT_DIR / "models" / "risk" / "model_scores.sql").read_text(encoding="utf-8")
    return environment.from_string(sql, globals=context).render()


def floor_sql(table: PointsTable, relation: str) -> str:
    """The sum of points alone, by look-ups in lists of cuts and points."""

    def double(value: float) -> str:
        return f"cast('{value!r}' as double)"

    parts = [double(table.intercept)]
    for term in table.terms:
        if term.kind == "number":
            pairs = zip(term.cuts, term.points, strict=False)
            tests = " ".join(f"when {term.feature} < {double(cut)} then {double(points)}" for cut, points in pairs)
            otherwise = double(term.points[-1])
            parts.append(f"case when {term.feature} is null then {double(term.missing)} {tests} else {otherwise} end")
        else:
            pairs = zip(term.categories, term.points, strict=True)
            tests = " ".join(f"when {literal(name)} then {double(points)}" for name, points in pairs)
            parts.append(f"case {term.feature} {tests} else {double(term.unseen)} end")
    return f"select risk_subject_token, {' + '.join(parts)} as score from {relation}"


def measure_models(people: int, rows: int) -> dict[str, Any]:
    """Wall and processor seconds of scoring so many made people with reasons and of its floor, of fitting on so many made rows
    (as a training does: three refits and the model), and the highest memory (MB). Raises `BenchError` if the two sums differ."""
    import duckdb

    stages: dict[str, tuple[float, float]] = {}

    def timed(name: str, work: Any) -> Any:
        progress.report(name)
        wall, processor = time.perf_counter(), time.process_time()
        found = work()
        stages[name] = (round(time.perf_counter() - wall, 2), round(time.process_time() - processor, 2))
        return found

    table = made_table()
    with duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{Settings().memory_limit_mb}MB'")
        connection.execute(_features_sql(people))
        timed("scores with reasons", lambda: connection.execute(f"create table scores as {scoring_sql(table, 'made')}"))
        timed("floor: the sum alone", lambda: connection.execute(f"create table floor as {floor_sql(table, 'made')}"))
        (differing,) = connection.execute(
            "select count(*) from scores full join floor using (risk_subject_token) "
            "where coalesce(abs(scores.score - floor.score) > 1e-9, true)"
        ).fetchone()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        frame = connection.execute(f"select * from made limit {int(rows)}").df()
    if differing:
        raise BenchError(f"{differing} of {people} scores differ from the floor's")
    if rows:
        frame, labels = _labelled(frame)

        def fit() -> None:
            for number, (fitted_on, _) in enumerate(folds(frame, labels, 1)):
                fit_additive(frame.iloc[fitted_on], labels[fitted_on], list(FEATURES), number, bags=4)
            fit_additive(frame, labels, list(FEATURES), 1, bags=BAGS)

        timed(f"fitting on {rows:,} rows", fit)
    scored, least = stages["scores with reasons"], stages["floor: the sum alone"]
    return {
        "people": people,
        "bins": len(table.rows()),
        "scoring_peak_memory_mb": memory,
        "ratio_to_floor": round(scored[1] / max(least[1], 0.01), 2),
        "stages": stages,
    }


def _features_sql(people: int) -> str:
    columns = []
    for number, feature in enumerate(FEATURES):
        if feature.kind == "number":
            value = f"(hash(person, {number}) % 5000)::double / 1000"
            columns.append(f"case when hash(person, {number}, 1) % 20 = 0 then null else {value} end as {feature.name}")
        else:
            names = ", ".join(map(literal, CATEGORIES))
            columns.append(f"list_extract([{names}], (hash(person, {number}) % {len(CATEGORIES)} + 1)::int) as {feature.name}")
    evidence = ", ".join(f"'x' as {name}" for name in EVIDENCE)
    return (
        f"create table made as select 'r_' || person as risk_subject_token, {', '.join(columns)}, {evidence}, "
        f"timestamp '2026-11-01' as as_of from range({int(people)}) as people (person)"
    )


def _labelled(frame: Any) -> tuple[Any, np.ndarray]:
    """The rows with outcomes that three features foretell in part, as rare as incidents are."""
    from orchestration.scoring.training_set import coerced

    frame = coerced(frame)
    rng = np.random.default_rng(5)
    pull = frame["cash_share_90d"].fillna(1) + frame["pass_through_ratio_90d"].fillna(1) - frame["tenure_days"].fillna(1)
    chance = np.exp(0.5 * (pull - pull.mean())).to_numpy()
    labels = np.zeros(len(frame))
    labels[rng.choice(len(frame), max(FEWEST_BAD, round(RARE * len(frame))), replace=False, p=chance / chance.sum())] = 1
    return frame, labels
