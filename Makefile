# make run · make test · make bench · make model · make clip: each does its own set-up.

build_packages := build-essential pkg-config libssl-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
run_packages := $(build_packages) mosquitto gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav
test_packages := $(run_packages) libgstrtspserver-1.0-dev openssl

# A folder of ImageNet photos named NNNN_name.jpg, NNNN being the class: for make model.
PHOTOS ?= photos

.PHONY: help run test bench model clip
help:
	@echo "make run    build camfire and see it work: a clip, a broker, what is seen"
	@echo "make test   everything that must hold: format, lints, tests"
	@echo "make bench  time the network on this machine"
	@echo "make model  build models/ again from the published weights (PHOTOS=folder)"
	@echo "make clip   build assets/demo.mp4 again from its photographs"

run:
	@packaging/need.sh $(run_packages)
	cargo build --release --locked
	target/release/camfire demo

test:
	@packaging/need.sh $(test_packages)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked

bench:
	@packaging/need.sh $(run_packages)
	cargo build --release --locked
	target/release/camfire bench

model: build/model-venv
	build/model-venv/bin/python models/build.py --photos $(PHOTOS)

clip: build/clip-venv
	build/clip-venv/bin/python assets/make_demo.py

build/model-venv: models/requirements.txt
	python3 -m venv $@
	$@/bin/pip install --quiet -r $<
	@touch $@

build/clip-venv: assets/requirements.txt
	python3 -m venv $@
	$@/bin/pip install --quiet -r $<
	@touch $@
