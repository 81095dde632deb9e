"""What can go wrong with the ledger. No message holds a customer's identifier or a key."""


class LedgerError(Exception):
    """The ledger cannot be written or read as asked; nothing was changed."""


class SigningKeyError(LedgerError):
    """The signing key is missing, malformed, badly guarded, or not the one that signed the ledger so far."""


class ReplayError(LedgerError):
    """A decision cannot be rebuilt: nothing is on record, or what was stored is incomplete."""
