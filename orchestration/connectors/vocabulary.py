"""The vocabulary file: a vendor's purposes, questions and answers in the platform's words.

Belongs here: the file's typed form and its checks. Nothing is inferred from a name: what the file does not declare
becomes a dead letter. A vendor's own statuses are documented constants and stand in the vendor's module.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.mapping import ReadOptions
from orchestration.ingestion.strict_yaml import StrictYamlError, load_yaml

Purpose = Literal["analytics", "personalisation", "ads_sale_share", "significant_decision_admt", "sensitive"]
Action = Literal["granted", "denied", "withdrawn"]
Method = Literal["banner", "form", "api", "paper", "import"]


class _Vocabulary(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]


class OneTrustVocabulary(_Vocabulary):
    """Purposes by the vendor's id or name; `not_consent` names purposes that rest on no consent."""

    connector: Literal["onetrust"]
    purposes: dict[str, Purpose] = Field(min_length=1)
    not_consent: list[str] = []


class TrustArcFields(BaseModel):
    """Where TrustArc's consent records hold what, as dotted paths: the vendor publishes no schema of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = "id"
    subject: str
    status: str = "status"
    expressed: str = "createdDate"
    expires: str = "validityEndDate"
    notice: str = "consentForm.id"
    choices: str
    purpose: str
    choice: str


class TrustArcVocabulary(_Vocabulary):
    """Field paths, programs by id or name, and the words of a choice."""

    connector: Literal["trustarc"]
    fields: TrustArcFields
    purposes: dict[str, Purpose] = Field(min_length=1)
    not_consent: list[str] = []
    choices: dict[str, Action] = Field(min_length=1)
    method: Method = "form"


class ConsentQuestion(BaseModel):
    """A slide that asks for consent, and what each fixed answer means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slide: str
    purpose: Purpose
    answers: dict[str, Action] = Field(min_length=1)
    method: Method = "form"
    notice_version: str | None = None


class ScoreQuestion(BaseModel):
    """A slide that asks for a score."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slide: str
    question_type: Literal["nps", "csat", "ces"]


class ZigpollVocabulary(_Vocabulary):
    """The questions, and the dotted path of whom an answer is from (a field that you pass to the survey)."""

    connector: Literal["zigpoll"]
    subject: str
    consent_questions: list[ConsentQuestion] = []
    score_questions: list[ScoreQuestion] = []

    @model_validator(mode="after")
    def _each_slide_once(self) -> "ZigpollVocabulary":
        slides = [question.slide for question in (*self.consent_questions, *self.score_questions)]
        if not slides or len(set(slides)) < len(slides):
            raise ValueError("declare at least one question, and each slide once")
        return self


class SignalsVocabulary(_Vocabulary):
    """Which files of the folder are logs, and which columns say whose signal it is, when it was received, and the signals.

    `signals` maps a column to the kind of string it holds; `any` where the string's beginning has to say it. What a decoded
    string means is no tenant's choice, so there are no purposes here (docs/signals.md).
    """

    connector: Literal["signals"]
    files: str = Field(pattern=r"^[^/.][^/]*$")
    read: ReadOptions = ReadOptions()
    subject: str
    received_at: str
    signals: dict[str, Literal["tcf", "gpp", "usp", "gpc", "any"]] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_column_once(self) -> "SignalsVocabulary":
        names = [name.lower() for name in (self.subject, self.received_at, *self.signals)]
        if len(set(names)) < len(names):
            raise ValueError("name each column once")
        return self


Vocabulary = OneTrustVocabulary | TrustArcVocabulary | ZigpollVocabulary | SignalsVocabulary
_ANY: TypeAdapter[Vocabulary] = TypeAdapter(Annotated[Vocabulary, Field(discriminator="connector")])


def load_vocabulary(path: Path, connector: str) -> Vocabulary:
    """Read and check a vocabulary file. Raises `SourceError` that names the entry and the mend."""
    if not path.is_file():
        raise SourceError("no_vocabulary", f"{path} does not exist", "write it (see docs/connectors.md and examples/)")
    try:
        vocabulary = _ANY.validate_python(load_yaml(path))
    except StrictYamlError as error:
        raise SourceError("bad_vocabulary", str(error), "correct the line", str(path)) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        raise SourceError("bad_vocabulary", f"{place}: {first['msg']}", "correct that entry", str(path)) from None
    if vocabulary.connector != connector:
        raise SourceError(
            "bad_vocabulary", f"it is for {vocabulary.connector}, not for {connector}", "name the right file", str(path)
        )
    return vocabulary


def fingerprint(vocabulary: Vocabulary) -> str:
    """A text that changes when the vocabulary means something else."""
    return hashlib.sha256(vocabulary.model_dump_json().encode()).hexdigest()


def purpose_of(
    purposes: dict[str, Purpose], not_consent: list[str], identifier: object, name: object
) -> tuple[str | None, str]:
    """(purpose, "") or (`None`, reason of the dead letter) for a purpose that the vendor gives by id, name or both."""
    words = [word for word in (identifier, name) if isinstance(word, str) and word]
    if not words:
        return None, "missing_field"
    found = {purposes[word] for word in words if word in purposes}
    excluded = any(word in not_consent for word in words)
    if len(found) > 1 or (found and excluded):
        return None, "contradictory_purpose"
    if excluded:
        return None, "not_consent"
    return (found.pop(), "") if found else (None, "unknown_purpose")
