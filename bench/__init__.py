"""Benchmarks of evloop against its peers: `python3 -m bench`. docs/performance.md has the figures.

Processes are measured from outside, by their CPU clocks and by what their peers see; only the
micro-benchmarks (`bench/harness/cores.py`, in processes of their own) import evloop.
"""
