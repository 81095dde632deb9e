"""Suites: what has to hold at each stage boundary, one reviewed Great Expectations JSON file per boundary.

Belongs here: the typed form of those files, and every rule that a file must keep before anything is checked with it.
Does not belong here: reading a table (`reading`), evaluating an expectation (`validation`). Nothing here imports
Great Expectations, so that Dagster's definitions can list the checks without waiting seconds for that import.
Format: https://docs.greatexpectations.io/docs/core/define_expectations/organize_expectation_suites
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from orchestration.settings import EXPECTATIONS_DIR

BOUNDARIES = ("landing", "gate", "features", "decisions")
Severity = Literal["critical", "warning", "info"]
Rows = Literal["all", "distinct"]
NAME = r"^[a-z][a-z0-9_]*$"
RELATION = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"

# The vocabulary of the suites. Each type's behaviour on an empty table, on missing values and under a row condition
# is known from a test; a type that is not listed has to earn its place there first.
ROW_TYPES = frozenset(
    {
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_not_be_in_set",
        "expect_column_values_to_be_null",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_match_regex",
        "expect_column_pair_values_a_to_be_greater_than_b",
        "expect_column_pair_values_to_be_in_set",
    }
)
AGGREGATE_TYPES = frozenset({"expect_column_mean_to_be_between"})
# Great Expectations evaluates this type on all rows and counts the filtered ones, and so contradicts itself.
TYPES_DEAF_TO_CONDITIONS = frozenset({"expect_column_pair_values_to_be_in_set"})


class ConditionColumn(BaseModel):
    """The column of a row condition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=NAME)


class Comparison(BaseModel):
    """A row condition that compares a column with a constant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["comparison"]
    column: ConditionColumn
    operator: Literal["==", "!=", "<", "<=", ">", ">=", "IN", "NOT_IN"]
    parameter: str | bool | int | float | list[str | int | float]


class Nullity(BaseModel):
    """A row condition on whether a value is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["nullity"]
    column: ConditionColumn
    is_null: bool


class ConditionGroup(BaseModel):
    """Row conditions that hold together, or of which one holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["and", "or"]
    conditions: tuple["RowCondition", ...] = Field(min_length=1)


RowCondition = Annotated[Comparison | Nullity | ConditionGroup, Field(discriminator="type")]
ROW_CONDITION: TypeAdapter[Comparison | Nullity | ConditionGroup] = TypeAdapter(RowCondition)


class SuiteError(ValueError):
    """A suite file that cannot be trusted to check anything; the message names the file and the fault."""


class MissingSuiteError(SuiteError):
    """There is no suite for a boundary that must have one."""


class UnknownRelationError(SuiteError):
    """A suite names a relation that the lake does not have."""


class UnknownColumnError(SuiteError):
    """An expectation names a column that its relation does not have."""


class ExpectationMeta(BaseModel):
    """What the platform adds to an expectation.

    `check` is a sentence that is true when the expectation holds, and the name of the check in Dagster.
    `rows`: `all` reads every row, `distinct` only the different combinations of the columns that the relation's
    distinct expectations use, which gives the same verdict on rules about single rows at a fraction of the cost.
    `nulls`: what a missing value means to a set, a range or a pair. Great Expectations passes over it; here it fails
    unless the suite says `ignore`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    check: str = Field(pattern=NAME)
    relation: str = Field(pattern=RELATION)
    rows: Rows = "all"
    nulls: Literal["fail", "ignore"] = "fail"


class Expectation(BaseModel):
    """One expectation of a suite file; `notes` is what a reviewer reads: what holds, and why it matters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    kwargs: dict[str, Any]
    severity: Severity
    notes: str = Field(min_length=20)
    meta: ExpectationMeta

    @property
    def blocking(self) -> bool:
        """Whether publication must not happen when this fails."""
        return self.severity == "critical"

    @property
    def is_aggregate(self) -> bool:
        """Whether it speaks of a whole column, not of single rows."""
        return self.type in AGGREGATE_TYPES

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, in order of appearance, each once."""
        named = [self.kwargs[key] for key in ("column", "column_A", "column_B") if key in self.kwargs]
        if "row_condition" in self.kwargs:
            named += _condition_columns(self.kwargs["row_condition"])
        return tuple(dict.fromkeys(named))

    @model_validator(mode="after")
    def _keeps_to_what_is_known_to_work(self) -> "Expectation":
        check = self.meta.check
        if self.type not in ROW_TYPES | AGGREGATE_TYPES:
            raise ValueError(f"{check}: {self.type} is not in the suites' vocabulary")
        if not self.columns or not all(isinstance(name, str) and re.match(NAME, name) for name in self.columns):
            raise ValueError(f"{check} does not name its columns")
        if "row_condition" in self.kwargs and (self.is_aggregate or self.type in TYPES_DEAF_TO_CONDITIONS):
            raise ValueError(f"{check}: {self.type} does not take a row_condition here")
        if self.meta.rows == "distinct" and (self.is_aggregate or "mostly" in self.kwargs):
            raise ValueError(f"{check} counts rows, which distinct combinations cannot tell")
        return self


