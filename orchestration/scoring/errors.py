"""What can go wrong with a model, each with its mend; nothing here holds a subject's data.

Belongs here: the error family. Does not belong here: handling.
"""


class ScoringError(RuntimeError):
    """Base of this package's errors."""


class TooFewLabels(ScoringError):
    """There is not enough evidence to fit or to judge a model."""


class SuspectedLeakage(ScoringError):
    """A model or a single feature tells good from bad better than honest data allow."""


class BadModel(ScoringError):
    """A model document that is malformed, changed since it was made, or made for other columns."""


class PromotionRefused(ScoringError):
    """A promotion or rollback that the rules of change control forbid."""
