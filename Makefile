# What takes longer than ./check. Everything runs from the virtual environment that ./check makes.
.PHONY: check long slow sim fuzz bench lab pyz completion clean

export EVLOOP_INTERFACE := 127.0.0.1
PYTHON := .venv/bin/python
JOBS := 2

check:
	./check

.venv/bin/python:
	./check --collect-only -q

long: check slow sim fuzz lab bench

slow: .venv/bin/python
	$(PYTHON) -m pytest -q -n $(JOBS) -m slow

sim: .venv/bin/python
	$(PYTHON) -m tests.simulation --swarm 10000 --jobs $(JOBS)
	$(PYTHON) -m tests.simulation --adversary 10000 --jobs $(JOBS)

fuzz: .venv/bin/python
	$(PYTHON) -m tests.fuzz.editor --steps 1000000

lab: .venv/bin/python
	$(PYTHON) -m tests.lab --hosts 5 --messages 300 --loss 30
	$(PYTHON) -m tests.lab --hosts 20 --messages 400 --loss 30

bench: .venv/bin/python
	$(PYTHON) -m bench

# One file that runs everywhere Python is; the tests make sure that it is always the same bytes.
pyz:
	python3 -m tools.pyz evloop.pyz

# contrib/completion, from the table of commands and the options.
completion:
	python3 -m tools.completion

clean:
	rm -rf evloop.pyz .venv .venv-* bench/build .hypothesis .mypy_cache .pytest_cache .ruff_cache
