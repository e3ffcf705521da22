# Entry points for building, testing and measuring. Each target installs its requirements; see `make help`.

build_packages := build-essential pkg-config libssl-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
run_packages := $(build_packages) mosquitto mosquitto-clients gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav
# prometheus provides promtool. On Debian the package also starts the Prometheus server on port 9090.
test_packages := $(run_packages) libgstrtspserver-1.0-dev gstreamer1.0-plugins-ugly openssl prometheus python3-jinja2 python3-yaml libfaketime \
	chromium chromium-driver python3-pip
# For the machine itself, for the RTSP camera, and for the subscriber. QEMU is unpacked if it is not installed.
vm_packages := mmdebstrap uidmap fakeroot e2fsprogs mosquitto-clients python3-gi gir1.2-gst-rtsp-server-1.0 \
	gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly

# For make model: a folder of ImageNet photos named NNNN_name.jpg (NNNN: the class).
PHOTOS ?= photos
# For make layers and make cycle-model: a .tflite file. For make layers: the highest kernel set to use.
MODEL ?= models/squeezenet_v1.1_int8.tflite
KERNELS ?=
# For make measure-seeing: the folder that models/everyday/prepare.py has made. Empty: no crops are measured.
WORK ?=
SECONDS_EACH ?= 1800
# For make soak: how long.
HOURS ?= 2
# For make deny: 1 also fetches the database of known vulnerabilities and checks against it.
ADVISORIES ?=
# For make scenes: the random seed.
SEED ?= 1
# For make deb and deb-arm64: the version of the package, if not that of the crate.
VERSION ?=
# For make test-vm: a package. Empty: make deb builds one.
DEB ?=

.PHONY: help run test test-aarch64 test-vm bench layers cycle-model measure-capture measure-seeing measure-everyday memcheck fuzz measure-delivery soak deb deb-arm64 lint-deb test-deb configuration-reference page-pictures deny model clip clip-small scenes scenes-short
help:
	@echo "make run               build camfire and run the demo"
	@echo "make test              check the format, run clippy and all tests"
	@echo "make test-aarch64      run the engine's tests for aarch64 under emulation (part of make test)"
	@echo "make test-vm           install the package in a virtual machine and check the service (DEB=file.deb)"
	@echo "make bench             measure the inference time on this machine"
	@echo "make layers            measure the inference time per layer (MODEL=file.tflite, KERNELS=set)"
	@echo "make cycle-model       estimate the inference time on Raspberry Pi 4 and 5 with a static cycle model"
	@echo "                       (MODEL=file.tflite)"
	@echo "make measure-capture   measurements of docs/capture.md (CLIPS=folder of clips of fixed cameras)"
	@echo "make measure-seeing    measurements of docs/seeing.md (CLIPS=folder of real clips, PEER=other program,"
	@echo "                       WORK=folder of held-out crops, see models/everyday/README.md)"
	@echo "make measure-delivery  measurements of docs/delivery.md and docs/fleet.md (WHAT=\"bytes fleet\" selects)"
	@echo "make soak              run the packaged camfire for hours with what goes wrong in that time (HOURS=n)"
	@echo "make deb               build the Debian package for amd64 (VERSION=x.y.z-n; tools: see packaging/build-deb.sh)"
	@echo "make deb-arm64         build the Debian package for arm64"
	@echo "make lint-deb          check both packages with lintian"
	@echo "make test-deb          install both packages in fresh Debian 12 and 13 roots and use them (needs root)"
	@echo "make configuration-reference  renew docs/configuration.md"
	@echo "make page-pictures     renew the pictures of docs/page.md"
	@echo "make deny              check licences, versions and sources of the dependencies (ADVISORIES=1: and"
	@echo "                       known vulnerabilities)"
	@echo "make memcheck          run the engine's tests under valgrind"
	@echo "make fuzz              fuzz model loading and commands, 30 minutes per target (SECONDS_EACH=n)"
	@echo "make model             rebuild the model from the published weights (PHOTOS=folder)"
	@echo "make clip              regenerate assets/demo.mp4"
	@echo "make scenes            generate long scenes for motion and tracking in build/scenes (SEED=n)"
	@echo "make clip-small        regenerate tests/data/demo-small.mp4"
	@echo "make scenes-short      regenerate the short scenes in tests/data/scenes"

run:
	@development/need.sh $(run_packages)
	cargo run --release --locked --bin camfire -- demo

test:
	@development/need.sh $(test_packages)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	# Most of an integration test is waiting.
	RUST_TEST_THREADS=$$((2 * $$(nproc))) cargo test --workspace --locked
	development/test-aarch64.sh

test-aarch64:
	development/test-aarch64.sh

# Not part of make test: docs/vm-test.md. Debian's Python, because another one has no GObject.
test-vm: $(if $(DEB),,deb)
	@development/need.sh $(vm_packages)
	/usr/bin/python3 tests/vm/run.py --deb "$(or $(DEB),$$(ls -t build/packages/camfire_*_amd64.deb | head -n 1))"

bench:
	@development/need.sh $(run_packages)
	cargo run --release --locked --bin camfire -- bench

layers:
	cargo run --release --locked -p camfire-engine --no-default-features --example layers -- $(MODEL) $(KERNELS)

