# One Makefile, flavours in build/<flavour>/. `make help` lists targets.
SHELL := /bin/bash
FLAVOUR ?= release
FUZZ_SECONDS ?= 30
CC := $(if $(filter fuzz,$(FLAVOUR)),clang,gcc)
B := build/$(FLAVOUR)

PKGS := libcurl rocksdb openssl liburing expat libconfuse jansson libzstd
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) libh2o-evloop 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
# Failpoints (base/failpoint.h): where tests/faults kills the process; in no other flavour.
CPPFLAGS.asan := -DHEARTH_FAILPOINTS
CPPFLAGS := -I. -D_GNU_SOURCE -DH2O_USE_LIBUV=0 -DH2O_USE_EPOLL=1 $(CPPFLAGS.$(FLAVOUR)) $(PKG_CFLAGS) \
            -DHEARTH_VERSION='"$(shell cat VERSION 2>/dev/null || echo 0.1)"'
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wno-unused-parameter -Wno-missing-field-initializers
CFLAGS.release := -O2 -g
CFLAGS.asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS.tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
# libFuzzer's own flavour: clang, everything instrumented for coverage.
CFLAGS.fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -Wno-everything
CFLAGS := -std=gnu17 -pthread $(WARN) $(CFLAGS.$(FLAVOUR))
LDFLAGS.release := -ljemalloc
LDLIBS := -lh2o-evloop $(PKG_LIBS) -lpthread -lm $(LDFLAGS.$(FLAVOUR))

FOLDERS := base cache upstream blobapi server
SRCS := $(wildcard $(FOLDERS:%=%/*.c))
MAIN := server/main.c
OBJS := $(SRCS:%.c=$(B)/%.o)
LIB_OBJS := $(filter-out $(MAIN:%.c=$(B)/%.o),$(OBJS))
UNIT := $(patsubst tests/unit/test_%.c,%,$(wildcard tests/unit/test_*.c))
SUPPORT_OBJS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/support/*.c))
BENCH := $(patsubst tests/bench/%.c,%,$(wildcard tests/bench/*.c))

all: $(if $(wildcard $(MAIN)),$(B)/hearth) ## build/<flavour>/hearth (release: also build/hearth)
ifeq ($(FLAVOUR),release)
	@if [ -f $(B)/hearth ]; then ln -sf release/hearth build/hearth; fi
endif

$(B)/hearth: $(OBJS)
	$(CC) $(CFLAGS) -o $@ $^ $(LDLIBS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# A static library, so that a unit test links only what it reaches. Constructors of metrics come along
# with the objects that use them.
$(B)/libhearth.a: $(LIB_OBJS)
	@rm -f $@ && ar rcs $@ $^

$(B)/libsupport.a: $(SUPPORT_OBJS)
	@rm -f $@ && ar rcs $@ $^

$(B)/tests/%: $(B)/tests/unit/test_%.o $(B)/libsupport.a $(B)/libhearth.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $< $(B)/libsupport.a $(B)/libhearth.a -lcmocka $(LDLIBS)

$(B)/bench/%: $(B)/tests/bench/%.o $(SUPPORT_OBJS) $(B)/libhearth.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $< $(SUPPORT_OBJS) $(B)/libhearth.a $(LDLIBS)

UNIT_BINS := $(UNIT:%=$(B)/tests/%)
unit-bins: $(UNIT_BINS) ## build the unit test binaries
bench-bins: $(BENCH:%=$(B)/bench/%) ## build the load generators

test: ## unit tests of one module (T=crc64) or all, in FLAVOUR
	@$(MAKE) --no-print-directory $(if $(T),$(B)/tests/$(T),unit-bins)
	@scripts/run_unit $(B) $(T)

asan: ## unit tests under ASan and UBSan
	@$(MAKE) --no-print-directory FLAVOUR=asan test T=$(T)
tsan: ## unit tests under TSan
	@$(MAKE) --no-print-directory FLAVOUR=tsan test T=$(T)

$(B)/fuzz/%: $(B)/tests/fuzz/fuzz_%.o $(B)/libhearth.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fsanitize=fuzzer -o $@ $< $(B)/libhearth.a $(LDLIBS)
fuzz: ## one libFuzzer target over its corpus (F=http_head FUZZ_SECONDS=30)
	@$(MAKE) --no-print-directory FLAVOUR=fuzz build/fuzz/fuzz/$(F)
	@mkdir -p build/fuzz/found/$(F)
	@build/fuzz/fuzz/$(F) -max_total_time=$(FUZZ_SECONDS) -timeout=5 -artifact_prefix=build/fuzz/found/ \
	    build/fuzz/found/$(F) tests/fuzz/corpus/$(F)

lint: ## layers, outside headers, function length, clang-tidy
	@scripts/lint
format: ## reformat all C
	@clang-format -i $$(git ls-files '*.c' '*.h')
format-check:
	@clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')
deps: ## install Debian packages
	@scripts/install_deps
clean: ## remove build/
	rm -rf build
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/' | sort

.PHONY: all test asan tsan lint format format-check deps clean help unit-bins bench-bins
.SECONDARY:
-include $(OBJS:.o=.d) $(wildcard $(B)/tests/*/*.d)
print-cppflags:
	@echo $(CPPFLAGS)
.PHONY: print-cppflags fuzz
