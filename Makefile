# make demo and make test do all the set-up; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check -q
# Where downloaded data sets are (README.md); a folder shared/data beside the checkout is found by itself.
HAEMFED_DATA ?= $(abspath $(wildcard ../shared/data))
export HAEMFED_DATA
OUT ?= runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test test-all lint audit-dependencies bench results clean

demo: .venv/.run
ifneq ($(wildcard $(HAEMFED_DATA)/aml_amlsg/AMLSG_Clinical_Anon.RData),)
	.venv/bin/haemfed run experiments/configs/demo.yaml --out $(OUT)
else
	@echo "No AML data in HAEMFED_DATA: the demo runs on GBSG-2, which needs no download (README.md, Data)."
	.venv/bin/haemfed run experiments/configs/demo_offline.yaml --out $(OUT)
endif

test: .venv/.test
	.venv/bin/python -m pytest -q -n 2 --dist loadgroup -m "not slow"

test-all: .venv/.test
	.venv/bin/python -m pytest -q -n 2 --dist loadgroup

lint: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pip check
	git ls-files -z -- ':!*.png' | xargs -0 .venv/bin/detect-secrets-hook
	@if $(MAKE) -s .venv/.audit; then .venv/audit/bin/python .ci/audit_dependencies.py; \
		else echo "dependencies were NOT checked: pip-audit cannot be installed (no network?)"; fi

# Asks an advisory database: needs the network.
audit-dependencies: .venv/.audit
	.venv/audit/bin/python .ci/audit_dependencies.py --required

bench: .venv/.run
	.venv/bin/haemfed bench round --json
	.venv/bin/haemfed bench evaluation --json

# The whole comparison table of RESULTS.md; takes long, and goes on where it was stopped. ONLY=aml for a part.
RESULTS ?= runs/results
results: .venv/.run
	.venv/bin/haemfed results experiments/configs/results.yaml --out $(RESULTS) --update RESULTS.md $(addprefix --only ,$(ONLY))

.venv/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "haemfed needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/.run: .venv/.python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[all]'
	touch $@

.venv/.audit: .venv/.python
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip --disable-pip-version-check -q install pip-audit
	touch $@

.venv/.test: .venv/.run
	$(PIP) install -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv runs *.egg-info
