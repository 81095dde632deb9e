"""What a user of clusters can mend.

Belongs here: the room's error family. Does not belong here: handling it.
"""


class ClusteringError(RuntimeError):
    """A clustering cannot be fitted, read or named; the message says why and what to do."""


class NamingRefused(ClusteringError):
    """A name that may not be given: by this person, to this cluster, or in these words."""
