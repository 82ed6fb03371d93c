"""The tests: one file for each module, and tests of the whole."""
