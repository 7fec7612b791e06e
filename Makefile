# make help      this list
# make lib       the C libraries, shared and static, in target/release
# make header    include/onceflight.h anew from src/ffi
# make install   headers, libraries, pkg-config and CMake files into PREFIX (/usr/local), under DESTDIR if given
# make wheel     the Python wheel, in python/dist
# make test      every test that needs only stable Rust, gcc, cmake, Python and the stores' servers; installs
#                what is missing, and runs private servers
# make verify    sanitizers, valgrind, the models' controls, the oldest Rust
# make soak      the long runs: schedules, stress, fuzzing, killed processes, a million records in each store,
#                simulated clusters, and all tests again and again; scripts/soak.sh says how much of each
# make clean     everything that was built

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
# The C ABI, with every store.
FEATURES = capi,stores
TARGET = $(or $(CARGO_TARGET_DIR),target)

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

lib:
	$(CARGO) rustc --lib --release --features $(FEATURES) --crate-type cdylib,staticlib

header:
	ONCEFLIGHT_HEADER_OUT=$(CURDIR)/include/onceflight.h $(CARGO) build --lib --features capi

install: lib
	DESTDIR='$(DESTDIR)' packaging/install.sh '$(PREFIX)' '$(TARGET)/release'

wheel: lib
	ONCEFLIGHT_LIBRARY='$(abspath $(TARGET))/release/libonceflight.so' sh python/build_wheel.sh

test verify soak:
	scripts/setup.sh $@
	scripts/$@.sh

clean:
	$(CARGO) clean
	rm -rf python/dist

.PHONY: help lib header install wheel test verify soak clean