class SuiteMeta(BaseModel):
    """What a suite says about its relations.

    `derived`: relation → column → SQL expression over the relation's own columns, computed when the relation is read;
    it keeps identifiers and free text out of the frame (`reason_codes is not null` instead of the codes).
    `where`: relation → SQL condition, where a relation keeps more than what is to be checked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    derived: dict[str, dict[str, str]] = {}
    where: dict[str, str] = {}


class Suite(BaseModel):
    """One suite file: the name of its boundary, a note on what the boundary is, and its expectations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    notes: str = Field(min_length=20)
    meta: SuiteMeta = SuiteMeta()
    expectations: tuple[Expectation, ...] = Field(min_length=1)

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations that the suite speaks of, each once."""
        return tuple(dict.fromkeys(expectation.meta.relation for expectation in self.expectations))

    def of(self, relation: str, rows: Rows) -> list[Expectation]:
        """The expectations on a relation that read it in one way, in the suite's order."""
        return [e for e in self.expectations if e.meta.relation == relation and e.meta.rows == rows]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Suite":
        checks = [expectation.meta.check for expectation in self.expectations]
        doubled = sorted({check for check in checks if checks.count(check) > 1})
        if doubled:
            raise ValueError(f"check name used twice: {', '.join(doubled)}")
        unread = sorted({*self.meta.derived, *self.meta.where} - set(self.relations))
        if unread:
            raise ValueError(f"meta speaks of relations without expectations: {', '.join(unread)}")
        return self


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """What Dagster has to know of a check before anything runs."""

    relation: str
    check: str
    blocking: bool
    description: str


def load_suite(boundary: str, folder: Path = EXPECTATIONS_DIR) -> Suite:
    """Read and validate the suite of a boundary.

    Raises `MissingSuiteError` if the file is not there, `SuiteError` if it is no suite, is empty, names a check
    twice, leaves out notes, or asks for what is not known to work.
    """
    path = folder / f"{boundary}.json"
    if not path.is_file():
        raise MissingSuiteError(f"no suite for the boundary {boundary}: {path.name} is missing in {folder.name}/")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_doubled_keys)
        suite = Suite.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise SuiteError(f"{path.name}: {faults}") from None
    except ValueError as error:
        raise SuiteError(f"{path.name}: {error}") from None
    if suite.name != boundary:
        raise SuiteError(f"{path.name}: the suite calls itself {suite.name}")
    return suite


def check_specs(boundary: str, folder: Path = EXPECTATIONS_DIR) -> list[CheckSpec]:
    """The checks of a boundary in the suite's order; errors as in `load_suite`."""
    return [
        CheckSpec(
            relation=expectation.meta.relation,
            check=expectation.meta.check,
            blocking=expectation.blocking,
            description=expectation.notes,
        )
        for expectation in load_suite(boundary, folder).expectations
    ]


def _without_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what `json` would silently settle: two values for one key."""
    keys = [key for key, _ in pairs]
    doubled = sorted({key for key in keys if keys.count(key) > 1})
    if doubled:
        raise ValueError(f"key written twice: {', '.join(doubled)}")
    return dict(pairs)


def _condition_columns(condition: Any) -> list[str]:
    """The columns that a row condition reads; `ValueError` if it is not one of the structured kinds."""
    try:
        parsed = ROW_CONDITION.validate_python(condition)
    except ValidationError:
        raise ValueError("row_condition is neither a comparison, a nullity, nor a group of them") from None
    if isinstance(parsed, ConditionGroup):
        return [name for part in parsed.conditions for name in _condition_columns(part)]
    return [parsed.column.name]
