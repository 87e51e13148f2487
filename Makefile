# Graft's everyday commands; `make help` lists them. Works with GNU make 3.81 (macOS) and later.

SWIFT  ?= swift
PYTHON ?= python3
PREFIX ?= /usr/local
# Where `make verify` and `make bench` keep the Python stack they compare with: never inside the tree.
VERIFY_VENV ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/graft/verify-venv

ENGINE := $(CURDIR)/.torch
MODEL  := .models/smollm2-135m-instruct.gguf

# `GRAFT_TORCH=/path/to/torch make …` builds against, and runs with, a PyTorch that is already installed.
ifdef GRAFT_TORCH
LIBRARIES := $(GRAFT_TORCH)/lib
else
LIBRARIES := $(ENGINE)/lib
endif

ifeq ($(shell uname -s),Darwin)
LOADER_PATH := DYLD_LIBRARY_PATH
STATIC_STDLIB :=
else
LOADER_PATH := LD_LIBRARY_PATH
STATIC_STDLIB := --static-swift-stdlib
endif

# What is run on the emulated GPU: the tests of models, adapters, generation and training, and those that need a GPU.
EMULATED := $(CURDIR)/.build/emulated-cuda/lib
EMULATED_TESTS := --filter 'CUDA|AdaptersTests|ModelsTests|GenerationTests|TrainingTests' --skip 'Schedule|Logging|Configuration|Plan'

# A waiting engine thread spins for microseconds, as bin/graft has it: on a busy machine tests take ten times as long otherwise.
WITH_ENGINE := env GOMP_SPINCOUNT=10000 PKG_CONFIG_PATH="$(ENGINE)/lib/pkgconfig" $(LOADER_PATH)="$(LIBRARIES)"
SWIFT_SOURCES := $(wildcard Package.swift Sources Tests examples)

.PHONY: help engine model build test emulation demo verify bench methods format lint docs install clean

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s%s\n", $$1, $$2 }'

engine: ## unpack the pinned libtorch into .torch/ (once; about 0.5 GB; GRAFT_TORCH=… names an installed PyTorch instead)
	@$(PYTHON) Scripts/fetch_engine.py

model: ## fetch SmolLM2-135M-Instruct into .models/ (once; 93 MB)
	@$(PYTHON) Scripts/fetch_model.py

build: engine ## build graft in release mode; run it as bin/graft
	$(WITH_ENGINE) $(SWIFT) build -c release --product graft

test: engine ## run the whole test suite, then build the packages in examples/
	@# One test at a time: libtorch uses all cores by itself, and its random state is the process's.
	$(WITH_ENGINE) $(SWIFT) test -c release --no-parallel
ifeq ($(shell uname -s)$(GRAFT_TORCH),Linux)
	@$(MAKE) --no-print-directory emulation
endif
	@for package in examples/*/Package.swift; do \
	  [ -e "$$package" ] || continue; \
	  echo "building $$(dirname "$$package")"; \
	  $(WITH_ENGINE) $(SWIFT) build -c release --package-path "$$(dirname "$$package")" || exit 1; \
	done

emulation: engine ## run the tests of models and training on an emulated GPU, after `make test` or a build of the tests (Linux)
	$(MAKE) -C Tests/EmulatedCUDA -j $$(nproc) torch="$(ENGINE)" build="$(dir $(EMULATED))" check
	$(WITH_ENGINE) LD_LIBRARY_PATH="$(EMULATED)" GRAFT_TEST_DEVICE=cuda \
	  $(SWIFT) test -c release --no-parallel --skip-build $(EMULATED_TESTS)
	@# A chip before Ampere, which has no flash attention.
	$(WITH_ENGINE) LD_LIBRARY_PATH="$(EMULATED)" GRAFT_TEST_DEVICE=cuda EMULATED_CUDA_CAPABILITY=75 \
	  $(SWIFT) test -c release --no-parallel --skip-build --filter 'CUDA'

demo: build model ## fine-tune SmolLM2 on the demo's data and show the answers before and after
	examples/demo/run.sh

verify: build model ## compare with transformers and PEFT on the real SmolLM2 (fetches the Python stack, about 3 GB)
	$(PYTHON) Scripts/verify.py --venv "$(VERIFY_VENV)"

bench: build model ## measure against transformers + PEFT; ARGS="--rows 200" and the like are passed on
	$(PYTHON) Benchmarks/bench.py --venv "$(VERIFY_VENV)" $(ARGS)

methods: build model ## train every method on the demo's data and write the table of docs/methods.md; ARGS="--only lora" and the like are passed on
	$(PYTHON) Scripts/methods.py $(ARGS)

format: ## format the Swift sources in place
	$(SWIFT) format -i -r $(SWIFT_SOURCES)

lint: ## check the format of the Swift sources; any finding fails
	$(SWIFT) format lint --strict -r $(SWIFT_SOURCES)
	@# Does not link with libtorch 2.11: see Sources/CTorch/Kernels/ConstData.h.
	@! grep -rnF '.const_data_ptr<' Sources/CTorch || { echo "write constData<T>(tensor) for the above"; exit 1; }

docs: engine ## write the reference documentation of the public API to .build/docs
	rm -rf .build/symbols .build/docs
	mkdir -p .build/symbols
	$(WITH_ENGINE) $(SWIFT) build -c release --target Graft \
	  -Xswiftc -emit-symbol-graph -Xswiftc -emit-symbol-graph-dir -Xswiftc "$(CURDIR)/.build/symbols" \
	  --scratch-path .build/docs-scratch
	$$(dirname "$$(command -v $(SWIFT))")/docc convert --fallback-display-name Graft --fallback-bundle-identifier graft \
	  --additional-symbol-graph-dir .build/symbols --output-dir .build/docs

install: engine ## install to PREFIX (default /usr/local): bin/graft, lib/graft/
	$(WITH_ENGINE) $(SWIFT) build -c release --product graft $(STATIC_STDLIB) --scratch-path .build-install
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/graft"
	install -m 755 .build-install/release/graft "$(DESTDIR)$(PREFIX)/lib/graft/graft"
	install -m 755 bin/graft "$(DESTDIR)$(PREFIX)/bin/graft"
	@if ls "$(ENGINE)/lib/"libtorch_cpu.* >/dev/null 2>&1; then \
	  echo "copying the engine"; \
	  rm -rf "$(DESTDIR)$(PREFIX)/lib/graft/torch"; \
	  install -d "$(DESTDIR)$(PREFIX)/lib/graft/torch/lib"; \
	  cp "$(ENGINE)"/lib/lib* "$(DESTDIR)$(PREFIX)/lib/graft/torch/lib/"; \
	  cp -R "$(ENGINE)/licenses" "$(ENGINE)/VERSION" "$(DESTDIR)$(PREFIX)/lib/graft/torch/"; \
	else \
	  echo "built against the PyTorch in $(GRAFT_TORCH): set GRAFT_TORCH when running graft"; \
	fi

clean: ## remove what was built; .torch/ and .models/ stay
	rm -rf .build .build-install examples/*/.build
