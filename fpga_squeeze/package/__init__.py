"""Over-the-air packages: a network's integers entropy-coded for a machine's load port, whole or as a delta. docs/over-the-air.md describes the format."""
