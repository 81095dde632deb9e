"""What can go wrong with a request, said without any identifier.

Belongs here: the error family. Does not belong here: handling.
"""


class RightsError(Exception):
    """Base of this package's errors; no message holds an identifier, a token or a key. The message says how to mend."""


class UnknownRequestError(RightsError):
    """No request of that number was ever recorded."""


class TransitionError(RightsError):
    """The request is in a state that does not allow this step."""


class ErasureError(RightsError):
    """A store could not erase; the request stays open and the next `segline rights apply` goes on."""


class CertificateError(RightsError):
    """A certificate is missing, altered, or signed by another key."""