aarch64_layers = target/aarch64/aarch64-unknown-linux-gnu/release/examples/layers
cycle-model:
	@development/need.sh llvm
	development/test-aarch64.sh --no-run
	. development/aarch64-env.sh && cargo build --release --locked -p camfire-engine --no-default-features \
		--target aarch64-unknown-linux-gnu --target-dir target/aarch64 --example layers && \
		$$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER $(aarch64_layers) $(MODEL) --shapes > target/shapes.txt
	python3 engine/tools/cycle_model.py $(aarch64_layers) target/shapes.txt

measure-capture:
	@development/need.sh $(test_packages) gstreamer1.0-tools python3-gi python3-numpy gir1.2-gst-rtsp-server-1.0
	cargo build --release --locked
	CLIPS=$(CLIPS) /usr/bin/python3 benches/capture.py latency cpu still adaptive memory scaling reconnects

measure-seeing:
	@development/need.sh $(run_packages) gstreamer1.0-plugins-ugly gstreamer1.0-tools
	cargo build --release --locked
	CLIPS=$(CLIPS) PEER="$(PEER)" python3 benches/seeing.py scores cost inference
	$(if $(WORK),$(MAKE) measure-everyday)

measure-everyday: build/everyday-venv
	cargo build --release --locked -p camfire-engine --no-default-features --example features
	build/everyday-venv/bin/python models/everyday/head.py $(WORK) models/everyday/everyday_int8.tflite \
		target/release/examples/features --size 128 --measure --out models/everyday/everyday.head.safetensors
	build/everyday-venv/bin/python models/everyday/head.py $(WORK) models/squeezenet_v1.1_int8.tflite \
		target/release/examples/features --measure --out models/everyday/squeezenet_v1.1.head.safetensors

measure-delivery: build/delivery-venv
	@development/need.sh $(run_packages)
	cargo build --release --locked
	build/delivery-venv/bin/python benches/delivery.py $(WHAT)

# The first build installs cargo-deb 3.8.0 and cargo-auditable 0.7.7 in build/tools. The profile dist takes
# minutes. The path of the package is the last line.
deb:
	@development/need.sh $(build_packages) binutils dpkg-dev git python3
	packaging/build-deb.sh amd64 $(VERSION)

deb-arm64:
	@development/need.sh $(build_packages) binutils git python3
	development/test-aarch64.sh --no-run
	packaging/build-deb.sh arm64 $(VERSION)

lint-deb: deb deb-arm64
	@development/need.sh lintian
	packaging/lint-deb.sh

test-deb: deb deb-arm64
	@development/need.sh debootstrap qemu-user-static
	# Cargo has nothing to do; only the version of this one differs.
	packaging/build-deb.sh amd64 99.0-1
	tests/packages/run.sh
# tests/documents.rs fails if the page is not current.
configuration-reference:
	@development/need.sh $(build_packages)
	cargo run --locked --bin camfire -- generate build/generated
	cp build/generated/configuration.md docs/

# The first run installs cargo-deny in build/tools, which takes minutes. fuzz/ is a workspace of its own.
# The pictures are those of a test.
page-pictures:
	@development/need.sh $(test_packages)
	CAMFIRE_PAGE_PICTURES=1 cargo test --locked --test camfire a_phone_and_a_desk

deny:
	@development/need.sh build-essential pkg-config
	[ "$$(build/tools/bin/cargo-deny --version 2> /dev/null)" = "cargo-deny 0.20.2" ] || \
		cargo install --locked --root build/tools cargo-deny@0.20.2
	build/tools/bin/cargo-deny --locked check licenses bans sources $(if $(ADVISORIES),advisories)
	build/tools/bin/cargo-deny --locked --config deny.toml --manifest-path fuzz/Cargo.toml check licenses sources

# Finds memory errors in the compiled code. Miri is not an option: it needs a nightly compiler and cannot run
# assembly.
memcheck:
	@development/need.sh $(build_packages) valgrind
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9" \
		cargo test -p camfire-engine --no-default-features --locked --lib -- --test-threads 1
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind -q --error-exitcode=9" \
		cargo test -p camfire-engine --no-default-features --locked --test engine -- --test-threads 1 operators::

# Needs cargo-fuzz. RUSTC_BOOTSTRAP enables the unstable coverage flags in the stable compiler.
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

clip-small: build/clip-venv
	build/clip-venv/bin/python assets/make_demo.py --small tests/data/demo-small.mp4

scenes: build/clip-venv
	build/clip-venv/bin/python assets/make_scenes.py --seed $(SEED) --out build/scenes

scenes-short: build/clip-venv
	build/clip-venv/bin/python assets/make_scenes.py --short --seed 7 --out tests/data/scenes

build/model-venv: models/requirements.txt
	python3 -m venv $@
	$@/bin/pip install --quiet -r $<
	@touch $@

build/everyday-venv: models/everyday/requirements.txt
	python3 -m venv $@
	$@/bin/pip install --quiet -r $<
	@touch $@

# The packaged binary, unpacked, because installing it would start the service.
soak: deb build/soak-venv
	@development/need.sh $(run_packages) python3-gi gir1.2-gst-rtsp-server-1.0
	rm -rf build/soak/root
	dpkg-deb -x $$(ls -t build/packages/camfire_*_amd64.deb | head -1) build/soak/root
	build/soak-venv/bin/python benches/soak/run.py build/soak/root/usr/bin/camfire $(HOURS) build/soak

build/soak-venv: benches/soak/requirements.txt
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
