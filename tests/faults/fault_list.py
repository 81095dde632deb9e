"""The list of faults, in chains: what is done, and what must come of it.

Belongs here: data. Does not belong here: doing (`injecting`), judging (`harness`).
"""

import signal

from tests.faults.harness import BEFORE_OR_REFUSED, EITHER, OWN, UNREADABLE, Fault
from tests.faults.injecting import (
    Changed,
    Clock,
    Damage,
    FullDisk,
    Held,
    Interrupt,
    Kill,
    KillAtWords,
    Orphaned,
    Tamper,
    TwoAtOnce,
    more_room,
    restore,
)

LAKE, WAL = "lake/catalog.sqlite", "lake/catalog.sqlite-wal"
KILLED = "signal=SIGKILL"
LAKE_BACK = restore("lake")

# Steps that read and check: before each of them stands what the one before it left.
CHECKS = (
    "audience__cluster_model",
    "risk__cluster_model",
    "risk__score_model",
    "landing_expectations",
    "raw__customers_nothing_delivered_is_older_than_policy",
    "clusters_fit_the_book",
    "data_map",
    "decisions_expectations",
    "features_expectations",
    "gate_expectations",
    "lineage_proof",
    "scores_are_watched",
    "candidate__risk_segments_replayed_decisions_agree",
    "candidate__risk_segments_online_decides_as_the_batch",
)
BEFORE_DBT_AND_PUBLICATION = ("landing", "transformation", "canary", "publication")  # steps that write, and what follows dbt
AFTER = (
    "ops__decisions_newest_entry_verifies",
    "ops__lineage_events",
    "ops__ledger_anchors",
    "ops__ledger_anchors_no_anchor_is_overdue",
    "ops__role_bundles",
    "ops__documentation",
)

KILLS = (
    Fault("killed before the first step", KillAtWords("starting Dagster", 4)),
    Fault("killed as landing begins", Kill("landing")),
    Fault("killed while files are landed", KillAtWords("landing customers")),
    *(Fault(f"killed as {step} begins", Kill(step)) for step in BEFORE_DBT_AND_PUBLICATION[1:]),
    *(Fault(f"killed as {step} begins", Kill(step)) for step in CHECKS),
    Fault("killed in the middle of dbt", KillAtWords("rating with dbt", 8)),
    Fault("terminated during dbt", Interrupt("transformation", signal.SIGTERM, 6), code=None),
    Fault("Ctrl-C during dbt", Interrupt("transformation", signal.SIGINT, 6), code=None),
    Fault("only the run's own process killed during dbt, the next run at once", Orphaned(), code=0, sees=OWN),
)
KILLS_LATE = (
    Fault("Ctrl-C as the publication begins", Interrupt("publication", signal.SIGINT), code=None, sees=EITHER),
    *(Fault(f"killed as {step} begins", Kill(step), sees=OWN) for step in AFTER),
    Fault("killed after the last step", Kill("ops__documentation", "STEP_SUCCESS"), sees=OWN),
)


def inside(name: str, step: str, file: str, call: str, when: str, effect: str, **expected) -> Fault:
    """A fault at a system call on a file of the home."""
    return Fault(name, Tamper(step, file, call, when, effect), needs="strace", **expected)


COMMITS = (
    # In this order: what the first leaves undone, the second does.
    inside("killed inside the commit of the persons' keys", "landing", "vault/keys.sqlite-wal", "write", "3", KILLED),
    inside("killed inside the vault's commit", "landing", "vault/catalog.sqlite-wal", "write", "5", KILLED),
    inside("killed inside the landing's commit", "landing", WAL, "write", "30", KILLED),
    inside("killed inside the publication's commit", "publication", WAL, "write", "30", KILLED),
    inside("killed as the publication's commit is made durable", "publication", WAL, "fsync", "2", KILLED, sees=EITHER),
    inside("killed as the committed catalogue is folded back", "publication", LAKE, "write", "10", KILLED, sees=OWN),
    inside("disk full inside the publication's commit", "publication", WAL, "write", "30+", "error=ENOSPC", code=1),
    inside("the disk fails inside the publication's commit", "publication", WAL, "fsync", "2", "error=EIO", code=None, sees=EITHER),
    inside("the disk fails after the publication's commit", "publication", LAKE, "write", "10+", "error=EIO", code=None, sees=OWN),
)

DISKS = tuple(
    Fault(
        f"{free} MB left on the disk", FullDisk(free), code=1, says=("The disk is full",), mend=more_room, own_volume=True,
        sees=BEFORE_OR_REFUSED,
        needs="mount", verifies="No space left on device",  # a reading that cannot be logged does not take place
    )
    for free in (0, 1, 3, 6, 10)
)

