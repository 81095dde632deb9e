"""What can go wrong with identities, said without any identity.

An engine's or a library's message may quote the value that it stumbled over, and a log keeps it for years.
Belongs here: the error family, and the guard that keeps values out of messages; no handling.
"""

import errno
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from orchestration.store_faults import known_words

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class IdentityError(Exception):
    """Base of this package's errors; no message holds an identifier, a token or a key."""


class MasterKeyError(IdentityError):
    """The master keys are missing, malformed or badly guarded."""


class WrongMasterKeyError(MasterKeyError):
    """The master keys are well formed, but not those that the vault was made with."""


class RotationUnfinishedError(MasterKeyError):
    """New master keys are being put in place; nothing else may use either set meanwhile."""


class RotationError(IdentityError):
    """The keys cannot be rotated now; the message says what has to be done first. Nothing was changed."""


class PersonNotFoundError(IdentityError):
    """The vault has no readable entry for that subject token: never delivered, or its key was destroyed."""


class DamagedEntryError(IdentityError):
    """A sealed value is not what was sealed for that person and attribute."""


class DuplicateSubjectError(IdentityError):
    """A delivery names one customer twice, or not at all."""


class ReferenceDataError(IdentityError):
    """A reference seed cannot be read; the message names file, line and mend."""


def _cause(error: Exception) -> str:
    """What may be told of a foreign error: its class, and the cause where it lies in the machine."""
    name, text = type(error).__name__, str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return f"{name}: the disk is full; free some space and start the run again"
    if "OutOfMemory" in name or isinstance(error, MemoryError):
        return f"{name}: not enough memory; raise SEGLINE_MEMORY_LIMIT_MB"
    if name in ("ParserException", "BinderException", "CatalogException"):
        # They quote the statement, and no statement of this package has a value in it.
        return f"{name}: {text}"
    if "database is locked" in text:
        return f"{name}: another process holds the store; wait for it and start the run again"
    if words := known_words(text):
        return f"{name}: {words}"
    return f"{name} (its message is withheld, it may hold personal data)"


def without_values(stage: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Let only this package's errors out; any other becomes an `IdentityError` without its text."""

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @wraps(function)
        def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            try:
                return function(*args, **kwargs)
            except IdentityError:
                raise
            except Exception as error:
                cause = _cause(error)
            # Raised outside the handler: inside it the new error would carry the old one, text and all, as
            # context.
            raise IdentityError(f"{stage} failed with {cause}")

        return guarded

    return decorate
