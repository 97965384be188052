# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# A thin front for meson and for the scripts in tools/ and tests/.
B ?= build
SHELL := /bin/bash

.PHONY: all check test demo demo-live bench fuzz fmt install deps clean

all: $(B)/build.ninja
	@ninja -C $(B)

$(B)/build.ninja:
	@tools/deps.sh build
	@meson setup $(B) >/dev/null

check: all
	@tools/check.sh quick

test:
	@tools/deps.sh test
	@tools/check.sh full

demo:
	@tools/deps.sh demo
	@tools/demo.sh

demo-live:
	@tools/deps.sh demo
	@tools/demo.sh --live

bench: all
	@tools/deps.sh bench
	@bench/run
	@bench/net
	@bench/vm_list $(B)

fuzz:
	@tools/deps.sh test
	@tests/fuzz/run

fmt:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

install: all
	@meson install -C $(B)

clean:
	rm -rf $(B) $(B)-*
