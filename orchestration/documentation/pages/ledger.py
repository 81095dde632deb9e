"""The decision ledger: its head, and how an outsider verifies it.

Belongs here: the page as text. Does not belong here: the ledger (`orchestration.ledger`).
"""

from orchestration.documentation.facts import Facts, LedgerRun
from orchestration.documentation.writing import block, code, figure, source_link, table, text

OPERATOR = """segline verify                                   # every row, tree, signature, total; exit 1 if anything is found
segline ledger key > segline.vkey                # the public key
segline ledger export --out DIR                  # the files for an outsider"""
OUTSIDER = """python3 segline_verify.py DIR --public-key segline.vkey
python3 segline_verify.py DIR --public-key segline.vkey --anchor head.checkpoint    # compares with the head above
python3 segline_verify.py --proof proof.json --public-key segline.vkey              # one decision alone"""

ANCHORS = ("target", "newest head (leaves)", "sent (UTC)")
TOTALS = ("new", "changed", "unchanged", "departed")
RUNS = ("run", "as of", "decided (UTC)", "family", *TOTALS, "customers")


def page(facts: Facts) -> str:
    """Head, verification, runs, anchors."""
    head = facts.head
    if head is None:
        why = facts.missing.get("ledger_head", "the ledger begins with the first publication")
        return f"# Decision ledger\n\nThere is no head to show: {text(why)}. {source_link('ledger_head')}\n"
    made = f"{head.made_at:%Y-%m-%d %H:%M}"
    parts = (("log", head.origin), ("leaves", head.size), ("root (SHA-256, hex)", head.root), ("key id", head.key_id))
    rows = [row for run in reversed(facts.ledger_runs) for row in _totals(run)]
    return f"""# Decision ledger

Every decision is a row of the ledger; its newest head was signed {figure(made, "ledger_head")} UTC over
{figure(head.size, "ledger_head")} leaves. History up to a head that somebody outside the operator's reach holds cannot be
changed, shortened or written anew without being found.

{table(("part", "value"), [(name, code(value)) for name, value in parts], "ledger_head", "Head")}

The head as it was signed. Keep it (as *head.checkpoint*) with today's date, and you can prove later what stood today:

{block(head.note)} {source_link("ledger_head")}

## To verify as an outsider

**First**, get the verifier *tools/segline_verify.py* and the public key from somebody else than the operator. The verifier is
one file, needs Python and the package *cryptography*, and shares no code with the program that writes. Read it; it is short.

**Second**, compare the key's id: the second part of the key file must read {code(head.key_id)}, as the head above does.

**Third**, let the operator make an export:

{block(OPERATOR)}

**Fourth**, verify it on your own machine:

{block(OUTSIDER)}

It ends with exit code 0 and says what it compared, or names each row that was changed, moved, added or taken out. What this
proves and what it does not is set out in *docs/ledger.md* of the program: history up to the last head held elsewhere, no more.

## Heads held elsewhere

{table(ANCHORS, facts.table("ledger_anchors").rows, "ledger_anchors", "Anchors")}
{_warning(facts)}

## Runs

{table(RUNS, rows, "ledger_runs", "What each run entered")}
"""


def _warning(facts: Facts) -> str:
    if facts.table("ledger_anchors").rows:
        return ""
    return (
        "**No head is held elsewhere**: a ledger cut short, or written anew with its key, would look like this one. "
        "Configure an anchor."
    )


def _totals(run: LedgerRun) -> list[tuple]:
    return [
        (run.run_id, run.as_of, run.decided_at, family, *(total[key] for key in TOTALS), run.book)
        for family, total in sorted(run.families.items())
    ]
