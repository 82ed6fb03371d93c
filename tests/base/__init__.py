"""Tests of the values that everybody needs."""
