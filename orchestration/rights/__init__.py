"""Rights of the person: requests, opt-out, erasure, proof, access, retention."""
