"""Formal properties of the stream modules."""
