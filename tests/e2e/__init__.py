"""Whole programs against each other, some of them not ours."""
