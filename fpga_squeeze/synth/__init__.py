"""Synthesis of an exported machine, stage by stage, beside what the resource model says (hardware/cost.py)."""
