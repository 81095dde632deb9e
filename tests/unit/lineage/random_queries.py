"""Random queries over four tiny tables, and the oracle that says whether one leaks.

The oracle runs a query on stores that differ in the rows of ungated people only (changed, added, removed). A query whose
result differs depends on them. Numbers are whole and every order is total, so that nothing else can make a difference.
"""

import random
from collections import Counter
from dataclasses import dataclass, field

import duckdb

from orchestration.lineage.labels import NOTHING, PERSON, Column, Flow, Key, Relation, as_parent, fresh_number
from orchestration.lineage.queries import Reader
from orchestration.lineage.scopes import NotUnderstood

SUBJECTS = [f"s{number:02d}" for number in range(14)]
REGIONS = ["n", "s", "w"]
TABLES = {
    "events": {"subject_token": "key", "kind": "text", "amount": "number"},
    "people": {"subject_token": "key", "risk_subject_token": "risk key", "region": "text", "age": "number"},
    "gate": {
        "subject_token": "key", "risk_subject_token": "risk key", "purpose_role": "role", "gate_outcome": "outcome",
        "consent_status": "text", "age_band": "number",
    },
    "regions": {"region": "text", "weight": "number"},
}  # fmt: skip


def relation_of(zone: str, name: str) -> Relation:
    """The labels of the tiny tables, as the proof gives them to a project's sources."""
    if zone != "t" or name not in TABLES:
        raise NotUnderstood(f"{zone}.{name}")
    owner, use = fresh_number(), fresh_number()
    own = NOTHING if name == "regions" else frozenset({Flow(PERSON, name, owner)})
    columns = []
    for column, kind in TABLES[name].items():
        key = Key(owner, column) if kind in ("key", "risk key") else None
        part = kind if name == "gate" and kind in ("role", "outcome") else None
        opened = name == "gate" and column != "age_band"
        columns.append((column, Column(NOTHING if opened else own, key, (use, part) if part else None)))
    relation = Relation(tuple(columns), NOTHING if name == "gate" else own, facts={use: (owner, frozenset())})
    return as_parent(relation, f"t.{name}")


ACCEPTED = {"outcome": frozenset({"ALLOW"}), "role": frozenset({"risk"})}


def accepts(sql: str) -> bool:
    """Whether the analysis lets the query pass. Raises `NotUnderstood` where it cannot read it."""
    from sqlglot import parse_one

    label = Reader(relation_of, ACCEPTED).query(parse_one(sql, read="duckdb"), {}).label
    return not label


class Oracle:
    """Stores that agree on gated people and on the gate's evidence, and on nothing else."""

    def __init__(self, seed: int, variants: int = 6) -> None:
        base = random.Random(seed)
        self.allowed = set(base.sample(SUBJECTS, 6))
        present = {subject for subject in SUBJECTS if base.random() < 0.9} | self.allowed
        other = {subject: base.choice(["ALLOW", "DEFAULT"]) for subject in sorted(present)}  # a set's order is each process's own
        fixed = {subject: self.rows(base, subject) for subject in sorted(self.allowed)}
        self.stores = []
        for variant in range(variants):
            dice = random.Random(seed * 1000 + variant)
            store = duckdb.connect()
            store.execute("set threads = 1")
            store.execute("create schema t")
            store.execute("create table t.events (subject_token varchar, kind varchar, amount integer)")
            store.execute("create table t.people (subject_token varchar, risk_subject_token varchar, region varchar, age integer)")
            store.execute(
                "create table t.gate (subject_token varchar, risk_subject_token varchar, purpose_role varchar, "
                "gate_outcome varchar, consent_status varchar, age_band integer)"
            )
            store.execute("create table t.regions as select * from (values ('n', 1), ('s', 2), ('w', 3)) as r (region, weight)")
            for subject in SUBJECTS:
                events, people, band = fixed.get(subject) or self.rows(dice, subject)
                if subject in present:
                    outcome = "ALLOW" if subject in self.allowed else ("BLOCK" if subject == "s03" else "DEFAULT")
                    for role, value in (("risk", outcome), ("audience", other[subject])):
                        row = [subject, f"r{subject}", role, value, "granted" if value == "ALLOW" else "denied", band]
                        store.execute("insert into t.gate values (?, ?, ?, ?, ?, ?)", row)
                for row in events:
                    store.execute("insert into t.events values (?, ?, ?)", row)
                for row in people:
                    store.execute("insert into t.people values (?, ?, ?, ?)", row)
            self.stores.append(store)

    @staticmethod
    def rows(dice: random.Random, subject: str):
        events = [
            (subject, dice.choice(["a", "b", None]), dice.choice([None, *range(9)])) for _ in range(dice.choice([0, 1, 1, 2, 3, 5]))
        ]
        people = [(subject, f"r{subject}", dice.choice(REGIONS), dice.randrange(5)) for _ in range(dice.choice([0, 1, 1, 1]))]
        return events, people, dice.randrange(4)

    def leaks(self, sql: str) -> bool:
        """Whether some two stores answer differently. Raises DuckDB's error for a query that cannot run."""
        first: Counter | None = None
        for store in self.stores:
            rows = Counter(store.execute(sql).fetchall())
            if first is None:
                first = rows
            elif rows != first:
                return True
        return False


