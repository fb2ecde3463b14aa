"""Conformance material: the naive witness, vectors and clients."""
