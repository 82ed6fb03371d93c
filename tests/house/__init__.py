"""Tests of the house: layout, style, limits, documentation."""
