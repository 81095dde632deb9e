"""Rights of the person: requests, opt-out, erasure, proof, access, retention."""
"""Rights of a person over their own data: requests, suppression, erasure, proof, copies."""
