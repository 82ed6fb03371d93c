"""Tests of a live room and of plain rooms."""
