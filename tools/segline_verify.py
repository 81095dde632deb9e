#!/usr/bin/env python3
"""Verify an export of a Segline ledger, or a single proof, with nothing but this file and the ledger's public key.

    python3 segline_verify.py EXPORT --public-key FILE [--anchor FILE ...] [--earlier EXPORT]
    python3 segline_verify.py --proof FILE --public-key FILE

EXPORT is a folder that `segline ledger export` wrote. --public-key is the verifier key (one line, name+id+base64) that you got
by another way than the export. --anchor is a checkpoint that you received before, by mail say: the export must begin with
that very ledger. --earlier is an export that you kept: changed leaves are then named one by one. --proof is a file from
`segline ledger prove` or `segline ledger consistency`.

The ledger's signing key may have been changed: a statement in the ledger then names the old key and the new one, and both signed
the checkpoint that ends with it. Any one key of that chain will do as --public-key; a key that no such change leads to counts for
nothing.

Exit code 0: all is as it was signed. 1: something is not, and it is named. 2: called wrongly.

Needs Python 3.10 and the package `cryptography` (for Ed25519). Shares no code with the program that writes ledgers; the form is
in docs/ledger.md. RFC 6962 (trees), c2sp.org/tlog-checkpoint and c2sp.org/signed-note (checkpoints).
"""

import argparse
import base64
import json
import sys
from collections import Counter
from contextlib import ExitStack
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

MAX_NAMED = 200


class Refused(Exception):
    """Something is not what it should be; the text says what."""


# --- signed notes ---


def read_key(path):
    """(name, key id, 32 bytes) of a verifier key file."""
    return parse_key(Path(path).read_text(encoding="utf-8").strip(), path)


def parse_key(line, path):
    """The same of its line; `path` is where it stands."""
    try:
        name, key_id, rest = line.split("+", 2)
        raw = base64.b64decode(rest, validate=True)
    except ValueError:
        raise Refused(f"{path} is no verifier key (name+id+base64)") from None
    if len(raw) != 33 or raw[0] != 1:
        raise Refused(f"{path} holds no Ed25519 key")
    if sha256(name.encode() + b"\n" + raw).digest()[:4].hex() != key_id:
        raise Refused(f"{path}: the key id does not belong to the key")
    return name, bytes.fromhex(key_id), raw[1:]


