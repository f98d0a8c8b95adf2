"""Puts the repository root on the import path, so that tests reach the `sim` package."""
