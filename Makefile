# make run · make test · make bench · make model · make clip: each does its own set-up.

build_packages := build-essential pkg-config libssl-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
run_packages := $(build_packages) mosquitto gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav
# prometheus is for its promtool; Debian starts its server, too, on port 9090.
test_packages := $(run_packages) libgstrtspserver-1.0-dev gstreamer1.0-plugins-ugly openssl prometheus

# A folder of ImageNet photos named NNNN_name.jpg, NNNN being the class: for make model.
PHOTOS ?= photos
# For make layers: a .tflite, and the best kernels to use.
MODEL ?= models/squeezenet_v1.1_int8.tflite
KERNELS ?=
SECONDS_EACH ?= 1800
# For make scenes: another number, other scenes.
SEED ?= 1

.PHONY: help run test test-aarch64 bench layers cycle-model measure-capture measure-seeing memcheck fuzz measure-delivery model clip scenes scenes-short
help:
	@echo "make run    build camfire and see it work: a clip, a broker, what is seen"
	@echo "make test   everything that must hold: format, lints, tests"
	@echo "make test-aarch64  the engine's tests on aarch64, under emulation (part of make test)"
	@echo "make bench  time the network on this machine"
	@echo "make layers  the same step by step"
	@echo "make cycle-model  what it would take on a Pi 4 and a Pi 5, by a static model of their cores"
	@echo "make measure-capture  what docs/capture.md tells (CLIPS=folder of clips of fixed cameras)"
	@echo "make measure-seeing   what docs/seeing.md tells (CLIPS=folder of real clips, PEER=another program)"
	@echo "make measure-delivery what docs/delivery.md and docs/fleet.md tell (WHAT=\"bytes fleet\" for some of it)"
	@echo "make memcheck  the engine's tests under valgrind"
	@echo "make fuzz   half an hour each of broken models and of commands (needs cargo-fuzz; SECONDS_EACH=n)"
	@echo "make model  build models/ again from the published weights (PHOTOS=folder)"
	@echo "make clip   build assets/demo.mp4 again from its photographs"
	@echo "make scenes  long scenes for motion and tracking, into build/scenes (SEED=n)"
	@echo "make scenes-short  build the short ones in tests/data/scenes again"

run:
	@packaging/need.sh $(run_packages)
	cargo run --release --locked --bin camfire -- demo

test:
	@packaging/need.sh $(test_packages)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked
	packaging/test-aarch64.sh

test-aarch64:
	packaging/test-aarch64.sh

bench:
	@packaging/need.sh $(run_packages)
	cargo run --release --locked --bin camfire -- bench

layers:
	cargo run --release --locked -p camfire-engine --no-default-features --example layers -- $(MODEL) $(KERNELS)

cycle-model:
	@packaging/need.sh llvm
	packaging/test-aarch64.sh --no-run
	. packaging/aarch64-env.sh && cargo build --release --locked -p camfire-engine --no-default-features \
		--target aarch64-unknown-linux-gnu --target-dir target/aarch64 --example layers
	python3 engine/tools/cycle_model.py target/aarch64/aarch64-unknown-linux-gnu/release/examples/layers

measure-capture:
	@packaging/need.sh $(test_packages) mosquitto-clients gstreamer1.0-tools python3-gi python3-numpy gir1.2-gst-rtsp-server-1.0
	cargo build --release --locked
	CLIPS=$(CLIPS) /usr/bin/python3 benches/capture.py latency cpu still adaptive memory scaling reconnects

measure-seeing:
	@packaging/need.sh $(run_packages) gstreamer1.0-plugins-ugly gstreamer1.0-tools
	cargo build --release --locked
	CLIPS=$(CLIPS) PEER="$(PEER)" python3 benches/seeing.py scores cost

measure-delivery: build/delivery-venv
	@packaging/need.sh $(run_packages)
	cargo build --release --locked
	build/delivery-venv/bin/python benches/delivery.py $(WHAT)

# Checks what Miri would, but in the compiled code: Miri needs a nightly compiler and does not support assembly.
memcheck:
	@packaging/need.sh $(build_packages) valgrind
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9" \
		cargo test -p camfire-engine --no-default-features --locked --lib -- --test-threads 1
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9" \
		cargo test -p camfire-engine --no-default-features --locked --test engine -- --test-threads 1 operators::

# The compiler's own flags for coverage are not stable; the code is built by the stable compiler all the same.
fuzz:
	mkdir -p fuzz/corpus/load
	cp engine/tests/data/*/*.tflite fuzz/corpus/load
	cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . load -- -max_total_time=$(SECONDS_EACH) -max_len=40000
	cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . run_mutated -- -max_total_time=$(SECONDS_EACH) -max_len=60
	cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . command -- -max_total_time=$(SECONDS_EACH) -max_len=5000 -dict=command.dict

model: build/model-venv
	build/model-venv/bin/python models/build.py --photos $(PHOTOS)

clip: build/clip-venv
	build/clip-venv/bin/python assets/make_demo.py

scenes: build/clip-venv
	build/clip-venv/bin/python assets/make_scenes.py --seed $(SEED) --out build/scenes

scenes-short: build/clip-venv
	build/clip-venv/bin/python assets/make_scenes.py --short --seed 7 --out tests/data/scenes

build/model-venv: models/requirements.txt
	python3 -m venv $@
	$@/bin/pip install --quiet -r $<
	@touch $@

build/delivery-venv: benches/delivery.requirements.txt
	python3 -m venv $@
	$@/bin/pip install --quiet -r $<
	@touch $@

build/clip-venv: assets/requirements.txt
	python3 -m venv $@
	$@/bin/pip install --quiet -r $<
	@touch $@
