# Every task makes the virtual environments that it needs under .venv/ and keeps builds under .cache/.
# ARGS are passed on, e.g. `make test ARGS="-k breaker -x"`, `make demo ARGS=--quick`.
PYTHON ?= $(firstword $(foreach name,python3 python3.15 python3.14 python3.13 python3.12 python3.11,$(if $(shell \
	$(name) -c 'import sys; print(1 if sys.version_info >= (3, 11) else "")' 2>/dev/null),$(name))) python3)
TASKS := demo test quick test-others test-all bench docs lint soak coverage mutation matrix pythons free-threaded windows \
	workflows

.PHONY: help clean $(TASKS)

help:
	@echo "make demo       an outage, spikes, a retry storm and a lost region, bare and guarded"
	@echo "make test       the tests of every day, on this Python, in eight minutes; PYTHON=... takes another one"
	@echo "make quick      policies and the native core on this Python, in two minutes"
	@echo "make test-others  what can differ on the other Pythons that are present"
	@echo "make test-all   every test on every Python, and the coverage; before a release"
	@echo "make coverage   the coverage alone"
	@echo "make bench      microbenchmarks and failover against the peers, into benchmarks/RESULTS.md"
	@echo "make docs       docs/_build/html"
	@echo "make lint       ruff, clang-format, cython-lint, mypy, pyright, stubtest, house rules"
	@echo "make soak       the long storms"
	@echo "make mutation   small faults in policies and the native core, and whether the tests notice; an hour at most"
	@echo "make matrix     the integrations with the oldest and the newest version of each client"
	@echo "make pythons    brings newer Pythons, and one without the GIL, for make test-others, under ~/.cache/resilio"
	@echo "make free-threaded  the compiled core on a Python without the GIL"
	@echo "make windows    compiles the core for Windows with mingw-w64, and runs the algorithms under Wine"
	@echo "make workflows  the commands of the public CI, those that can run here"
	@echo "make clean      removes .venv, .cache and builds"

$(TASKS):
	@$(PYTHON) tools/dev.py $@ $(ARGS)

clean:
	rm -rf .venv .cache build dist docs/_build *.egg-info
	find resilio -name '*.so' -delete
