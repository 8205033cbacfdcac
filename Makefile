.PHONY: up down test test-purepy lint type proto bench clean
RUN = @exec deploy/bootstrap.sh run
DEV = @exec deploy/bootstrap.sh dev
export PYTHON

up: ; $(RUN) python -m armadillo up $(ARGS)
down: ; $(RUN) python -m armadillo down $(ARGS)
test: ; $(DEV) python -m pytest $(ARGS)
test-purepy: ; $(DEV) env SYNCCORE_PUREPY=1 python -m pytest --purepy -m "not e2e" $(ARGS)
lint: ; $(DEV) sh -c "ruff format --check . && ruff check . && lint-imports"
type: ; $(DEV) mypy
proto: ; $(DEV) deploy/proto.sh
bench: ; $(DEV) sh -c "python benchmarks/memory.py $(ARGS) && python benchmarks/sync.py $(ARGS)"
clean: ; @deploy/clean.sh
