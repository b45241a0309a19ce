# make demo   sign a message with a throwaway key and verify it
# make man    make the man pages again, from dkimpipe/man/*.md and the options of the commands
# make test   everything: what the tests need, ruff, mypy, the whole test suite
# make bench  what a message costs, beside other signers and verifiers: tables, bars, a picture
# make server  a whole mail server with Dovecot and Roundcube, in a throwaway copy of a fresh Debian
# make soak   what takes hours: faults, kills, load and fuzzing in their long form; it prints its counts

# The system's interpreter: one in somebody's home cannot be run by the user that pipe(8) takes.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV = .venv
# Many tests wait: for Postfix, for timers, for a name server that is silent.
WORKERS ?= $(shell expr 4 '*' $$(getconf _NPROCESSORS_ONLN))
# Modules are compiled once, not by each process that imports them.
unexport PYTHONDONTWRITEBYTECODE
PACKAGES = postfix libmail-dkim-perl opendkim opendkim-tools openssl dnsutils strace python3-venv \
           bind9 bind9-utils bind9-dnsutils swaks iproute2 man-db mandoc libsasl2-modules acl rspamd \
           putty-tools unzip

.PHONY: demo man test server soak bench lint clean debian

demo: $(VENV)/usable
	$(VENV)/bin/python tests/demo.py

man: $(VENV)/usable
	$(VENV)/bin/python -m dkimpipe.man

test: debian $(VENV)/installed lint
	$(VENV)/bin/python -m pytest -m 'not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder
	$(VENV)/bin/python -m pytest -m alone

# RELEASE=trixie or forky: another release of Debian than bookworm. The base systems are kept in .cache.
server: debian $(VENV)/installed
	@.ci/debian-packages debootstrap
	$(VENV)/bin/python tests/server/story.py $(if $(RELEASE),--release $(RELEASE))

soak: debian $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[test,soak]'
	$(VENV)/bin/python -m pytest -o python_files='soak_*.py' -s tests/soak

# ROUNDS=n more or fewer rounds than 15; PARTS=a,b some parts only; DKIMPROXY=path the source of DKIMproxy 1.4.1:
# the documents compare with it, so they are written only if it and all parts are measured.
bench: debian $(VENV)/installed
	$(if $(DKIMPROXY),@.ci/debian-packages libnet-server-perl)
	$(VENV)/bin/python tests/bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PARTS),--parts $(PARTS)) \
	    $(if $(DKIMPROXY),--dkimproxy $(DKIMPROXY))

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-logo
	MYPYPATH=tests:tests/lab:tests/bench:tests/server:tests/soak $(VENV)/bin/mypy

# As root with apt at hand: the packages of the system tests. Elsewhere those tests say what they leave out.
debian:
	@.ci/debian-packages $(PACKAGES)

# What users get, which is enough for the demo; then what the tests need besides.
$(VENV)/usable: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import ensurepip' || .ci/debian-packages python3-venv
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --use-pep517 --editable .
	touch $@

$(VENV)/installed: $(VENV)/usable
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
