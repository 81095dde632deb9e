"""Waivers: violations of the lineage proof that a person has looked at and answers for, until a date.

Belongs here: their form and their ends. Does not belong here: what a violation is (`proof`).
"""

from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from orchestration.ingestion.strict_yaml import load_yaml

WAIVERS_FILE = Path(__file__).parent / "waivers.yml"
LONGEST = timedelta(days=365)


class WaiverError(ValueError):
    """The list of waivers cannot be read: then none of them holds."""


class Waiver(BaseModel):
    """One accepted violation: which rule, at which relation, from which source; who says so, why, and until when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    relation: str
    source: str
    reviewer: Annotated[str, StringConstraints(min_length=3, strip_whitespace=True)]
    reason: Annotated[str, StringConstraints(min_length=20, strip_whitespace=True)]
    reviewed: date
    expires: date

    @model_validator(mode="after")
    def _ends(self) -> "Waiver":
        if not self.reviewed < self.expires <= self.reviewed + LONGEST:
            raise ValueError("a waiver ends after its review, and within a year of it")
        return self

    def in_force(self, today: date) -> bool:
        """Whether it holds on that day: from its review on, and no longer on the day it expires."""
        return self.reviewed <= today < self.expires


def load_waivers(path: Path = WAIVERS_FILE) -> tuple[Waiver, ...]:
    """The reviewed waivers. Raises `WaiverError` for a list that is malformed or names one case twice."""
    try:
        document = load_yaml(path)
        if not isinstance(document, dict) or set(document) != {"waivers"} or not isinstance(document["waivers"], list):
            raise WaiverError(f"{path.name} holds a list called waivers, and nothing else")
        waivers = tuple(Waiver.model_validate(entry) for entry in document["waivers"])
    except ValidationError as error:
        first = error.errors()[0]
        raise WaiverError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    cases = [(waiver.rule, waiver.relation, waiver.source) for waiver in waivers]
    doubled = {case for case in cases if cases.count(case) > 1}
    if doubled:
        raise WaiverError(f"{path.name}: {', '.join(sorted(doubled)[0])} is waived twice")
    return waivers
