"""The mapping file: what it may say, and that its mistakes are named."""

from pathlib import Path

import pytest

from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.expressions import ExpressionError, compile_expression
from orchestration.ingestion.mapping import load_mapping

BASE = "version: 1\nname: t\nfeeds:\n  - {name: crm, entity: customers, files: c.csv}\n"


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "mapping.yml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("version: 1\nname: t\nfeeds: []\n", "missing_entity", "customers"),
        (BASE + "  - {name: x, entity: transaction, files: x}\n", "unknown_entity", "did you mean transactions"),
        (BASE + "  - {name: x, entity: complaints, files: x, columns: {topik: a}}\n", "unknown_column", "did you mean topic"),
        (BASE + "  - {name: x, entity: complaints, files: x, joins: [{lookup: l, on: a}]}\n", "unknown_lookup", "l"),
        (BASE + "  - {name: x, entity: complaints, files: x, colums: {}}\n", "bad_mapping", "colums"),
        (BASE.replace("version: 1", "version: 2"), "bad_mapping", "version"),
        (BASE + "name: again\n", "bad_mapping", "stands twice"),
        ("a: &x [1]\nb: *x\n", "bad_mapping", "aliases"),
        ("- a\n", "bad_mapping", "not a mapping"),
        (": :\n  - {", "bad_mapping", "YAML"),
        (BASE + '  - {name: x, entity: complaints, files: x, columns: {topic: "read_text(\'/etc/passwd\')"}}\n', "bad_expression", "read_text"),
    ],
)
def test_a_mistake_is_named_with_its_mend(tmp_path, text, name, says):
    with pytest.raises(SourceError) as caught:
        load_mapping(written(tmp_path, text))
    assert caught.value.name == name
    assert says in str(caught.value) and "To mend:" in str(caught.value)


def test_no_mapping_at_all_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match="no_mapping"):
        load_mapping(tmp_path)


def test_words_that_yaml_1_1_takes_for_booleans_stay_words(tmp_path):
    """A join's `on` and Norway's `NO` are no booleans."""
    text = BASE + (
        "lookups:\n  l: {files: l.csv, key: a}\n"
    ) + "  # none\n"
    text = text.replace("files: c.csv}", "files: c.csv, joins: [{lookup: l, on: a}], null_values: [NO]}")
    mapping = load_mapping(written(tmp_path, text))
    assert mapping.feeds[0].joins[0].on == "a"
    assert mapping.feeds[0].options.null_values == ["NO"]


@pytest.mark.parametrize(
    "text",
    [
        "(select 1)",
        "read_csv('x')",
        "getenv('HOME')",
        "current_setting('threads')",
        "a; drop table x",
        "a as b",
        "count(*)",
        "row_number() over ()",
        "a from b",
        "a.b.c",
        "* from read_csv('a')",
        "other.a",
        "exists (select 1)",
        "a in (select b from c)",
        "(" * 5000 + "a" + ")" * 5000,
    ],
)
def test_an_expression_reaches_nothing_but_its_row(text):
    """A mapping travels by e-mail: it must not be able to read another file, a setting or another row."""
    with pytest.raises(ExpressionError):
        compile_expression(text, "source_row")


@pytest.mark.parametrize(
    "text",
    [
        "a",
        '"Odd name"',
        "case when a = 'x' then 'credit' else b end",
        "'19' || substr(a, 1, 2)",
        "lpad(cast(try_cast(a as integer) % 50 as varchar), 2, '0')",
        "try_strptime(a, '%d.%m.%Y')",
        "coalesce(nullif(a, ''), b)",
        "a is not null and b between 1 and 2 or c not like 'x%'",
        "l.a",
    ],
)
def test_ordinary_expressions_are_allowed_and_qualified(text):
    compiled = compile_expression(text, "source_row", frozenset({"l"}))
    assert compiled.columns
    assert all(relation in ("source_row", "l") for relation, _ in compiled.columns)
