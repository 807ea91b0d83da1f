# Tasks of a contributor; CI runs `check`. Each is a few commands that can be typed as well.

.PHONY: help fast tests check docs format

help:            ## this list
	@grep -E '^[a-z]+: .*##' Makefile | sed -E 's/:.*##/\t/' | expand -t 12

fast:            ## lint, format, and the tests of a few minutes
	uv run ruff check .
	uv run ruff format --check .
	uv run pytest

tests:           ## every test, the slow ones too
	uv run pytest -m ""

check:           ## everything that must hold before a change lands, as CI runs it
	bash .ci/run

docs:            ## redraw the gallery, and run the examples of all documents
	uv run python docs/build_gallery.py
	uv run pytest -m "" tests/test_docs.py tests/test_readme.py tests/test_conventions.py tests/test_extending_docs.py \
		tests/test_gallery.py tests/models/test_docs.py

format:          ## what ruff can fix by itself
	uv run ruff check --fix .
	uv run ruff format .
