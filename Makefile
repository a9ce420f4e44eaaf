# Makefile: `make help` lists every target.
#
# Sources are listed by directory; a unit test is one file, tests/unit/test_<stem>.c, that names in
# its first lines nothing to build: it links against everything that needs no MPI.

.DEFAULT_GOAL := all
SHELL := /bin/bash

# Everything that the programs and their tests need, from Debian 12. The only list there is.
PACKAGES := gcc libc6-dev make pkg-config protobuf-c-compiler protobuf-compiler libprotobuf-c-dev \
  libzmq3-dev liblmdb-dev libsodium-dev libopenblas-dev libopenmpi-dev openmpi-bin libyaml-dev \
  libjansson-dev zlib1g-dev procps
TEST_PACKAGES := libcmocka-dev

FLAVOUR ?= release
BUILD   := build/$(FLAVOUR)
GEN     := build/gen

LIBS := libprotobuf-c libzmq lmdb libsodium openblas yaml-0.1 jansson zlib

CC       := gcc
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion \
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -Wcast-qual \
  -Wformat=2 -Wnull-dereference -Wswitch-enum -Wimplicit-fallthrough -Wwrite-strings \
  -Wpointer-arith -Wno-format-truncation
# These decide bits: no contraction, no fast-math, no -march. Change them and every component's
# digest may change (docs/architecture.md, "Numeric profile").
EXACT    := -std=c11 -ffp-contract=off -fno-fast-math
HARDEN_release := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
HARDEN_asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer
CFLAGS   = $(EXACT) -g $(HARDEN_$(FLAVOUR)) -fPIE -D_GNU_SOURCE -I. -I$(GEN) $(WARNINGS) \
  $(if $(WERROR),-Werror) -pthread
LDFLAGS  = -pie -pthread -Wl,-z,relro,-z,now $(filter -fsanitize=%,$(HARDEN_$(FLAVOUR)))
PKG_CFLAGS = $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
PKG_LIBS   = $(shell pkg-config --libs $(LIBS) 2>/dev/null) -lm
MPI_CFLAGS = $(shell pkg-config --cflags ompi-c 2>/dev/null)
MPI_LIBS   = $(shell pkg-config --libs ompi-c 2>/dev/null)
