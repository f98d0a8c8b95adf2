"""Ranges that more than one part of the compiler holds its input to."""

INPUT_SIZES = (8, 2048)
"""Smallest and largest side, in pixels, of the square image that an export takes; the reader of models alone takes smaller ones, too."""