@dataclass
class Table:
    """A table of a query under construction: its name and its columns with their kinds."""

    name: str
    columns: dict[str, str]

    def of(self, *kinds: str) -> list[str]:
        return [column for column, kind in self.columns.items() if kind in kinds]


@dataclass
class Writer:
    """Writes one random query as a chain of common table expressions."""

    dice: random.Random
    parts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    def query(self) -> str:
        self.tables = [Table(f"t.{name}", dict(columns)) for name, columns in TABLES.items()]
        for _ in range(self.dice.randint(1, 5)):
            step = self.dice.choices(
                [self.filter, self.join, self.gated, self.group, self.window, self.union, self.semi, self.project,
                 self.distinct, self.limit, self.scalar, self.outer_pair, self.using, self.renamed],
                [2, 4, 6, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1],
            )[0]  # fmt: skip
            step()
        if self.dice.random() < 0.6:
            self.gated()
        if self.dice.random() < 0.3:
            self.group()
        last = self.tables[-1]
        if not self.parts:
            return f"select {', '.join(last.columns)} from {last.name}"
        chain = ", ".join(self.parts)
        if self.dice.random() < 0.3:
            return f"with {chain} select * from {last.name}"
        return f"with {chain} select {', '.join(last.columns)} from {last.name}"

    # -- helpers --

    def pick(self) -> Table:
        """Mostly what was made last, so that a query is about something."""
        made = self.tables[len(TABLES):]
        if made and self.dice.random() < 0.7:
            return made[-1] if self.dice.random() < 0.8 else self.dice.choice(made)
        return self.dice.choice(self.tables[:2] if self.dice.random() < 0.8 else self.tables)

    def make(self, sql: str, columns: dict[str, str]) -> None:
        name = f"c{len(self.parts)}"
        self.parts.append(f"{name} as ({sql})")
        self.tables.append(Table(name, columns))

    def number(self, table: Table, alias: str) -> str:
        found = table.of("number")
        return f"{alias}.{self.dice.choice(found)}" if found else "1"

    def predicate(self, table: Table, alias: str) -> str:
        options = ["true"]
        for column, kind in table.columns.items():
            name = f"{alias}.{column}"
            if kind == "number":
                options += [f"{name} > {self.dice.randrange(5)}", f"{name} is null", f"coalesce({name}, 0) < 4", f"{name} is not null"]
            elif kind == "text":
                options += [f"{name} = 'a'", f"{name} in ('a', 'n')", f"{name} <> 's'", f"{name} is not null"]
            elif kind in ("key", "risk key"):
                options += [f"{name} < 's08'", f"{name} is not null"]
            elif kind == "outcome":
                options += [f"{name} = 'ALLOW'"] * 3 + [f"{name} <> 'ALLOW'", f"{name} in ('ALLOW')", f"{name} in ('ALLOW', 'BLOCK')"]
            elif kind == "role":
                options += [f"{name} = 'risk'"] * 3 + [f"{name} = 'audience'", f"'risk' = {name}", f"{name} <> 'risk'"]
        chosen = [self.dice.choice(options) for _ in range(self.dice.randint(1, 3))]
        text = f" {self.dice.choice(['and', 'and', 'and', 'or'])} ".join(chosen)
        return f"not ({text})" if self.dice.random() < 0.08 else text

    def join_condition(self, left: Table, right: Table, a: str, b: str) -> str:
        for kind in self.dice.sample(["key", "risk key"], 2):
            if left.of(kind) and right.of(kind) and self.dice.random() < 0.8:
                text = f"{a}.{self.dice.choice(left.of(kind))} = {b}.{self.dice.choice(right.of(kind))}"
                if self.dice.random() < 0.25:
                    text += f" and {self.predicate(right, b) if self.dice.random() < 0.5 else self.predicate(left, a)}"
                    if " or " in text and self.dice.random() < 0.7:
                        text = text.replace(" or ", " and ")
                return text
        for kind in ("text", "number"):
            if left.of(kind) and right.of(kind) and self.dice.random() < 0.7:
                return f"{a}.{self.dice.choice(left.of(kind))} = {b}.{self.dice.choice(right.of(kind))}"
        return self.dice.choice(["true", "1 = 1"])

    def both(self, left: Table, right: Table, a: str, b: str) -> tuple[str, dict[str, str]]:
        """A select list of some columns of two tables."""
        items, columns = [], {}
        for table, alias in ((left, a), (right, b)):
            for column, kind in table.columns.items():
                if self.dice.random() < (0.9 if "key" in kind else 0.7):
                    name = column if column not in columns else f"{column}_{len(columns)}"
                    items.append(f"{alias}.{column} as {name}")
                    columns[name] = kind
        if not items:
            return "1 as one", {"one": "number"}
        return ", ".join(items), columns

    # -- steps --

    def filter(self) -> None:
        table = self.pick()
        self.make(f"select * from {table.name} as a where {self.predicate(table, 'a')}", dict(table.columns))

    def project(self) -> None:
        table = self.pick()
        items, columns = [], {}
        for column, kind in table.columns.items():
            roll = self.dice.random()
            if roll < 0.75:
                items.append(column)
                columns[column] = kind
            elif kind == "number" and roll < 0.9:
                items.append(f"case when {self.predicate(table, 'a')} then a.{column} else 0 end as {column}")
                columns[column] = "number"
            elif kind == "key" and roll < 0.85:
                items.append(f"upper(a.{column}) as {column}")
                columns[column] = "text"
        if items:
            self.make(f"select {', '.join(items)} from {table.name} as a", columns)

    def join(self) -> None:
        left, right = self.pick(), self.dice.choice(self.tables)
        kind = self.dice.choices(["inner join", "left join", "right join", "full join", "cross join"], [5, 4, 1, 1, 1])[0]
        condition = "" if kind == "cross join" else f" on {self.join_condition(left, right, 'a', 'b')}"
        items, columns = self.both(left, right, "a", "b")
        where = ""
        if self.dice.random() < 0.4:
            where = f" where {self.predicate(*((right, 'b') if self.dice.random() < 0.7 else (left, 'a')))}"
        self.make(f"select {items} from {left.name} as a {kind} {right.name} as b{condition}{where}", columns)

    def outer_pair(self) -> None:
        """A full join on the key, named by both halves."""
        left, right = self.pick(), self.dice.choice(self.tables)
        if not (left.of("key") and right.of("key")):
            return
        a, b = self.dice.choice(left.of("key")), self.dice.choice(right.of("key"))
        extra = f" and {self.predicate(right, 'b')}" if self.dice.random() < 0.2 else ""
        items = [f"{'coalesce' if self.dice.random() < 0.9 else 'concat'}(a.{a}, b.{b}) as subject_token"]
        columns = {"subject_token": "key" if "coalesce" in items[0] else "text"}
        for table, alias in ((left, "a"), (right, "b")):
            for column, kind in table.columns.items():
                if kind == "number" and f"{column}_{alias}" not in columns:
                    items.append(f"{alias}.{column} as {column}_{alias}")
                    columns[f"{column}_{alias}"] = "number"
        self.make(f"select {', '.join(items)} from {left.name} as a full join {right.name} as b on a.{a} = b.{b}{extra}", columns)

    def using(self) -> None:
        """A join on a column of one name, which then stands once."""
        left, right = self.pick(), self.dice.choice(self.tables)
        shared = [name for name in left.columns if right.columns.get(name) == left.columns[name] and name != "gate_outcome"]
        if not shared:
            return
        name = self.dice.choice(shared)
        kind = self.dice.choice(["inner", "left", "right", "full"])
        items, columns = [name], {name: left.columns[name]}
        for table, alias in ((left, "a"), (right, "b")):
            for column, what in table.columns.items():
                if column not in columns and self.dice.random() < 0.8:
                    items.append(f"{alias}.{column}")
                    columns[column] = what
        where = f" where {name} is not null" if self.dice.random() < 0.3 else ""
        self.make(f"select {', '.join(items)} from {left.name} as a {kind} join {right.name} as b using ({name}){where}", columns)

    def renamed(self) -> None:
        """An alias that hides a column, in the clauses where either may be meant."""
        table = self.pick()
        outcome, numbers = table.of("outcome", "role", "text"), table.of("number")
        if outcome and self.dice.random() < 0.6:
            name = self.dice.choice(outcome)
            rest = ", ".join(column for column in table.columns if column != name)
            value = self.dice.choice(["'ALLOW'", "'risk'"])
            sql = f"select {rest + ', ' if rest else ''}{value} as {name} from {table.name} as a where {name} = {value}"
            self.make(sql, {**{k: v for k, v in table.columns.items() if k != name}, name: "text"})
        elif numbers:
            name = self.dice.choice(numbers)
            rest = ", ".join(column for column in table.columns if column != name)
            sql = f"select {rest + ', ' if rest else ''}max({name}) as {name} from {table.name} as a group by all having {name} > 1"
            self.make(sql, {**{k: v for k, v in table.columns.items() if k != name}, name: "number"})

    def gated(self) -> None:
        """The gate, rightly placed more often than not."""
        table = self.pick()
        kind = self.dice.choice(["key", "risk key"])
        keys = table.of(kind) or table.of("key") or table.of("risk key")
        if not keys:
            return
        key = self.dice.choice(keys)
        other = "subject_token" if table.columns[key] == "key" else "risk_subject_token"
        if self.dice.random() < 0.06:
            other = "risk_subject_token" if other == "subject_token" else "subject_token"
        facts = ["g.purpose_role = 'risk'", "g.gate_outcome = 'ALLOW'"]
        self.dice.shuffle(facts)
        wrong = self.dice.random()
        if wrong < 0.06:
            facts = facts[:1]
        elif wrong < 0.1:
            facts = [fact.replace("'risk'", "'audience'") for fact in facts]
        elif wrong < 0.13:
            facts = [f"({facts[0]} or true)", facts[1]]
        elif wrong < 0.16:
            facts = [fact.replace("=", "<>", 1) for fact in facts]
        tests = " and ".join(facts)
        form = self.dice.randrange(9)
        name = f"{table.name} as a"
        if form == 0:
            sql = f"select a.* from {name} inner join t.gate as g on a.{key} = g.{other} and {tests}"
        elif form == 1:
            sql = f"select a.* from {name} inner join t.gate as g on a.{key} = g.{other} where {tests}"
        elif form == 2:
            sql = f"select a.* from {name}, t.gate as g where a.{key} = g.{other} and {tests}"
        elif form == 3:
            sql = f"select * from {name} where a.{key} in (select g.{other} from t.gate as g where {tests})"
        elif form == 4:
            sql = f"select * from {name} where exists (select 1 from t.gate as g where g.{other} = a.{key} and {tests})"
        elif form == 5:
            sql = f"select a.* from {name} left join t.gate as g on a.{key} = g.{other} where {tests}"
        elif form == 6:
            sql = f"select a.* from {name} left join t.gate as g on a.{key} = g.{other} and {tests}"
        elif form == 7:
            sql = f"select * from {name} semi join t.gate as g on a.{key} = g.{other} and {tests}"
        else:
            self.parts.append(f"g{len(self.parts)} as (select g.{other}, g.age_band from t.gate as g where {tests})")
            gate = f"g{len(self.parts) - 1}"
            sql = f"select a.*, g.age_band as band{len(self.parts)} from {gate} as g left join {name} on a.{key} = g.{other}"
            self.make(sql, {**table.columns, f"band{len(self.parts)}": "number"})
            return
        if self.dice.random() < 0.05 and form in (3, 4):
            sql = sql.replace("where a.", "where not a.", 1).replace("where exists", "where not exists", 1)
        self.make(sql, dict(table.columns))

    def group(self) -> None:
        table = self.pick()
        keys = [column for column, kind in table.columns.items() if kind != "number" and self.dice.random() < 0.6]
        number = self.number(table, "a")
        value = self.dice.choice([f"sum({number})", "count(*)", f"max({number})", f"count(distinct {number})",
                                  f"count(*) filter (where {self.predicate(table, 'a')})"])  # fmt: skip
        columns = {key: table.columns[key] for key in keys} | {f"v{len(self.parts)}": "number"}
        having = f" having count(*) > {self.dice.randrange(3)}" if self.dice.random() < 0.2 else ""
        groups = f" group by {', '.join(keys) if self.dice.random() < 0.6 else 'all'}" if keys else ""
        items = [*keys, f"{value} as v{len(self.parts)}"]
        self.make(f"select {', '.join(items)} from {table.name} as a{groups}{having}", columns)

    def window(self) -> None:
        table = self.pick()
        parts = [column for column, kind in table.columns.items() if kind != "number" and self.dice.random() < 0.4]
        number = self.number(table, "a")
        over = f"{'partition by ' + ', '.join(parts) if parts else ''}"
        function = self.dice.choice([f"sum({number}) over ({over})", f"count(*) over ({over})",
                                     f"rank() over ({over} order by {number})", f"max({number}) over ({over} order by {number})"])  # fmt: skip
        name = f"v{len(self.parts)}"
        if self.dice.random() < 0.3:
            self.make(f"select * from {table.name} as a qualify {function} > 1", dict(table.columns))
        else:
            self.make(f"select *, {function} as {name} from {table.name} as a", {**table.columns, name: "number"})

    def union(self) -> None:
        left, right = self.pick(), self.dice.choice(self.tables)
        kinds = [kind for kind in left.columns.values() if kind in right.columns.values()]
        one, other, columns = [], [], {}
        for kind in dict.fromkeys(kinds):
            a, b = self.dice.choice(left.of(kind)), self.dice.choice(right.of(kind))
            name = f"u{len(columns)}" if self.dice.random() < 0.3 else a
            if name not in columns:
                one.append(f"{a} as {name}")
                other.append(b)
                columns[name] = kind
        if self.dice.random() < 0.1 and len(other) > 1:
            self.dice.shuffle(other)
        if columns:
            operation = self.dice.choices(["union all", "union", "except", "intersect"], [4, 2, 1, 1])[0]
            self.make(f"select {', '.join(one)} from {left.name} {operation} select {', '.join(other)} from {right.name}", columns)

    def semi(self) -> None:
        table, other = self.pick(), self.dice.choice(self.tables)
        kind = self.dice.choice(["key", "key", "text", "number"])
        if not (table.of(kind) and other.of(kind)):
            return
        a, b = self.dice.choice(table.of(kind)), self.dice.choice(other.of(kind))
        where = self.predicate(other, "b")
        negated = "not " if self.dice.random() < 0.25 else ""
        form = self.dice.randrange(4)
        if form == 0:
            sql = f"select * from {table.name} as a where a.{a} {negated}in (select b.{b} from {other.name} as b where {where})"
        elif form == 1:
            sql = f"select * from {table.name} as a where {negated}exists (select 1 from {other.name} as b where b.{b} = a.{a} and {where})"
        elif form == 2:
            having = "having count(*) >= 0" if self.dice.random() < 0.5 else ""
            sql = f"select * from {table.name} as a where {negated}exists (select count(*) from {other.name} as b where b.{b} = a.{a} and {where} {having})"
        else:
            sql = f"select * from {table.name} as a {'anti' if negated else 'semi'} join {other.name} as b on b.{b} = a.{a} and {where.replace(' or ', ' and ')}"
        self.make(sql, dict(table.columns))

    def distinct(self) -> None:
        table = self.pick()
        chosen = [column for column in table.columns if self.dice.random() < 0.7] or list(table.columns)[:1]
        if self.dice.random() < 0.3:
            everything = ", ".join(table.columns)
            self.make(f"select distinct on ({', '.join(chosen)}) * from {table.name} order by {', '.join(chosen)}, {everything}", dict(table.columns))
        else:
            self.make(f"select distinct {', '.join(chosen)} from {table.name}", {column: table.columns[column] for column in chosen})

    def limit(self) -> None:
        table = self.pick()
        everything = ", ".join(table.columns)
        self.make(f"select * from {table.name} order by {everything} limit {self.dice.randint(1, 6)}", dict(table.columns))

    def scalar(self) -> None:
        table, other = self.pick(), self.dice.choice(self.tables)
        number = self.number(other, "b")
        tied = ""
        if table.of("key") and other.of("key") and self.dice.random() < 0.5:
            tied = f" where b.{self.dice.choice(other.of('key'))} = a.{self.dice.choice(table.of('key'))}"
        name = f"v{len(self.parts)}"
        self.make(f"select *, (select {self.dice.choice(['max', 'sum', 'count'])}({number}) from {other.name} as b{tied}) as {name} "
                  f"from {table.name} as a", {**table.columns, name: "number"})  # fmt: skip
