# Makefile: `make help` lists every target.
#
# A unit test is one file, tests/unit/test_<stem>.c, linked against everything that needs no MPI.

.DEFAULT_GOAL := all
SHELL := /bin/bash

# Everything that the programs and their tests need, from Debian 12. The only list there is.
PACKAGES := gcc libc6-dev make pkg-config protobuf-c-compiler protobuf-compiler libprotobuf-c-dev \
  libzmq3-dev liblmdb-dev libsodium-dev libopenblas-dev libopenmpi-dev openmpi-bin libyaml-dev \
  libjansson-dev zlib1g-dev procps
DEMO_PACKAGES := jq
TEST_PACKAGES := libcmocka-dev jq libasan8 libubsan1 help2man mandoc dpkg-dev python3-zmq python3-protobuf
FUZZ_PACKAGES := clang

FLAVOUR ?= release
# V=1 shows whole commands.
Q := $(if $(V),,@)
note = $(if $(V),,@printf '  %-8s%s\n' $(1) $(2))
BUILD   := build/$(FLAVOUR)
GEN     := build/gen

LIBS := libprotobuf-c libzmq lmdb libsodium openblas yaml-0.1 jansson zlib

# libFuzzer is clang's.
CC       := $(if $(filter fuzz cover,$(FLAVOUR)),clang,gcc)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wdouble-promotion \
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -Wcast-qual \
  -Wformat=2 -Wnull-dereference -Wswitch-enum -Wimplicit-fallthrough -Wwrite-strings \
  -Wpointer-arith -Wno-format-truncation -Wno-psabi
# These decide bits: no contraction, no fast-math, no -march. Change them and every component's
# digest may change (docs/architecture.md, "Numeric profile").
EXACT    := -std=c11 -ffp-contract=off -fno-fast-math
HARDEN_release := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
# Without sealing and wiping: shows that what the scan of tests/e2e/test_erasure.sh does not find would
# be found. Never released: its stores open with nothing else.
HARDEN_bare    := -O2 -DUNLEARN_BARE
HARDEN_asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer
# For `make fuzz` alone: what libFuzzer needs, or where it got to.
HARDEN_fuzz    := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer -w
HARDEN_cover   := -O1 -fprofile-instr-generate -fcoverage-mapping -w
CFLAGS   = $(EXACT) -g $(HARDEN_$(FLAVOUR)) -fPIE -D_GNU_SOURCE -I. -isystem $(GEN) $(WARNINGS) \
  $(if $(WERROR),-Werror) -pthread
LDFLAGS  = -pie -pthread -Wl,-z,relro,-z,now $(filter -fsanitize=% -fprofile-%,$(HARDEN_$(FLAVOUR)))
PKG_CFLAGS = $(shell pkg-config --cflags $(LIBS) 2>/dev/null)
PKG_LIBS   = $(shell pkg-config --libs $(LIBS) 2>/dev/null) -lm
MPI_CFLAGS = $(shell pkg-config --cflags ompi-c 2>/dev/null)
MPI_LIBS   = $(shell pkg-config --libs ompi-c 2>/dev/null)
BUILD_ID  := $(shell git describe --always --dirty 2>/dev/null || echo release)

# Every .c file of a directory belongs to the archive, so that a new learner or reader is one new
# file; only the programs' own files and those that need MPI stand apart.
DIRS    := base model scheduler proto store coordinator shard_worker client
APART   := coordinator/unlearnd.c shard_worker/fleet.c shard_worker/worker.c shard_worker/ranks.c \
  shard_worker/group.c client/unlearnctl.c client/replayer.c
