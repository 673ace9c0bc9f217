# One line per target; what a target needs it makes. `make run` and `make test` are all a newcomer needs.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
VENV := .venv/bin
ARGS ?=

.PHONY: run test test-cluster check compile bench simulate images clean help
help: ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile
run: .venv/ready ## Fashion-MNIST from raw files to a canaried, promoted endpoint on this machine
	@$(VENV)/penstock laptop stop fashion-mnist --missing-ok
	@$(VENV)/penstock run train_and_deploy --profile linear $(ARGS)
	@$(VENV)/penstock run train_and_deploy --profile convnet $(ARGS)
test: check ## every test that needs no cluster
	@$(VENV)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not cluster" --cov --cov-report=term $(ARGS)
test-cluster: ## the tests that need a cluster, on that of KUBECONFIG; CONTRIBUTING.md says what it must have
	@test -n "$$KUBECONFIG" || { echo "test-cluster needs a cluster: export KUBECONFIG=its-kubeconfig; CONTRIBUTING.md says what it must have" >&2; exit 2; }
	@test -x $(VENV)/pytest || { echo "penstock is not installed here yet: make check" >&2; exit 2; }
	@$(VENV)/pytest -p no:cacheprovider -m cluster -v --log-cli-level=INFO tests/cluster tests/conformance $(ARGS)
check: .venv/ready .typing/penstock ## lint, types, architecture
	@$(VENV)/ruff check . && $(VENV)/mypy .typing/penstock && $(VENV)/pytest -p no:cacheprovider tests/test_architecture.py
compile: .venv/ready ## pipelines/compiled/*.yaml for the Kubeflow UI
	@$(VENV)/penstock compile
bench: .venv/ready ## performance tables; prints, never fails on a figure
	@$(VENV)/pytest -p no:cacheprovider -o python_files='bench_*.py' --import-mode=prepend -s tests/benchmarks $(ARGS)
simulate: .venv/ready ## docs/statistics.md: how often the tests of a canary are wrong, and how fast; about an hour on 2 cores
	@$(VENV)/python tests/simulation/simulate.py --out docs $(ARGS)
images: ## the four container images, with buildah
	@set -e; for name in light torch convert serve; do buildah build --layers -t "penstock-python-$$name:$$(sed -n 's/^version = //p' setup.cfg)" -f "components/images/$$name.containerfile" $(BUILDAH_ARGS) .; done
clean: ## removes what the other targets made here; runs/ stays
	@rm -rf .venv .typing .mypy_cache .pytest_cache .ruff_cache .coverage .hypothesis
# mypy finds the packages by folders named like them: the tree as setup.cfg maps it.
.typing/penstock: Makefile
	@mkdir -p $@ && for name in components inference manifests pipelines; do ln -sfn ../../$$name $@/$$name; done && touch $@
.venv/ready: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "penstock needs Python 3.11, 3.12 or 3.13; none was found (Debian, Ubuntu: apt-get install python3 python3-venv)" >&2; exit 2; }
	@echo "installing into .venv: about 6 GB with PyTorch, once"
	@$(PYTHON) -m venv .venv || { echo "python3-venv is missing (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@$(VENV)/pip install --disable-pip-version-check --log .venv/install.log -e '.[dev]' | sed -nu 's/^ *\(Downloading\|Installing\)/  \1/p' | cut -c1-100
	@touch $@
