"""Rights of a person over their own data: requests, suppression, erasure, proof, copies."""
