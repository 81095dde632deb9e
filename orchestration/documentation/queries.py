"""The questions that the documentation asks the store: each with a name, what it counts, and its SQL.

The SQL stands on the site beside the figures, in the form that `segline query` takes. Every question is an aggregate or reads
a register that holds no person: no row of a person and no pseudonym leaves the store through it.

Belongs here: the questions. Does not belong here: asking them (`gathering`), showing the answers (`pages`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """One question: `name` is its address on the site, `what` says in plain words what the answer means."""

    name: str
    what: str
    sql: str


# The gate also decides about control persons that no tenant has (`orchestration.rights.canary`); only who is published counts.
_PUBLISHED_PEOPLE = "semi join published.risk_segments as people on people.subject_token = {alias}.risk_subject_token"
_RUN = "(select run_id from published.publication)"
_PROFILE = "(select profile from published.publication)"

QUERIES: tuple[Query, ...] = (
    Query(
        "publication",
        "What stands published: the run, the tenant's profile, the instant it speaks of, and when it was published (UTC).",
        "select run_id, profile, as_of, published_at from published.publication",
    ),
    Query(
        "relations",
        "Rows of each published relation, as the publication recorded them.",
        f"select relation, row_count from ops.publications where run_id = {_RUN} order by relation",
    ),
    Query(
        "publications",
        "The last publications, newest first.",
        "select run_id, profile, as_of, published_at, sum(row_count) as row_count from ops.publications\n"
        "group by run_id, profile, as_of, published_at order by published_at desc limit 20",
    ),
    Query("subjects", "Customers in the publication.", "select count(*) as customers from published.risk_segments"),
    Query(
        "tiers",
        "Customers per risk segment, with the cause that the gate recorded.",
        "select segment, gate_reason, count(*) as customers from published.risk_segments\n"
        "group by segment, gate_reason order by customers desc, segment, gate_reason",
    ),
    Query(
        "rated",
        "Customers whom the gate allowed to be rated, so that the rules could reach them.",
        "select count(*) as customers from published.risk_segments where tier is not null",
    ),
    Query(
        "audiences",
        "Customers per audience segment, with the cause that the gate recorded.",
        "select segment_family, segment, gate_reason, count(*) as customers from published.audience_segments\n"
        "group by segment_family, segment, gate_reason order by segment_family, customers desc, segment, gate_reason",
    ),
    Query(
        "defaults",
        "Causes of the default segment: why the gate did not allow a purpose, per segment family.",
        "select segment_family, gate_reason, count(*) as customers from published.audience_segments\n"
        "where segment = 'default' group by segment_family, gate_reason\n"
        "union all\n"
        "select 'risk', gate_reason, count(*) from published.risk_segments where tier is null group by gate_reason\n"
        "order by segment_family, customers desc, gate_reason",
    ),
    Query(
        "excluded",
        "People whom the gate blocks: they are in no published relation, only counted.",
        "select zone, purpose, gate_reason, subject_count from published.excluded_subjects order by all",
    ),
    Query(
        "reconciliation",
        "Per feed of the delivery: rows in the file = excluded + kept + duplicates + quarantined.",
        "select feed, entity, rows_in_file, rows_excluded, rows_kept, duplicates, quarantined from ops.reconciliation\n"
        f"where run_id = {_RUN} order by feed",
    ),
    Query(
        "quarantine",
        "Rows that broke their contract and were set aside, by cause.",
        f"select feed, reason, count(*) as row_count from ops.quarantine where run_id = {_RUN}\n"
        "group by feed, reason order by feed, row_count desc, reason",
    ),
    Query(
        "rules",
        "The rule register as it stood when the publication ran; a rule is in force on the day that the publication speaks of.",
        "select rule_id, version, factor, name, rule_text, predicate, points, floor_tier, owner, rationale, legal_reference,\n"
        "  cast(valid_from as date) as valid_from, cast(valid_to as date) as valid_to, approved_by, rule_set_version,\n"
        "  valid_from <= cast(as_of as date) and (valid_to is null or valid_to > cast(as_of as date)) as is_in_force\n"
        "from published.risk_rules cross join published.publication order by rule_id, version",
    ),
    Query(
        "rule_hits",
        "Customers per rule: how many have the rule among the reasons of their tier.",
        "with fired as (\n"
        "  select unnest(string_split(reason_codes, ',')) as rule_id from published.risk_segments where tier is not null\n"
        ")\n"
        "select rule_id, count(*) as customers from fired where rule_id <> '' group by rule_id order by rule_id",
    ),
    Query(
        "risk_tiers",
        "From how many points on a tier holds, and after how many months a rating is looked at again.",
        "select tier, min_points, review_months from policy.risk_tiers order by min_points nulls last",
    ),
    Query(
        "purposes",
        "The purposes that the profile declares, with their legal basis and mode.",
        "select purpose, role, mode, legal_basis, reads_signals, reads_gpc, needs_explicit_grant, legal_reference, note\n"
        f"from policy.profile_purposes where profile = {_PROFILE} and is_declared order by purpose",
    ),
    Query(
        "packs",
        "Which laws the profile has in force.",
        f"select pack, is_in_force, note from policy.profile_packs where profile = {_PROFILE} order by pack",
    ),
    Query(
        "policy_versions",
        "Versions of the consent policy, with who signed them.",
        "select version, valid_from, signed_by, change, fingerprint from policy.policy_versions order by valid_from, version",
    ),
    Query(
        "policy",
        "The decision table for the declared purposes: what each signal leads to, strict and by statute.",
        "select purpose, jurisdiction, age_band, signal, strict, statutory, reference, confidence\n"
        "from policy.consent_decision_table where purpose in (\n"
        f"  select purpose from policy.profile_purposes where profile = {_PROFILE} and is_declared\n"
        ") order by purpose, jurisdiction, age_band, signal",
    ),
    Query(
        "consent_states",
        "What stands on record per purpose: people by the state of their will.",
        "select gate.purpose, gate.consent_status, count(*) as customers from consent.gate as gate\n"
        f"{_PUBLISHED_PEOPLE.format(alias='gate')}\n"
        "group by gate.purpose, gate.consent_status order by gate.purpose, gate.consent_status",
    ),
    Query(
        "gate",
        "The gate's answers: people per purpose, outcome and cause.",
        "select gate.purpose, gate.gate_outcome, gate.gate_reason, gate.legal_basis, count(*) as customers\n"
        f"from consent.gate as gate {_PUBLISHED_PEOPLE.format(alias='gate')}\n"
        "group by all order by gate.purpose, gate.gate_outcome, customers desc, gate.gate_reason",
    ),
    Query(
        "ages",
        "People per age band and jurisdiction, as the gate saw them.",
        "select gate.jurisdiction, gate.age_band, count(distinct gate.risk_subject_token) as customers\n"
        f"from consent.gate as gate {_PUBLISHED_PEOPLE.format(alias='gate')}\n"
        "group by gate.jurisdiction, gate.age_band\n"
        "order by gate.jurisdiction, case gate.age_band when '<13' then 0 when 'unknown' then 2 else 1 end, gate.age_band",
    ),
    Query(
        "retention",
        "Last report of the retention job: rows per relation, due and removed.",
        "select relation, rules, rows_total, rows_due, rows_held, rows_removed from ops.retention_report\n"
        "where reported_at = (select max(reported_at) from ops.retention_report) order by relation",
    ),
    Query(
        "opt_outs",
        "Opt-outs put into force so far, and the longest time from arrival until then (seconds).",
        "select count(*) as opt_outs, max(seconds) as longest_seconds from ops.opt_out_applications",
    ),
    Query(
        "model_status",
        "Whether a score stands beside the rules, and if not, why.",
        "select status, reason from risk.score_model",
    ),
    Query(
        "scores",
        "People who carry a score.",
        "select count(*) as customers from published.risk_scores where score is not null",
    ),
    Query(
        "clusters",
        "Marketing clusters with their size and what stands out, or why there are none.",
        "select cluster_id, cluster_name, profile, state, state_reason, clustering_version, fitted_as_of, fitted_count,\n"
        "subject_count, outlier_count from published.cluster_profiles order by cluster_id",
    ),
    Query(
        "ledger_head",
        "The newest signed heads of the decision ledger.",
        "select tree_size, note, run_id, made_at from ops.ledger_checkpoints order by tree_size desc limit 10",
    ),
    Query(
        "ledger_anchors",
        "Which head was handed to whom, outside the operator's reach.",
        "select target, max(tree_size) as tree_size, max(anchored_at) as anchored_at from ops.ledger_anchors\n"
        "group by target order by target",
    ),
    Query(
        "ledger_runs",
        "What each run entered into the ledger: totals per segment family, no row of a person.",
        "select statement from ops.ledger_statements where kind = 'run' order by leaf_index",
    ),
)
