"""What can go wrong with roles and grants. Belongs here: the error; no handling."""


class AccessError(Exception):
    """A role, grant or bundle that is not as it must be; the message says how to mend it and holds no key."""