DAMAGE = (
    Fault("a bit of a published file", Damage("lake/data/published/risk_segments/*.parquet", "flip"), code=0, sees=OWN),
    Fault("a raw file is gone", Damage("lake/data/raw/customers/*.parquet", "gone"), code=0, sees=OWN),
    Fault("a bit of the decisions' file", Damage("lake/data/ops/decision_payloads/*.parquet", "flip"), code=1, mend=LAKE_BACK,
          says=("backup",), verifies="decision_payloads"),
    Fault("the leaves' file cut short", Damage("lake/data/ops/ledger_leaves/*.parquet", "cut"), code=1, mend=LAKE_BACK,
          says=("backup",), verifies="ledger_leaves"),
    Fault("the decisions' inputs are gone", Damage("lake/data/ops/decision_inputs/*.parquet", "gone"), code=1, mend=LAKE_BACK,
          says=("backup",), verifies="decision_inputs"),
    Fault("the catalogue is garbage", Damage(LAKE, "garbage"), code=1, sees=UNREADABLE, verifies="backup", says=("backup",), mend=LAKE_BACK),
    Fault("the catalogue is cut short", Damage(LAKE, "cut"), code=1, sees=UNREADABLE, verifies="backup", says=("backup",), mend=LAKE_BACK),
    Fault("the catalogue is empty", Damage(LAKE, "empty"), code=1, sees=UNREADABLE, verifies="backup", says=("backup",), mend=LAKE_BACK),
    Fault("the catalogue is gone", Damage(LAKE, "gone"), code=1, sees=UNREADABLE, verifies="backup", says=("backup",), mend=LAKE_BACK),
    Fault("a bit of each of the catalogue's pages", Damage(LAKE, "pages"), code=1, sees=UNREADABLE, verifies="backup", says=("backup",), mend=LAKE_BACK),
    Fault("the vault's catalogue is garbage", Damage("vault/catalog.sqlite", "garbage"), code=1, says=("backup",), mend=restore("vault")),
    Fault("the persons' keys are garbage", Damage("vault/keys.sqlite", "garbage"), code=1, says=("backup",), mend=restore("vault")),
    Fault("the master keys are gone", Damage("keys/segline.keys", "gone"), code=1, says=("backup",), mend=restore("keys")),
    Fault("the ledger's key is gone", Damage("keys/ledger.key", "gone"), code=1, says=("backup",), verifies="backup", mend=restore("keys")),
    Fault("Dagster's list of runs is garbage", Damage("dagster/history/runs.db", "garbage"), code=1, says=("Dagster's record",),
          mend=restore("dagster")),
    Fault("dbt's manifest is cut short", Damage("dbt/target/manifest.json", "cut"), code=0, sees=OWN),
    Fault("dbt's cache is garbage", Damage("dbt/target/partial_parse.msgpack", "garbage"), code=0, sees=OWN),
)

LEDGER = (
    Fault("a decision on record is changed", Changed("update lake.ops.decision_payloads set segment = 'x' where leaf_index = 7"),
          code=None, sees=EITHER, verifies="leaf 7: the row was changed", mend=LAKE_BACK),
    Fault("a leaf is taken out", Changed("delete from lake.ops.ledger_leaves where leaf_index = 9"), code=1,
          verifies="leaf 9 is missing", mend=LAKE_BACK),
    Fault("the newest leaves are cut off", Changed("delete from lake.ops.ledger_leaves where leaf_index > 20"), code=1,
          says=("segline verify",), verifies="missing", mend=LAKE_BACK),
    Fault("the checkpoint is gone", Changed("delete from lake.ops.ledger_checkpoints"), code=1,
          says=("segline verify",), verifies="checkpoint", mend=LAKE_BACK),
)  # fmt: skip

LOCKS = (
    Fault("another run holds the home", Held("run.lock", "flock"), code=5, says=("SEGLINE_LOCK_WAIT_SECONDS",)),
    Fault("another process has the store for itself", Held("store.turn", "flock"), code=5, says=("SEGLINE_LOCK_WAIT_SECONDS",)),
    Fault("another program writes to the catalogue", Held(LAKE, "write"), code=5, says=("lock",)),
    Fault("a reader keeps a transaction open", Held(LAKE, "read"), code=0, sees=OWN),
    Fault("two runs at once", TwoAtOnce(), code=5, sees=OWN),
)

CLOCKS = (
    Fault("the clock is two hours behind", Clock("-2h"), code=0, sees=OWN, needs="libfaketime"),
    Fault("the clock is thirty days ahead", Clock("+30d"), code=0, sees=OWN, needs="libfaketime"),
    Fault("the clock goes back three hours during the run", Clock("+0", "-3h"), code=0, sees=OWN, needs="libfaketime"),
    Fault("the clock is four years behind", Clock("-1460d"), code=4, says=("every_path_passes_the_gate",), needs="libfaketime"),
)

CHAINS = {
    "killed before the publication": KILLS,
    "killed at the publication and after it": KILLS_LATE,
    "inside commits": COMMITS,
    "full disks": DISKS,
    "damaged files": DAMAGE,
    "a changed ledger": LEDGER,
    "held locks": LOCKS,
    "wrong clocks": CLOCKS,
}
