"""Deliberately wrong models, one per way round the gate or through a wall: each is caught, each corrected twin passes.

A checker that lets one of these through would let a real one through; one that refused the twins would be switched off.
"""

from datetime import date

import pytest

from tests.unit.lineage.tiny_project import EVIDENCE, GATE_COLUMNS, GATE_SQL, audience, node, proof_of

T, G, C = "lake.staging.transactions as t", "lake.consent.gate as g", "lake.staging.customers as c"
KEY = "t.subject_token = g.subject_token"
PASSED = "g.purpose_role = 'audience' and g.gate_outcome = 'ALLOW'"
GATED = f"select t.*, g.audience_subject_token from {T} inner join {G} on {KEY} where {PASSED}"
ALLOWED = f"allowed as (select * from {G} where {PASSED})"
TOTAL = "select audience_subject_token, sum(amount) as total from ({}) as x group by audience_subject_token"

# name: (wrong, right)
WAYS = {
    "the raw source, past everything": (
        "select subject_token, amount from lake.raw.transactions",
        f"select g.audience_subject_token, t.amount from lake.raw.transactions as t inner join {G} on {KEY} where {PASSED}",
    ),
    "a staging model, past the gate": (
        f"select sum(t.amount) as total, t.category from {T} group by t.category",
        f"select sum(amount) as total, category from ({GATED}) as x group by category",
    ),
    "the gate joined but its outcome not asked": (
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where g.purpose_role = 'audience'",
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where {PASSED}",
    ),
    "a left join on the gate": (
        f"select g.audience_subject_token, t.amount from {T} left join {G} on {KEY} and {PASSED}",
        f"select g.audience_subject_token, t.amount from {T} left join {G} on {KEY} where {PASSED}",
    ),
    "the gate of another purpose": (
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where g.purpose_role = 'risk' and g.gate_outcome = 'ALLOW'",
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where {PASSED}",
    ),
    "outcome and purpose of two different rows of the gate": (
        f"""select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY}
            inner join lake.consent.gate as h on g.subject_token = h.subject_token
            where g.purpose_role = 'audience' and h.gate_outcome = 'ALLOW'""",
        f"""select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY}
            inner join lake.consent.gate as h on g.subject_token = h.subject_token
            where g.purpose_role = 'audience' and g.gate_outcome = 'ALLOW'""",
    ),
    "the gate joined on the wrong key": (
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on t.counterparty_token = g.subject_token where {PASSED}",
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where {PASSED}",
    ),
    "the key made from another pseudonym": (
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on t.subject_token = g.risk_subject_token where {PASSED}",
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where {PASSED}",
    ),
    "OR true": (
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where {PASSED} or true",
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where {PASSED} and true",
    ),
    "an allowed value too many": (
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where g.purpose_role = 'audience' and g.gate_outcome in ('ALLOW', 'DEFAULT')",
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where g.purpose_role = 'audience' and g.gate_outcome in ('ALLOW')",
    ),
    "not blocked is not allowed": (
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where g.purpose_role = 'audience' and g.gate_outcome <> 'BLOCK'",
        f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where g.purpose_role = 'audience' and not g.gate_outcome <> 'ALLOW' and g.gate_outcome = 'ALLOW'",
    ),
    "an anti join": (
        f"select t.category, t.amount from {T} anti join {G} on {KEY} and {PASSED}",
        f"select t.category, t.amount from {T} semi join {G} on {KEY} and {PASSED}",
    ),
    "NOT IN": (
        f"select t.category from {T} where t.subject_token not in (select g.subject_token from {G} where {PASSED})",
        f"select t.category from {T} where t.subject_token in (select g.subject_token from {G} where {PASSED})",
    ),
    "EXISTS on ungated rows": (
        f"select g.audience_subject_token from {G} where {PASSED} and exists (select 1 from {T} where t.category = g.age_band)",
        f"select g.audience_subject_token from {G} where {PASSED} and exists (select 1 from {T} where {KEY})",
    ),
    "EXISTS that is always true": (
        f"select t.category from {T} where exists (select count(*) from {G} where {KEY} and {PASSED})",
        f"select t.category from {T} where exists (select 1 from {G} where {KEY} and {PASSED})",
    ),
    "a count over everybody in a sub-select": (
        f"select g.audience_subject_token, (select count(*) from {T}) as movements from {G} where {PASSED}",
        f"select g.audience_subject_token, (select count(*) from {T} where {KEY}) as movements from {G} where {PASSED}",
    ),
    "a share of everybody's total": (
        f"with {ALLOWED}, whole as (select sum(t.amount) as total from {T}) select a.audience_subject_token, t.amount / whole.total as share "
        f"from {T} inner join allowed as a on t.subject_token = a.subject_token cross join whole",
        f"with {ALLOWED}, mine as (select t.*, a.audience_subject_token from {T} inner join allowed as a on t.subject_token = a.subject_token), "
        "whole as (select sum(amount) as total from mine) select audience_subject_token, amount / whole.total as share from mine cross join whole",
    ),
    "a window over everybody before the gate": (
        f"with r as (select t.*, avg(t.amount) over () as mean from {T}) select g.audience_subject_token, r.mean from r inner join {G} on r.subject_token = g.subject_token where {PASSED}",
        f"with r as (select t.*, avg(t.amount) over (partition by t.subject_token) as mean from {T}) select g.audience_subject_token, r.mean from r inner join {G} on r.subject_token = g.subject_token where {PASSED}",
    ),
    "a rank among everybody": (
        f"with r as (select t.*, rank() over (order by t.amount desc) as place from {T}) select g.audience_subject_token, r.place from r inner join {G} on r.subject_token = g.subject_token where {PASSED}",
        f"select audience_subject_token, rank() over (order by amount desc) as place from ({GATED}) as x",
    ),
    "QUALIFY on a window over everybody": (
        f"with r as (select t.* from {T} qualify row_number() over (partition by t.category order by t.amount) = 1) select g.audience_subject_token, r.category from r inner join {G} on r.subject_token = g.subject_token where {PASSED}",
        f"with r as (select t.* from {T} qualify row_number() over (partition by t.subject_token order by t.amount) = 1) select g.audience_subject_token, r.category from r inner join {G} on r.subject_token = g.subject_token where {PASSED}",
    ),
    "gated and ungated rows in one union": (
        f"select audience_subject_token as token, amount from ({GATED}) as x union all select subject_token as token, amount from {T}",
        f"select audience_subject_token as token, amount from ({GATED}) as x union all select audience_subject_token as token, 0 as amount from {G} where g.purpose_role = 'audience'",
    ),
    "a default segment with ungated values": (
        f"select g.audience_subject_token, g.gate_reason, t.category from {G} inner join {T} on {KEY} where g.purpose_role = 'audience' and g.gate_outcome <> 'ALLOW'",
        f"select g.audience_subject_token, g.gate_reason from {G} where g.purpose_role = 'audience' and g.gate_outcome <> 'ALLOW'",
    ),
    "personal columns of the gate itself, of people not let through": (
        f"select g.audience_subject_token, g.age_band from {G} where g.purpose_role = 'audience'",
        f"select g.audience_subject_token, g.age_band from {G} where {PASSED}",
    ),
    "an aggregate before the gate, joined on what is not the subject": (
        f"with by_category as (select t.category, sum(t.amount) as total from {T} group by t.category) "
        f"select x.audience_subject_token, by_category.total from ({GATED}) as x inner join by_category on x.category = by_category.category",
        f"with mine as ({GATED}), by_category as (select category, sum(amount) as total from mine group by category) "
        "select mine.audience_subject_token, by_category.total from mine inner join by_category on mine.category = by_category.category",
    ),
    "a join whose key carries other people's data": (
        f"select x.audience_subject_token, count(*) as others from ({GATED}) as x inner join {T} on x.counterparty_token = t.subject_token group by all",
        f"select x.audience_subject_token, count(*) as others from ({GATED}) as x inner join ({GATED}) as y on x.counterparty_token = y.subject_token group by all",
    ),
    "LIMIT before the gate": (
        f"with top as (select * from {T} order by t.amount desc limit 100) select g.audience_subject_token, top.amount from top inner join {G} on top.subject_token = g.subject_token where {PASSED}",
        f"select audience_subject_token, amount from ({GATED}) as x order by amount desc limit 100",
    ),
    "DISTINCT over everybody": (
        f"with kinds as (select distinct t.category from {T}) select x.audience_subject_token, kinds.category from ({GATED}) as x cross join kinds",
        f"with mine as ({GATED}), kinds as (select distinct category from mine) select mine.audience_subject_token, kinds.category from mine cross join kinds",
    ),
    "CASE on the gate with ungated values in the other branch": (
        f"select g.audience_subject_token, case when g.gate_outcome = 'ALLOW' then 0 else t.amount end as amount from {G} left join {T} on {KEY} where g.purpose_role = 'audience'",
        f"select g.audience_subject_token, case when g.gate_outcome = 'ALLOW' then 0 else 1 end as amount from {G} where g.purpose_role = 'audience'",
    ),
    "a full join that brings the others back": (
        f"with {ALLOWED} select coalesce(a.subject_token, t.subject_token) as subject, t.amount from allowed as a full join {T} on a.subject_token = t.subject_token",
        f"with {ALLOWED}, mine as (select t.subject_token, t.amount from {T} inner join allowed on t.subject_token = allowed.subject_token), "
        "j as (select coalesce(a.subject_token, m.subject_token) as subject_token, a.audience_subject_token, m.amount from allowed as a full join mine as m on a.subject_token = m.subject_token) "
        "select audience_subject_token, amount from j",
    ),
    "a recursive query": (
        f"with recursive chain as (select t.subject_token, t.amount from {T} union all select chain.subject_token, 1 from chain) select amount from chain",
        f"with chain as ({GATED}) select audience_subject_token, amount from chain",
    ),
    "LATERAL": (
        f"select g.audience_subject_token, l.amount from {G}, lateral (select t.amount from {T} where t.category = g.age_band) as l where {PASSED}",
        f"select g.audience_subject_token, l.amount from {G} inner join (select t.subject_token, t.amount from {T}) as l on l.subject_token = g.subject_token where {PASSED}",
    ),
    "a star over an ungated join": (
        f"select * exclude (subject_token, counterparty_token) from {T} inner join lake.reference.categories using (category)",
        f"select x.* exclude (subject_token, counterparty_token) from ({GATED}) as x inner join lake.reference.categories as k on x.category = k.category",
    ),
    "a table function": ("select * from read_parquet('elsewhere.parquet')", "select category, weight from lake.reference.categories"),
    "a relation that the project does not know": (
        "select * from lake.elsewhere.scores",
        "select category, weight from lake.reference.categories",
    ),
    "another database": ("select * from vault.vault.persons", "select category, weight from lake.reference.categories"),
    "a file by its name": ("select * from 'elsewhere.csv'", "select category, weight from lake.reference.categories"),
    "time travel": (
        "select category from lake.reference.categories at (version => 3)",
        "select category from lake.reference.categories",
    ),
    "a function that the engine does not bring itself": (
        f"select my_macro(x.amount) as v from ({GATED}) as x",
        f"select abs(x.amount) as v from ({GATED}) as x",
    ),
    "a natural join": (
        f"select amount from ({GATED}) as x natural join lake.reference.categories",
        f"select x.amount from ({GATED}) as x inner join lake.reference.categories using (category)",
    ),
    "SQL that cannot be read": ("selec amount frm", TOTAL.format(GATED)),
    "fields of structs made of everybody's rows": (
        f"with l as (select list({{'amount': t.amount}}) as items from {T}) select list_filter(items, lambda item: item.amount > 5) as big from l",
        f"with l as (select audience_subject_token, list({{'amount': amount}}) as items from ({GATED}) as x group by all) "
        "select audience_subject_token, list_filter(items, lambda item: item.amount > 5) as big from l",
    ),
    "HAVING over everybody": (
        f"select t.category from {T} group by t.category having count(distinct t.subject_token) > 10",
        f"select x.category from ({GATED}) as x group by x.category having count(distinct x.subject_token) > 10",
    ),
    "ORDER of everybody in a list": (
        f"select list(t.amount order by t.amount) as amounts from {T}",
        f"select audience_subject_token, list(amount order by amount) as amounts from ({GATED}) as x group by all",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_round_the_gate_is_caught_and_its_corrected_twin_passes(way):
    wrong, right = WAYS[way]
    caught = proof_of(audience(wrong))
    assert not caught.holds
    assert {one.rule for one in caught.violations} & {"gate", "understood"}
    assert all(one.relation == "audience.members" and one.path for one in caught.violations)
    assert [str(one) for one in proof_of(audience(right)).violations] == []


def test_a_violation_prints_the_whole_path_from_the_source():
    nodes = [
        node("features", "spending", f"select t.subject_token, sum(t.amount) as total from {T} group by t.subject_token", "audience"),
        *audience("select s.total from lake.features.spending as s"),
    ]
    found = [str(one) for one in proof_of(nodes).violations if one.relation == "audience.members"]
    assert len(found) == 1
    assert found[0].startswith("gate: raw.transactions -> staging.transactions -> features.spending -> audience.members:")


def test_data_mixed_before_the_gate_is_not_cleared_by_a_later_gate_and_own_data_is():
    """The two labels: a sum per subject waits for the gate, a mean over everybody is spoilt for good."""

    def feature(expression: str) -> list[dict]:
        return [
            node("staging", "measures", f"select t.subject_token, {expression} as v from {T}"),
            *audience(f"select g.audience_subject_token, m.v from lake.staging.measures as m inner join {G} on m.subject_token = g.subject_token where {PASSED}"),
        ]

    assert proof_of(feature("sum(t.amount) over (partition by t.subject_token)")).holds
    spoilt = proof_of(feature("t.amount / avg(t.amount) over ()"))
    assert "a window over several subjects" in str(spoilt.violations[0])


def test_the_compliance_side_does_not_reach_marketing_under_any_name():
    """Wall 2: data processed against money laundering serve that alone, consent or not (Regulation (EU) 2024/1624 art 76)."""
    incidents = f"select g.audience_subject_token, i.severity as mood from lake.staging.incidents as i inner join {G} on i.subject_token = g.subject_token where {PASSED}"
    filtered = f"select g.audience_subject_token from {G} where {PASSED} and g.subject_token in (select i.subject_token from lake.staging.incidents as i)"
    screened = f"select g.audience_subject_token, coalesce(c.is_pep, false) as vip from {C} inner join {G} on c.subject_token = g.subject_token where {PASSED}"
    for wrong in (incidents, filtered, screened):
        assert {one.rule for one in proof_of(audience(wrong)).violations} == {"wall"}
    right = f"select g.audience_subject_token, c.customer_type as kind from {C} inner join {G} on c.subject_token = g.subject_token where {PASSED}"
    assert proof_of(audience(right)).holds


def test_a_rating_reaches_marketing_neither_as_a_value_nor_as_a_filter():
    ratings = node("risk", "ratings", "select g.risk_subject_token, g.subject_token as s, 'high' as tier from lake.consent.gate as g where g.purpose_role = 'risk' and g.gate_outcome = 'ALLOW'")
    for use in ("r.tier", "g.jurisdiction"):
        sql = f"select g.audience_subject_token, {use} as v from {G} inner join lake.risk.ratings as r on g.risk_subject_token = r.risk_subject_token where {PASSED}"
        found = [one for one in proof_of([ratings, *audience(sql)]).violations if one.relation == "audience.members"]
        assert [one.rule for one in found] == ["wall"]
        assert found[0].path[0] == "risk.ratings"


def test_an_identifier_is_caught_behind_concat_and_hash():
    """Were a contract changed to land the address, no function of it may go anywhere."""
    from orchestration.ingestion.contracts import Contract, load_contracts

    contracts = dict(load_contracts())
    landed = contracts["customers"]
    columns = tuple(c.model_copy(update={"identifier": False}) if c.name == "email" else c for c in landed.columns)
    contracts["customers"] = Contract(**{**landed.model_dump(), "columns": columns})
    sql = f"select g.audience_subject_token, md5(concat('x', lower(c.email))) as h from {C} inner join {G} on c.subject_token = g.subject_token where {PASSED}"
    found = proof_of(audience(sql), contracts=contracts).violations
    assert ("vault", "audience.members", "raw.customers.email") in {one.case for one in found}
    clean = proof_of(audience(sql.replace("c.email", "c.industry")))
    assert clean.holds


def test_a_column_declared_as_an_identifier_is_caught_where_it_is_declared():
    wrong = audience(f"select audience_subject_token, category as full_name from ({GATED}) as x", columns={})
    wrong[0]["columns"] = {"full_name": {"config": {"meta": {"category": "user.name"}}}}
    assert [one.rule for one in proof_of(wrong).violations] == ["vault"]


@pytest.mark.parametrize("token", ["subject_token", "risk_subject_token", "counterparty_token"])
def test_another_zones_pseudonym_is_caught_even_when_hashed(token):
    """Two publications that share a pseudonym can be joined: the wall would be a matter of discipline."""
    table = "x" if token != "risk_subject_token" else "g"
    sql = f"select md5({table}.{token} || 'salt') as id from ({GATED}) as x inner join {G} on x.subject_token = g.subject_token where {PASSED}"
    assert [one.rule for one in proof_of(audience(sql)).violations] == ["vault"]
    right = f"select md5(x.audience_subject_token || 'salt') as id from ({GATED}) as x"
    assert proof_of(audience(right)).holds


def test_values_smuggled_in_through_a_seed_are_a_source_like_any_other():
    """A seed that names subjects holds their data; nobody's gate was asked when it was written."""
    seed = node("reference", "vip", kind="seed", columns={"subject_token": None, "score": None})
    wrong = "select v.subject_token as t, v.score from lake.reference.vip as v"
    right = f"select g.audience_subject_token, v.score from lake.reference.vip as v inner join {G} on v.subject_token = g.subject_token where {PASSED}"
    assert ("gate", "audience.members", "reference.vip") in {one.case for one in proof_of([seed, *audience(wrong)]).violations}
    assert proof_of([seed, *audience(right)]).holds
    personal = node("reference", "vip", kind="seed", columns={"name_of_firm": "user.account"})
    assert not proof_of([personal, *audience("select name_of_firm from lake.reference.vip")]).holds


def test_a_hard_coded_name_is_followed_though_dbt_does_not_know_of_it():
    """`ref()` is a convention; the SQL that runs is what counts."""
    assert not proof_of(audience("select category from lake.staging.transactions")).holds


@pytest.mark.parametrize(
    "config", [{"materialized": "incremental"}, {"pre-hook": [{"sql": "x"}]}, {"post-hook": [{"sql": "insert"}]}]
)
def test_models_whose_content_their_sql_does_not_determine_are_refused(config):
    assert [one.rule for one in proof_of(audience(GATED.replace("t.*, ", ""), **config)).violations] == ["understood"]


def test_a_model_that_reads_itself_or_a_snapshot_is_refused():
    looped = [node("staging", "a", "select * from lake.staging.b"), node("staging", "b", "select * from lake.staging.a")]
    assert {one.rule for one in proof_of([*looped, *audience("select * from lake.staging.a")]).violations} == {"understood"}
    snapshot = node("staging", "history", kind="snapshot")
    assert {one.rule for one in proof_of([snapshot, *audience("select * from lake.staging.history")]).violations} == {"understood"}


def test_every_relation_of_a_proven_zone_declares_a_role_and_every_zone_is_known():
    assert [one.rule for one in proof_of([node("features", "x", "select 1 as one")]).violations] == ["declared"]
    assert [one.rule for one in proof_of([node("features", "x", "select 1 as one", "sales")]).violations] == ["declared"]
    assert proof_of([node("features", "x", "select 1 as one", "audience")]).holds
    assert [one.rule for one in proof_of([node("elsewhere", "x", "select 1 as one")]).violations] == ["declared"]


PUBLISHED = f"select g.audience_subject_token as subject_token, {EVIDENCE} from {G} where {PASSED}"


def test_published_subjects_carry_the_evidence_as_it_stands_at_the_gate():
    assert proof_of([node("candidate", "s", PUBLISHED, "audience")]).holds
    for wrong in (
        PUBLISHED.replace("g.legal_basis, ", ""),
        PUBLISHED.replace("g.legal_basis", "'consent' as legal_basis"),
        PUBLISHED.replace("g.gate_reason", "coalesce(g.gate_reason, 'granted') as gate_reason"),
        PUBLISHED + " union all " + PUBLISHED.replace("g.consent_event_id", "null as consent_event_id"),
    ):
        found = proof_of([node("candidate", "s", wrong, "audience")]).violations
        assert [one.rule for one in found] == ["evidence"], wrong


def test_a_publication_without_any_person_needs_no_evidence_and_one_of_role_none_takes_no_person():
    rules = node("candidate", "r", "select category, weight from lake.reference.categories", "risk")
    assert proof_of([rules]).holds
    counts = "select g.gate_reason, count(*) as n from lake.consent.gate as g where g.gate_outcome = 'BLOCK' group by all"
    assert proof_of([node("candidate", "c", counts, "none")]).holds
    ages = f"select g.age_band, count(*) as n from {G} where {PASSED} group by all"
    assert [one.rule for one in proof_of([node("candidate", "c", ages, "none")]).violations] == ["gate"]


def test_the_gates_answer_about_a_person_rests_on_that_person_alone():
    """A gate that looks at others would carry their data to every publication."""
    wrong = node(
        "consent", "gate", f"select s.*, count(*) over () as crowd from ({GATE_SQL}) as s", columns=dict.fromkeys(GATE_COLUMNS)
    )
    assert "own-gate" in {one.rule for one in proof_of([wrong]).violations}


def test_python_steps_are_read_through_dagsters_graph():
    """What Python makes may hold whatever it reads; what nobody declares cannot be read."""
    from orchestration.lineage.project import PythonStep

    source = {"schema": "audience", "name": "clusters", "identifier": "clusters", "description": "", "config": {"meta": {}},
              "columns": {"audience_subject_token": {}, "cluster": {}}}  # fmt: skip
    features = node("features", "f", f"select g.audience_subject_token, t.amount from {T} inner join {G} on {KEY} where {PASSED}", "audience")
    raw = {"audience.clusters": PythonStep(("staging.transactions",))}
    gated = {"audience.clusters": PythonStep(("features.f",))}
    assert {one.rule for one in proof_of([features], sources=[source], steps=raw).violations} == {"gate"}
    assert proof_of([features], sources=[source], steps=gated).holds
    assert {one.rule for one in proof_of([features], sources=[source]).violations} == {"understood"}


def waiver(**changes):
    from orchestration.lineage.waivers import Waiver

    given = {
        "rule": "gate", "relation": "audience.members", "source": "raw.transactions", "reviewer": "privacy@example.org",
        "reason": "A published national statistic, agreed with the officer.", "reviewed": date(2026, 1, 1), "expires": date(2026, 6, 1),
    }  # fmt: skip
    return Waiver(**{**given, **changes})


def test_a_waiver_covers_its_case_until_it_expires_and_an_unused_one_is_a_violation():
    wrong = audience(f"select sum(t.amount) as total from {T}")
    assert proof_of(wrong, [waiver()], date(2026, 3, 1)).holds
    assert len(proof_of(wrong, [waiver()], date(2026, 3, 1)).waived) == 1
    for day in (date(2025, 12, 31), date(2026, 6, 1)):
        assert {one.rule for one in proof_of(wrong, [waiver()], day).violations} == {"gate", "waiver"}
    unused = proof_of(audience("select weight from lake.reference.categories"), [waiver()], date(2026, 3, 1))
    assert [one.rule for one in unused.violations] == ["waiver"]


def test_a_waiver_reaches_no_other_source_relation_or_rule():
    wrong = audience(f"select sum(t.amount) as total from {T}")
    for other in ({"source": "raw.web_events"}, {"relation": "audience.others"}, {"rule": "wall"}):
        found = proof_of(wrong, [waiver(**other)], date(2026, 3, 1))
        assert {one.rule for one in found.violations} == {"gate", "waiver"}


def test_a_waived_relation_does_not_accuse_those_that_read_it():
    nodes = [node("features", "mean", f"select avg(t.amount) as mean from {T}", "audience"), *audience("select mean from lake.features.mean")]
    assert not proof_of(nodes).holds
    assert proof_of(nodes, [waiver(relation="features.mean")], date(2026, 3, 1)).holds