def open_checkpoint(note, key):
    """(size, root) of a checkpoint that the key signed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    name, key_id, public = key
    signed, blank, rest = note.rpartition("\n\n")
    lines = signed.split("\n")
    if not blank or len(lines) < 3:
        raise Refused("not a signed checkpoint")
    if lines[0] != name:
        raise Refused(f"it is of the log {lines[0]!r}, the key is for {name!r}")
    for line in rest.split("\n"):
        words = line.split(" ")
        if len(words) != 3 or words[0] != "\u2014" or words[1] != name:
            continue
        try:
            blob = base64.b64decode(words[2], validate=True)
        except ValueError:
            continue
        if blob[:4] == key_id:
            try:
                Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], (signed + "\n").encode())
            except InvalidSignature:
                raise Refused("its signature is wrong") from None
            root = base64.b64decode(lines[2], validate=True)
            if not lines[1].isdigit() or len(root) != 32:
                raise Refused("size or root is malformed")
            return int(lines[1]), root
    raise Refused("the key did not sign it")


def stated_size(note):
    """The size that a checkpoint states, not yet checked; None if it states none."""
    lines = note.split("\n")
    return int(lines[1]) if len(lines) > 1 and lines[1].isdigit() and len(lines[1]) < 19 else None


class Keys:
    """Which key must have signed, by size: the given one, and those that changes lead to which both keys signed.

    `changes` are (leaf, text of the old key, text of the new key) in order, from leaves that were checked; `notes` are the
    checkpoints that may bear both signatures. `problems` names changes that do not count.
    """

    def __init__(self, given, changes, notes):
        self.problems = []
        self.bounds = [leaf + 1 for leaf, _, _ in changes]
        chain, counts = [given], []
        by_size = {}
        for note in notes if changes else ():
            by_size.setdefault(stated_size(note), []).append(note)
        for place, (leaf, before, after) in enumerate(changes):
            old, new = parse_key(before, f"leaf {leaf}"), parse_key(after, f"leaf {leaf}")
            if place == 0:
                chain[0] = old
            why = None
            if old != chain[-1] or old == new or old[0] != new[0]:
                why = "it does not go on from the key before it"
            elif not any(self.is_signed(note, old) and self.is_signed(note, new) for note in by_size.get(leaf + 1, ())):
                why = f"no checkpoint of {leaf + 1} leaves is signed by both keys"
            if why:
                self.problems.append(f"leaf {leaf}: the change of the signing key does not count: {why}")
            counts.append(why is None)
            chain.append(new)
        if given not in chain:
            self.problems.append("the given key is none of those that signed this ledger")
            self.chain = [given] * len(chain)
            return
        low = high = chain.index(given)
        while high < len(counts) and counts[high]:  # forwards as far as the old key vouches for the new
            high += 1
        while low and counts[low - 1]:  # backwards as far as the new one says what it took over
            low -= 1
        self.chain = [chain[low]] * low + chain[low : high + 1] + [chain[high]] * (len(counts) - high)

    @staticmethod
    def is_signed(note, key):
        try:
            open_checkpoint(note, key)
        except (Refused, ValueError):
            return False
        return True

    def open(self, note):
        """(size, root) of a checkpoint that the key of its size signed."""
        size = stated_size(note)
        if size is None:
            raise Refused("not a signed checkpoint")
        return open_checkpoint(note, self.chain[sum(bound <= size for bound in self.bounds)])


# --- the tree, grown leaf by leaf: a stack of roots of complete subtrees, largest first ---


def join(left, right):
    return sha256(b"\x01" + left + right).digest()


class GrowingTree:
    """Takes leaf hashes one after the other; its root may be asked at any time."""

    def __init__(self):
        self.size = 0
        self.stack = []

    def add(self, leaf):
        stack, bits = self.stack, self.size
        while bits & 1:
            leaf = sha256(b"\x01" + stack.pop() + leaf).digest()
            bits >>= 1
        stack.append(leaf)
        self.size += 1

    def root(self):
        if not self.stack:
            return sha256(b"").digest()
        node = self.stack[-1]
        for left in reversed(self.stack[:-1]):
            node = join(left, node)
        return node


def root_from_inclusion(leaf, index, size, path):
    """The root that the path leads to; recursion as RFC 6962 section 2.1.1 defines PATH, read backwards."""

    def climb(index, size, path):
        if size == 1:
            if path:
                raise Refused("the path is too long")
            return leaf
        if not path:
            raise Refused("the path is too short")
        half = 1
        while half * 2 < size:
            half *= 2
        if index < half:
            return join(climb(index, half, path[:-1]), path[-1])
        return join(path[-1], climb(index - half, size - half, path[:-1]))

    if not 0 <= index < size:
        raise Refused(f"there is no leaf {index} in a tree of {size}")
    return climb(index, size, path)


def roots_from_consistency(old, size, old_root, path):
    """(old root, new root) that the path leads to; SUBPROOF of RFC 6962 section 2.1.2, read backwards."""

    def climb(old, size, whole, path):
        if old == size:
            if whole:
                if path:
                    raise Refused("the path is too long")
                return old_root, old_root
            if len(path) != 1:
                raise Refused("the path has the wrong length")
            return path[0], path[0]
        if not path:
            raise Refused("the path is too short")
        half = 1
        while half * 2 < size:
            half *= 2
        if old <= half:
            before, after = climb(old, half, whole, path[:-1])
            return before, join(after, path[-1])
        before, after = climb(old - half, size - half, False, path[:-1])
        return join(path[-1], before), join(path[-1], after)

    if not 0 < old <= size:
        raise Refused("nothing is proven from an empty ledger, or from a longer one")
    return climb(old, size, True, path)


# --- an export ---


class Findings:
    """Sentences, the first of which are shown; each kind is counted."""

    def __init__(self):
        self.shown, self.count = [], 0

    def add(self, text):
        self.count += 1
        if self.count <= MAX_NAMED:
            self.shown.append(text)


def read_notes(path):
    text = path.read_text(encoding="utf-8")
    return [note for note in text.split("--\n") if note.strip()]


def open_all(notes, keys, findings):
    opened = []
    for label, note in notes:
        try:
            opened.append((label, *keys.open(note)))
        except (Refused, ValueError) as error:
            findings.add(f"{label}: {error}")
    return opened


def verify_export(folder, key, anchors, earlier):
    findings = Findings()
    folder = Path(folder)
    stored = [(f"checkpoint {number}", note) for number, note in enumerate(read_notes(folder / "checkpoints.txt"), 1)]
    kept = [(f"anchor {path}", Path(path).read_text(encoding="utf-8")) for path in anchors]
    wanted = {stated_size(note) for _, note in stored + kept}
    tree, roots, book = GrowingTree(), {0: sha256(b"").digest()}, Book(findings)
    with ExitStack() as files:
        rows = files.enter_context(open(folder / "leaves.tsv", "rb"))
        former = files.enter_context(open(Path(earlier) / "leaves.tsv", "rb")) if earlier else None
        expected = 0
        for row in rows:
            fields = row.rstrip(b"\n").split(b"\t")
            try:
                index, stated = int(fields[0]), bytes.fromhex(fields[1].decode())
                nonce, text = bytes.fromhex(fields[2].decode()), fields[3]
                if len(fields) != 4 or len(stated) != 32:
                    raise ValueError
            except (ValueError, IndexError):
                findings.add(f"leaf {expected}: line {expected + 1} of leaves.tsv is malformed")
                tree.add(b"\0" * 32)
                expected += 1
                continue
            if index > expected:
                last = index - 1
                findings.add(f"leaf {expected} is missing" if last == expected else f"leaves {expected} to {last} are missing")
            elif index < expected:
                findings.add(f"leaf {index} is there again, or out of order, where {expected} should be")
            expected = index + 1
            if text:
                if sha256(b"\x00" + nonce + text).digest() != stated:
                    findings.add(f"leaf {index}: the row was changed")
                else:
                    book.take(index, text)
            else:
                book.without.add(index)
            if former is not None:
                before = former.readline().split(b"\t")
                if len(before) > 1 and (before[0] != fields[0] or before[1] != fields[1]):
                    findings.add(f"leaf {int(before[0])}: it is not the leaf of the earlier export")
            tree.add(stated)
            if tree.size in wanted:
                roots[tree.size] = tree.root()
        for row in former or ():
            findings.add(f"leaf {int(row.split(bytes([9]))[0])}: the earlier export has it, this one does not")
    keys = Keys(key, book.key_changes, [note for _, note in stored])
    for text in keys.problems:
        findings.add(text)
    own, held = open_all(stored, keys, findings), open_all(kept, keys, findings)
    sizes = [size for _, size, _ in own]
    for before, after in pairwise(sizes):
        if after <= before:
            findings.add(f"a checkpoint of {after} leaves comes after one of {before}")
    good = 0
    for label, size, root in own:
        if size > tree.size:
            findings.add(f"leaves {tree.size} to {size - 1} are missing: {label} is of {size}")
        elif roots[size] != root:
            findings.add(f"leaves {good} to {size - 1}: not those that {label} signed")
        else:
            good = size
    if not own or tree.size > max(sizes):
        findings.add(f"leaves {max(sizes, default=0)} to {tree.size - 1} were added without a signed checkpoint")
    for label, size, root in held:
        if size > tree.size:
            findings.add(f"{label} is of {size} leaves, here are {tree.size}: the ledger was cut short")
        elif roots[size] != root:
            findings.add(f"the first {size} leaves are not those of {label}: the ledger was written anew")
    book.close()
    verify_texts(folder, findings, book.bundles)
    print(f"log {key[0]}: {tree.size} leaves, {len(own)} checkpoints, {book.runs} runs, {len(book.erased)} erased")
    print(f"heads held elsewhere: {len(held)}, up to {max((size for _, size, _ in held), default=0)} leaves")
    if not held:
        print("no head from elsewhere was given: a ledger cut short, or written anew with the key, would look like this one")
    return findings


class Book:
    """What the texts say, and whether it adds up."""

    def __init__(self, findings):
        self.findings = findings
        self.without, self.erased, self.bundles = set(), {}, set()
        self.runs = 0
        self.key_changes = []
        self.moves, self.standing, self.claims = Counter(), Counter(), set()
        self.rows, self.first = 0, 0
        self.erasures = []
        self.pending = []

    def take(self, index, text):
        try:
            said = json.loads(text)
            kind = said["kind"]
            if said["leaf_index"] != index:
                self.findings.add(f"leaf {index}: the row says that it is leaf {said['leaf_index']}")
            kinds = {"decision": self.decision, "run": self.run, "erasure": self.erasure, "key": self.key_change}
            kinds[kind](index, said)
        except (ValueError, KeyError, TypeError):
            self.findings.add(f"leaf {index}: not a row of a ledger")

    def decision(self, index, said):
        gone = said["segment"] == "departed"
        came = said["previous_leaf"] is None or said["previous_segment"] == "departed"
        self.moves[said["family"], -1 if gone else 1 if came else 0] += 1
        self.claims.add((said["run_id"], said["bundle_sha256"], said["profile"], said["as_of"], said["decided_at"]))
        self.bundles.add(said["bundle_sha256"])

    def run(self, index, said):
        claim = (said["run_id"], said["bundle_sha256"], said["profile"], said["as_of"], said["decided_at"])
        if self.claims - {claim}:
            self.findings.add(f"leaves {said['first_leaf']} to {index}: some are not of the run {said['run_id']}")
        if said["first_leaf"] + said["decisions"] != index:
            self.findings.add(f"leaf {index}: the run states {said['decisions']} rows from leaf {said['first_leaf']}")
        self.pending.append((index, said, self.moves))
        self.moves, self.claims = Counter(), set()
        self.runs += 1

    def erasure(self, index, said):
        for leaf, family, delta, stood in said["rows"]:
            self.erased[leaf] = (family, delta)
            if stood:
                self.erasures.append((index, family))

    def key_change(self, index, said):
        self.key_changes.append((index, said["old_key"], said["new_key"]))

    def close(self):
        """Erasures come after the runs whose rows they take, so that totals are judged at the end."""
        for leaf in sorted(self.without - set(self.erased)):
            self.findings.add(f"leaf {leaf}: the row is missing, and no erasure names it")
        for leaf in sorted(set(self.erased) - self.without):
            self.findings.add(f"leaf {leaf}: an erasure names it, but the row is there")
        erasures, places = sorted(self.erasures), sorted(self.erased)
        done = at = 0
        for end, said, moves in self.pending:
            while done < len(places) and places[done] < end:
                moves[self.erased[places[done]]] += 1
                done += 1
            while at < len(erasures) and erasures[at][0] < end:
                self.standing[erasures[at][1]] -= 1
                at += 1
            for family in sorted({name for name, _ in moves} | set(said["families"])):
                new, changed, gone = (moves[family, delta] for delta in (1, 0, -1))
                unchanged = self.standing[family] - changed - gone
                self.standing[family] += new - gone
                stated = said["families"].get(family, {})
                found = {"new": new, "changed": changed, "departed": gone, "unchanged": unchanged}
                for word, count in found.items():
                    if stated.get(word, 0) != count:
                        where = f"run {said['run_id']} at leaf {end}, {family}"
                        self.findings.add(f"{where}: {stated.get(word, 0)} {word} stated, {count} found")
                segments = sum(stated.get("segments", {}).values())
                if segments and not segments == self.standing[family] == said["book"]:
                    self.findings.add(f"run {said['run_id']} at leaf {end}, {family}: segments do not add up to the book")


def verify_texts(folder, findings, bundles):
    """Rules and reference data are what their names say, and whatever decided is there."""
    held = {}
    for file in ("bundles.jsonl", "parts.jsonl"):
        with open(folder / file, encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                held[entry["sha256"]] = entry["text"]
                if sha256(entry["text"].encode()).hexdigest() != entry["sha256"]:
                    findings.add(f"{file}: {entry['sha256']} was changed")
    for name in sorted(bundles):
        if name not in held:
            findings.add(f"bundle {name} is missing")
            continue
        document = json.loads(held[name])
        for part in [part for _, part in document["models"]] + list(document["references"].values()):
            if part not in held:
                findings.add(f"part {part} of bundle {name} is missing")


# --- single proofs ---


def changes_in(proof):
    """The changes of the signing key that a proof brings along: each is the last leaf of the checkpoint that is beside it."""
    found = []
    for change in proof.get("key_changes", ()):
        index, note, text = change["leaf_index"], change["checkpoint"], change["text"]
        said = json.loads(text)
        leaf = sha256(b"\x00" + bytes.fromhex(change["nonce"]) + text.encode()).digest()
        nodes = [base64.b64decode(node, validate=True) for node in change["inclusion"]]
        _, root = open_checkpoint(note, parse_key(said["old_key"], f"leaf {index}"))
        if said["kind"] != "key" or said["leaf_index"] != index or root_from_inclusion(leaf, index, index + 1, nodes) != root:
            raise Refused(f"leaf {index} is no change of the signing key in the ledger of that checkpoint")
        found.append((index, said["old_key"], said["new_key"]))
    return found


def verify_proof(path, key):
    proof = json.loads(Path(path).read_text(encoding="utf-8"))
    keys = Keys(key, changes_in(proof), [change["checkpoint"] for change in proof.get("key_changes", ())])
    size, root = keys.open(proof["checkpoint"])
    if "inclusion" in proof:
        index, leaf = proof["leaf_index"], bytes.fromhex(proof["leaf_hash"])
        text = proof["text"]
        if text is not None and sha256(b"\x00" + bytes.fromhex(proof["nonce"]) + text.encode()).digest() != leaf:
            raise Refused("the text is not that of the leaf")
        nodes = [base64.b64decode(node, validate=True) for node in proof["inclusion"]]
        if root_from_inclusion(leaf, index, size, nodes) != root:
            raise Refused(f"leaf {index} is not in the ledger of that checkpoint")
        print(f"leaf {index} stands in the ledger {key[0]} of {size} leaves" + (":" if proof["text"] else "; its row was erased"))
        if proof["text"]:
            print(proof["text"])
    else:
        old_size, old_root = keys.open(proof["old_checkpoint"])
        nodes = [base64.b64decode(node, validate=True) for node in proof["consistency"]]
        if roots_from_consistency(old_size, size, old_root, nodes) != (old_root, root):
            raise Refused("the older checkpoint is not a beginning of the newer one")
        print(f"the ledger {key[0]} of {size} leaves begins with the one of {old_size}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", nargs="?")
    parser.add_argument("--public-key", required=True)
    parser.add_argument("--anchor", action="append", default=[])
    parser.add_argument("--earlier")
    parser.add_argument("--proof")
    given = parser.parse_args()
    if bool(given.export) == bool(given.proof):
        parser.error("give either an export or --proof")
    try:
        key = read_key(given.public_key)
        if given.proof:
            verify_proof(given.proof, key)
            return 0
        findings = verify_export(given.export, key, given.anchor, given.earlier)
    except (Refused, OSError, ValueError, KeyError, TypeError) as error:
        print(f"REFUSED: {error}")
        return 1
    for text in findings.shown:
        print(f"FOUND: {text}")
    if findings.count > len(findings.shown):
        print(f"FOUND: and {findings.count - len(findings.shown)} more")
    print("REFUSED" if findings.count else "GOOD: every row is as it was signed")
    return 1 if findings.count else 0


if __name__ == "__main__":
    sys.exit(main())
