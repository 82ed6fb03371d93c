# What takes longer than ./check. Everything runs from the virtual environment that ./check makes.
.PHONY: check long slow sim fuzz bench lab pyz completion clean install uninstall

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
	$(PYTHON) -m tests.fuzz.irc --steps 500000

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

# -- installing without pip: `make install PREFIX=/usr/local`, with DESTDIR= for packages ---------

PREFIX ?= /usr/local
DESTDIR ?=
PYTHON3 ?= $(shell command -v python3)
MODULES := $(PREFIX)/lib/evloop
MAN := $(PREFIX)/share/man
UNITS := $(PREFIX)/lib/systemd/system
PROGRAMS := evloop evloop-server evloop-client
MODULE_evloop := evloop.__main__
MODULE_evloop-server := evloop.server
MODULE_evloop-client := evloop.client

install:
	@test -n "$(PYTHON3)" || { echo "make install: there is no python3; name one: PYTHON3=" >&2; exit 1; }
	mkdir -p "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(MAN)/man1" "$(DESTDIR)$(MAN)/man7"
	mkdir -p "$(DESTDIR)$(UNITS)"
	find evloop -name '*.py' | while read -r file; do \
	    mkdir -p "$(DESTDIR)$(MODULES)/$${file%/*}" && \
	    install -m 644 "$$file" "$(DESTDIR)$(MODULES)/$$file" || exit 1; \
	done
	$(foreach name,$(PROGRAMS),$(call program,$(name)))
	install -m 644 man/evloop-server.1 man/evloop-client.1 "$(DESTDIR)$(MAN)/man1"
	install -m 644 man/evloop.7 "$(DESTDIR)$(MAN)/man7"
	sed 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' contrib/systemd/evloop.service \
	    > "$(DESTDIR)$(UNITS)/evloop.service"
	install -m 644 contrib/systemd/evloop.socket "$(DESTDIR)$(UNITS)/evloop.socket"

# Without the bytes of compiled modules: who may write there has Python make them once.
define program
printf '%s\n' '#!$(PYTHON3)' 'import sys' 'sys.path.insert(0, "$(MODULES)")' \
    'from $(MODULE_$(1)) import main' 'sys.exit(main())' > "$(DESTDIR)$(PREFIX)/bin/$(1)"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/$(1)"
	
endef

uninstall:
	rm -rf "$(DESTDIR)$(MODULES)"
	rm -f $(foreach name,$(PROGRAMS),"$(DESTDIR)$(PREFIX)/bin/$(name)")
	rm -f "$(DESTDIR)$(MAN)/man1/evloop-server.1" "$(DESTDIR)$(MAN)/man1/evloop-client.1"
	rm -f "$(DESTDIR)$(MAN)/man7/evloop.7"
	rm -f "$(DESTDIR)$(UNITS)/evloop.service" "$(DESTDIR)$(UNITS)/evloop.socket"