SOURCES := $(filter-out $(APART),$(wildcard $(addsuffix /*.c,$(DIRS))))
ALL_LIB := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/gen/unlearn.pb-c.o
ARCHIVE := $(BUILD)/libunlearn-all.a

BIN      := $(if $(filter release,$(FLAVOUR)),bin,$(BUILD)/bin)
PROGRAMS := $(addprefix $(BIN)/,unlearnd unlearn-worker unlearn-fleet unlearnctl unlearn-replay)
E2E      := $(patsubst tests/e2e/%.c,$(BUILD)/e2e/%,$(wildcard tests/e2e/test_*.c tests/e2e/relay.c tests/e2e/notify.c tests/e2e/zmtp.c tests/e2e/pulse.c tests/e2e/flood.c))
UNIT     := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))

# A fuzz target is one file, tests/fuzz/fuzz_<name>.c. With libFuzzer's main where FLAVOUR=fuzz, else with
# one that feeds it the files that it is given.
FUZZ     := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_LIB := $(addprefix $(BUILD)/tests/fuzz/,fuzz.o readers.o envelope.o $(if $(filter fuzz,$(FLAVOUR)),,replay.o))

.PHONY: fuzz fuzz-targets man install uninstall deb
.PHONY: all help test-cluster install-packages install-test-packages unit e2e test histories exactness s3t romeo bench bench-quick bench-erasure bench-deletions bench-locality clean \
  demo format lint
all: $(PROGRAMS)  ## build the programs into bin/ (FLAVOUR=asan: build/asan/bin/)

help:  ## list every target
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1|\2/' | \
	  awk -F'|' '{printf "%-22s %s\n", $$1, $$2}'

$(GEN)/proto/unlearn.pb-c.c: proto/unlearn.proto
	@mkdir -p $(GEN)
	$(call note,PROTOC,$<)
	$(Q)protoc-c --c_out=$(GEN) $<
$(GEN)/proto/unlearn.pb-c.h: $(GEN)/proto/unlearn.pb-c.c ;

$(BUILD)/gen/unlearn.pb-c.o: $(GEN)/proto/unlearn.pb-c.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(EXACT) -g $(HARDEN_$(FLAVOUR)) -fPIE -w $(PKG_CFLAGS) -I$(GEN) -c $< -o $@

# -MD, not -MMD: the generated header is included as a system's, and what a proto changes must be built anew.
$(BUILD)/%.o: %.c Makefile | $(GEN)/proto/unlearn.pb-c.h
	@mkdir -p $(@D)
	$(call note,CC,$<)
	$(Q)$(CC) $(CFLAGS) $(PKG_CFLAGS) -MD -MP -c $< -o $@

$(BUILD)/base/build.o: CFLAGS += -DBUILD_ID_TEXT='"$(BUILD_ID)"'
$(BUILD)/shard_worker/ranks.o $(BUILD)/shard_worker/group.o: PKG_CFLAGS += $(MPI_CFLAGS)

$(ARCHIVE): $(ALL_LIB)
	@rm -f $@
	$(Q)ar rcs $@ $^

link = $(Q)mkdir -p $(@D); $(if $(V),,printf '  %-8s%s\n' LINK $@;) $(CC) $(LDFLAGS) $(filter %.o,$^) $(ARCHIVE) $(PKG_LIBS) -o $@

$(BIN)/unlearnd: $(BUILD)/coordinator/unlearnd.o $(ARCHIVE)
	$(link)
$(BIN)/unlearnctl: $(BUILD)/client/unlearnctl.o $(ARCHIVE)
	$(link)
$(BIN)/unlearn-replay: $(BUILD)/client/replayer.o $(ARCHIVE)
	$(link)
$(BIN)/unlearn-fleet: $(BUILD)/shard_worker/fleet.o $(ARCHIVE)
	$(link)
$(BIN)/unlearn-worker: $(BUILD)/shard_worker/worker.o $(BUILD)/shard_worker/ranks.o \
  $(BUILD)/shard_worker/group.o $(ARCHIVE)
	$(link) $(MPI_LIBS)

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $< $(ARCHIVE) $(PKG_LIBS) -lcmocka -o $@

install-packages:  ## install what building and running needs (Debian)
	@scripts/install.sh $(PACKAGES)
install-test-packages: install-packages
	@scripts/install.sh $(TEST_PACKAGES)

# The build comes in a make of its own, which sees the packages that were just installed.
demo: install-packages  ## install what is missing, build, and show the main job (DATA=DIR: on MNIST)
	@scripts/install.sh $(DEMO_PACKAGES)
	@$(MAKE) --no-print-directory -j2 all
	@scripts/demo.sh $(DATA)

e2e: $(E2E) $(BUILD)/e2e/deaf.so
# Loaded before unlearnd by test_keys.sh.
$(BUILD)/e2e/deaf.so: tests/e2e/deaf.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -fPIC -shared $< -ldl -o $@
unit: $(UNIT)  ## build the unit tests (FLAVOUR=asan: with sanitizers)

fuzz-targets: $(FUZZ)
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(FUZZ_LIB) $(ARCHIVE)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(if $(filter fuzz,$(FLAVOUR)),-fsanitize=fuzzer) $< $(FUZZ_LIB) $(ARCHIVE) $(PKG_LIBS) -o $@

TIME ?= 60
fuzz: install-packages  ## fuzz every parser, TIME seconds each (TIME=60, ONLY="csv npy")
	@scripts/install.sh $(FUZZ_PACKAGES)
	@$(MAKE) --no-print-directory -j2 FLAVOUR=fuzz fuzz-targets
	@TIME=$(TIME) ONLY="$(ONLY)" scripts/fuzz.sh

test: install-test-packages  ## install what is missing, build, and run every test
	@$(MAKE) --no-print-directory -j2 WERROR=1 all unit e2e
	@$(MAKE) --no-print-directory -j2 WERROR=1 FLAVOUR=asan unit fuzz-targets
	@$(MAKE) --no-print-directory -j2 WERROR=1 FLAVOUR=bare all
	@tests/run.sh

N ?= 100
test-cluster: install-test-packages  ## hosts in containers with real failures, the package, systemd, Slurm (as root)
	@$(MAKE) --no-print-directory -j2 all
	@tests/cluster/run.sh

histories: install-test-packages  ## random histories against never-seen clusters (N=100, SEED=S)
	@$(MAKE) --no-print-directory -j2 all
	@HISTORIES=$(N) SEED=$${SEED:-$$(date +%s)} tests/e2e/test_histories.sh

exactness: all  ## what forgetting looks like from outside: the table of docs/exactness.md
	@bench/exactness.sh

# What erasing and sealing cost, with the limits.
bench-erasure: $(BUILD)/bench/erasure  ## erasing and opening sealed records against their limits
	@mkdir -p build && $(BUILD)/bench/erasure build
# What acks and predictions cost under deletions, with the limits, on a cluster of this machine.
bench-deletions: all $(BUILD)/bench/deletions $(BUILD)/bench/count.so  ## deletions against bare LMDB and the limits
	@mkdir -p build && UNLEARN_BIN=$(BIN) $(BUILD)/bench/deletions build $(MODE)
bench-locality: all  ## what workers fetch with and without what they keep in memory
	@E2E_BIN=$(BIN) bench/locality.sh
bench: bench-erasure bench-deletions  ## all benches: ours, reference, ratio, limit
bench-quick: bench-erasure  ## the same with fewer records, in less than a minute
	@$(MAKE) --no-print-directory bench-deletions MODE=quick
$(BUILD)/bench/deletions: $(BUILD)/bench/bare.o $(BUILD)/bench/clients.o
$(BUILD)/bench/%: $(BUILD)/bench/%.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(ARCHIVE) $(PKG_LIBS) -o $@
# Loaded before unlearnd by bench-deletions.
$(BUILD)/bench/count.so: bench/count.c bench/count.h
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(PKG_CFLAGS) -fPIC -shared $< -ldl -o $@

s3t: all  ## what S3T keeps when slices are lost: the tables of docs/s3t.md
	@bench/s3t.sh
romeo: all  ## what a text model keeps of a character that is deleted: a table of docs/s3t.md
	@bench/romeo.sh

lint: install-test-packages  ## clang-tidy, cppcheck, layering
	@scripts/install.sh clang-tidy cppcheck
	@scripts/lint.sh

# test_profile executes itself anew; children of test_store die of SIGBUS on purpose.
NOT_VALGRIND := %/test_profile %/test_store
valgrind: install-test-packages  ## the unit tests under valgrind
	@scripts/install.sh valgrind
	@$(MAKE) --no-print-directory -j2 unit
	@for test in $(filter-out $(NOT_VALGRIND),$(UNIT)); do \
	  valgrind -q --error-exitcode=9 --leak-check=full --suppressions=scripts/valgrind.supp \
	    $$test >$(BUILD)/valgrind.log 2>&1 || { echo "$$test"; tail -n 30 $(BUILD)/valgrind.log; exit 1; }; \
	done; echo "valgrind: $(words $(filter-out $(NOT_VALGRIND),$(UNIT))) programs, nothing found"

# What `make install` puts where, below DESTDIR. The programs find each other beside themselves.
PREFIX  ?= /usr/local
DESTDIR ?=
MAN     := build/man
SHARE    = $(DESTDIR)$(PREFIX)/share
UNITS    = $(DESTDIR)$(PREFIX)/lib/systemd/system

man: $(MAN)/unlearnd.8  ## manual pages into build/man, from what the programs say with --help
$(MAN)/unlearnd.8: $(PROGRAMS) scripts/man.sh
	@scripts/install.sh help2man
	$(call note,MAN,$(MAN))
	$(Q)scripts/man.sh $(BIN) $(MAN)

# The C library and its headers, as they are installed below PREFIX.
LIBRARY := build/libunlearn
$(LIBRARY)/lib/libunlearn.a: $(ARCHIVE) client/unlearn.h scripts/libunlearn.sh
	$(call note,LIB,$@)
	$(Q)scripts/libunlearn.sh $(ARCHIVE) $(GEN) $(LIBRARY) 0.$(BUILD_ID)

install: all man $(LIBRARY)/lib/libunlearn.a  ## install into PREFIX=/usr/local, below DESTDIR=
	install -d $(DESTDIR)$(PREFIX)/bin $(UNITS) $(DESTDIR)$(PREFIX)/lib/sysusers.d \
	  $(SHARE)/bash-completion/completions $(SHARE)/doc/unlearnd/docs $(addprefix $(SHARE)/man/man,1 5 8)
	install -m 0755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	for file in $$(cd $(LIBRARY) && find lib include -type f); do \
	  install -D -m 0644 $(LIBRARY)/$$file $(DESTDIR)$(PREFIX)/$$file || exit 1; done
	for n in 1 5 8; do install -m 0644 $(MAN)/*.$$n $(SHARE)/man/man$$n || exit 1; done
	install -m 0644 deploy/completion/unlearnctl $(SHARE)/bash-completion/completions
	install -m 0644 README.md LICENSE $(SHARE)/doc/unlearnd
	install -m 0644 docs/*.md $(SHARE)/doc/unlearnd/docs
	install -m 0644 deploy/systemd/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/unlearnd.conf
	for unit in deploy/systemd/*.service; do \
	  sed "s#^ExecStart=/usr/bin/#ExecStart=$(PREFIX)/bin/#" $$unit >$(UNITS)/$${unit##*/} && chmod 0644 $(UNITS)/$${unit##*/} || exit 1; done

deb: all man  ## make a Debian package in build/deb
	@scripts/install.sh dpkg-dev
	@scripts/deb.sh build/deb

uninstall:  ## take away what install put there; never data
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(PROGRAMS))) $(SHARE)/bash-completion/completions/unlearnctl \
	  $(DESTDIR)$(PREFIX)/lib/sysusers.d/unlearnd.conf $(addprefix $(UNITS)/,$(notdir $(wildcard deploy/systemd/*.service)))
	rm -f $(SHARE)/man/man1/unlearnctl.1 $(SHARE)/man/man1/unlearnctl-*.1 $(SHARE)/man/man1/unlearn-replay.1 \
	  $(SHARE)/man/man5/unlearn-config.5 $(SHARE)/man/man8/unlearn{d,-fleet,-worker}.8
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/,libunlearn.a pkgconfig/unlearn.pc)
	rm -rf $(SHARE)/doc/unlearnd $(DESTDIR)$(PREFIX)/include/unlearn

format:  ## format every source with clang-format
	@scripts/install.sh clang-format
	clang-format -i $(wildcard $(addsuffix /*.[ch],$(DIRS)) tests/unit/*.[ch] tests/fuzz/*.[ch])

$(BUILD)/e2e/zmtp: $(BUILD)/tests/e2e/zmtpcurve.o
$(BUILD)/e2e/%: $(BUILD)/tests/e2e/%.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(ARCHIVE) $(PKG_LIBS) -lcmocka -o $@

clean:  ## remove everything that was built
	rm -rf build bin

-include $(shell find build -name '*.d' 2>/dev/null)
