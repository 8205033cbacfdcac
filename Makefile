.PHONY: up down test test-purepy test-asan fuzz faults lint type proto bench clean hosttest
RUN = @exec deploy/bootstrap.sh run
DEV = @exec deploy/bootstrap.sh dev
export PYTHON

up:
	@deploy/states.sh note $(ARGS)
	$(RUN) python -m armadillo up $(ARGS)
down: ; @deploy/down.sh $(ARGS)
test: ; $(DEV) python -m pytest $(ARGS)
test-purepy: ; $(DEV) env SYNCCORE_PUREPY=1 python -m pytest --purepy -m "not e2e and not faults" $(ARGS)
test-asan: ; $(DEV) deploy/asan.sh $(ARGS)
# SECONDS is a variable of some shells, so only what is said on the command line counts.
fuzz: ; $(DEV) deploy/fuzz.sh $(if $(filter command line,$(origin SECONDS)),--seconds $(SECONDS)) $(ARGS)
faults: ; $(DEV) python -m tests.faults --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) $(ARGS)
# A Debian of its own in QEMU, with systemd and cgroup version 2: the first time takes some ten minutes.
hosttest: ; $(DEV) deploy/hosttest.sh $(or $(SUITE),trixie) $(ARGS)
lint: ; $(DEV) sh -c "ruff format --check . && ruff check . && lint-imports"
type: ; $(DEV) mypy
proto: ; $(DEV) deploy/proto.sh
bench: ; $(DEV) sh -c "python benchmarks/memory.py $(ARGS) && python benchmarks/sync.py $(ARGS) && python benchmarks/pods.py $(ARGS) && python benchmarks/devices.py $(ARGS)"
clean: ; @deploy/clean.sh $(ARGS)
