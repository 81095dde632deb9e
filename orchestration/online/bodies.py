"""What a caller may send: requests as types, the events' own made from the contracts.

One fact, one place: names, types, bounds and permitted values of an event are those of `ingestion/contracts`, so that what
is accepted here is accepted by the batch too (a test holds the two against each other). JSON's own types are asked for; a
number in quotes is refused, for guessing is the batch's reader's business and not an API's.

Belongs here: the shape of requests. Does not belong here: who somebody is, what the event changes (`service`).
"""

import re
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model

from orchestration.ingestion.contracts import Contract, ContractColumn, load_contracts
from orchestration.ingestion.parsing import known_currencies

EVENTS = {
    "transaction": "transactions",
    "consent": "consent_events",
    "feedback": "survey_feedback",
    "complaint": "complaints",
    "incident": "incidents",
}
MOST_SUBJECTS = 1000
MOST_EVENTS = 1000
LONGEST_TEXT = 256
# What the batch's engine trims: Unicode's space separators (Zs), and no line breaks.
SPACES = "\u0020\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
Strict = ConfigDict(extra="forbid", strict=True, frozen=True)


def _plain(text: str) -> str:
    """Control characters, lone surrogates and code points that mean nothing are nobody's name."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Cn") for character in text):
        raise ValueError("no control characters")
    text = text.strip(SPACES)
    if not 0 < len(text) <= LONGEST_TEXT:
        raise ValueError(f"1 to {LONGEST_TEXT} characters")
    return text


def _iso(given: object) -> object:
    """A number is no time: nobody could say of which clock, in which unit."""
    if not isinstance(given, str) or not ISO_DAY.match(given):
        raise ValueError("a time is text in ISO 8601")
    return given


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError("out of range") from None


Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT), AfterValidator(_plain)]
Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_iso), AfterValidator(_utc)]


def _kind(column: ContractColumn) -> Any:
    """The type of one column."""
    bounds: dict[str, Any] = {}
    if column.type in ("decimal", "number", "integer"):
        number = Decimal if column.type == "decimal" else float if column.type == "number" else int
        bounds |= {"ge": number(column.min)} if column.min is not None else {}
        bounds |= {"le": number(column.max)} if column.max is not None else {}
    match column.type:
        case "string":
            return Text
        case "enum":
            return Literal[column.values]
        case "currency":
            return Literal[known_currencies()]
        case "decimal":
            return Annotated[Decimal, Field(strict=False, max_digits=18, decimal_places=2, allow_inf_nan=False, **bounds)]
        case "number":
            return Annotated[float, Field(allow_inf_nan=False, **bounds)]
        case "integer":
            return Annotated[int, Field(**{"ge": -(2**63), "le": 2**63 - 1} | bounds)]
        case "boolean":
            return bool
        case "timestamp":
            earliest = datetime.fromisoformat(str(column.min)) if column.min else datetime(1900, 1, 1)
            return Annotated[Instant, AfterValidator(_not_before(earliest))]
        case "date":
            return Annotated[date, Field(strict=False), BeforeValidator(_iso)]
    raise ValueError(column.type)


def _not_before(earliest: datetime) -> Any:
    def check(moment: datetime) -> datetime:
        if moment < earliest:
            raise ValueError(f"not before {earliest:%Y-%m-%d}")
        return moment

    return check


def _data_model(contract: Contract) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for column in contract.columns:
        kind = _kind(column)
        text = column.description
        fields[column.name] = (kind, Field(description=text)) if column.required else (kind | None, Field(None, description=text))
    name = "".join(part.capitalize() for part in contract.entity.split("_"))
    return create_model(name, __config__=Strict, __doc__=contract.description, **fields)


@cache
def event_models() -> dict[str, type[BaseModel]]:
    """A model per kind of event: `{"type": kind, "data": {the contract's columns}}`."""
    made = {}
    for kind, entity in EVENTS.items():
        contract = load_contracts()[entity]
        made[kind] = create_model(
            f"{kind.capitalize()}Event",
            __config__=Strict,
            __doc__=f"{contract.description} The same `{contract.key}` with the same content may be sent again.",
            type=(Literal[kind], ...),
            data=(_data_model(contract), ...),
        )
    return made


@cache
def event_union() -> Any:
    """Any event, told apart by its `type`."""
    models = tuple(event_models().values())
    union: Any = models[0]
    for model in models[1:]:
        union = union | model
    return Annotated[union, Field(discriminator="type")]


class Subjects(BaseModel):
    """Whose decisions are asked for: customer identifiers as the source systems write them."""

    model_config = Strict

    subjects: Annotated[list[Text], Field(min_length=1, max_length=MOST_SUBJECTS)]
