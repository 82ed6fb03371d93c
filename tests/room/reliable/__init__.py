"""Tests of the engine that loses nothing."""
