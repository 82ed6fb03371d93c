"""Whole programs against each other: what is built now against the releases of the past."""
