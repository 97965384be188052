#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# usage: tools/check.sh quick|full
#        tools/check.sh step STEP [ARG...]
#
# quick: unit and bench tests of the build in build/, and the cheap checks of the sources.
# full: everything: compilers, sanitizers, analysers, coverage, fuzzing, and the guests.
# step: one step by itself, for example "step check_tidy" or "step tests build fast".
#
# Ends with a line "N passed, N failed"; the exit status is 0 only if nothing failed. Logs are in
# build/check/. KHYVE_PATIENCE multiplies all time limits, for a busy machine.

set -u -o pipefail

cd "$(dirname "$0")/.." || exit 1
# A clone that belongs to somebody else is a clone nevertheless.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
mkdir -p build/check
passed=0
failed=0
failures=()
jobs=$(nproc)
patience=${KHYVE_PATIENCE:-1}
# clang-format's decisions differ between releases; this is the one of Debian 12.
format_release=14

# step NAME SECONDS COMMAND...: one check, ended after SECONDS. Its output goes to a log that is
# shown if it fails. COMMAND's last line "N passed, N failed" counts, else it counts as one.
step()
{
	local name=$1 limit=$(($2 * patience)) log=build/check/${1//[^A-Za-z0-9-]/_}.log
	local start=$SECONDS counts ok bad status cpu TIMEFORMAT='%U + %S'
	shift 2
	printf '%-30s ' "$name"
	cpu=$({ time timeout -k 10 "$limit" tools/check.sh step "$@" > "$log" 2>&1 < /dev/null; } 2>&1)
	status=$?
	counts=$(sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
	counts=${counts:-$((status == 0)) $((status != 0))}
	ok=${counts% *}
	bad=${counts#* }
	[ $status = 0 ] || [ "$bad" != 0 ] || bad=1
	passed=$((passed + ok))
	failed=$((failed + bad))
	if [ "$bad" = 0 ]; then
		printf 'ok %6d passed %5d s (processors: %s s)\n' "$ok" $((SECONDS - start)) "$cpu"
		grep -E '^(skipped|note): ' "$log"
		return
	fi
	printf 'FAILED %d of %d, %d s, status %d\n' "$bad" $((ok + bad)) $((SECONDS - start)) $status
	[ $status != 124 ] || echo "not done within $limit s"
	echo "from $log:"
	grep -E '^FAIL|FAILED|[Ee]rror:|ERROR|WARNING: |warning:' "$log" | head -n 20
	echo '...'
	tail -n 25 "$log"
	failures+=("$name")
}

# build DIR OPTIONS...: configures once, builds, warnings are errors.
build()
{
	local dir=$1
	shift
	[ -f "$dir/build.ninja" ] || meson setup "$dir" -Dwerror=true "$@" || return 1
	ninja -C "$dir" -j "$jobs"
}

build_clang()
{
	CC=clang CC_LD=bfd build build-clang
}

# What people run is built with other options than what is tested: other warnings appear.
build_release()
{
	[ -f build-release/build.ninja ] ||
		meson setup build-release --buildtype=release -Dwerror=true || return 1
	ninja -C build-release -j "$jobs" khyve vm khyve-vnc khyve-net
}

build_coverage()
{
	build build-asan -Db_sanitize=address,undefined -Db_coverage=true \
		-Dc_args=-fprofile-update=atomic || return 1
	find build-asan -name '*.gcda' -delete
}

# tests DIR SUITE...: runs test suites and counts the cases of the test programs.
tests()
{
	local dir=$1 suites=() suite
	shift
	for suite in "$@"; do
		suites+=(--suite "$suite")
	done
	export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1
	export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
	export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tools/tsan.txt
	rm -f "$dir/meson-logs/testlog.json"
	meson test -C "$dir" --no-rebuild --quiet --num-processes "$jobs" \
		--timeout-multiplier $((3 * patience)) "${suites[@]}"
	tools/test-counts "$dir"
}

sources()
{
	git ls-files 'src/*.[ch]' 'tests/*.[ch]' 'bench/*.[ch]' | while read -r f; do
		[ ! -e "$f" ] || echo "$f"
	done
}

check_format()
{
	if ! clang-format --version | grep -q "version $format_release\."; then
		echo "skipped: format: needs clang-format $format_release"
		return
	fi
	sources | xargs clang-format --dry-run --Werror
}

check_files()
{
	local f bad=0
	if [ -z "$(sources)" ]; then
		echo "error: git does not list the sources"
		return 1
	fi
	for f in $(sources) $(scripts) $(git ls-files '*.py' '*meson*' Makefile); do
		if ! head -n 3 "$f" | grep -Eq 'SPDX-License-Identifier: .*BSD-2-Clause'; then
			echo "error: $f: no SPDX line"
			bad=1
		fi
	done
	for f in $(sources); do
		if [ "$(wc -l < "$f")" -gt 1000 ]; then
			echo "error: $f: more than 1,000 lines"
			bad=1
		fi
	done
	return $bad
}

check_tidy()
{
	# One file each: over several, clang-tidy takes every va_list for uninitialised.
	git ls-files 'src/*.c' | grep -v '/uring_none\.c$' | xargs -P "$jobs" -n 1 \
		clang-tidy --quiet --warnings-as-errors='*' -p build-clang 2>&1
}

check_cppcheck()
{
	cppcheck --quiet --error-exitcode=1 --inline-suppr -j "$jobs" --std=c11 -D_GNU_SOURCE \
		-DKHYVE_VERSION='""' --library=tools/cppcheck.cfg --enable=warning,portability \
		--suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
		--suppressions-list=tools/cppcheck.txt -I src src
}

check_man()
{
	local out
	out=$(mandoc -T lint -W warning man/*.[1-8])
	echo "$out"
	[ -z "$out" ]
}

# Shell scripts that git knows.
scripts()
{
	git ls-files | while read -r f; do
		[ ! -f "$f" ] || ! head -n 1 "$f" | grep -Eaq '^#!.*(bash|/sh)' || echo "$f"
	done
}

check_scripts()
{
	scripts | xargs shellcheck -x -P SCRIPTDIR
}

# The number of cases on the device bench, from the tests' log of build/.
check_bench()
{
	local cases
	cases=$(tools/test-counts build --bench | sed -n 's/^cases on the device bench: //p')
	echo "note: $cases cases on the device bench"
	[ "${cases:-0}" -ge 300 ]
}

quick()
{
	step "ranks" 60 tools/check-ranks
	step "format" 60 check_format
	step "files" 60 check_files
	step "tests" 300 tests build fast vm corpus
}

full()
{
	step "ranks" 60 tools/check-ranks
	step "format" 60 check_format
	step "files" 60 check_files
	step "manual pages" 60 check_man
	step "scripts" 120 check_scripts
	step "build (gcc)" 600 build build
	step "tests (gcc)" 600 tests build fast vm
	step "cases on the bench" 60 check_bench
	step "viewers" 300 tests/vnc/run build
	step "user-mode network" 120 tests/net/run build
	step "build (gcc, release)" 600 build_release
	step "build (gcc, asan, ubsan)" 600 build_coverage
	step "tests (gcc, asan, ubsan)" 600 tests build-asan fast corpus
	step "user-mode network (asan)" 240 tests/net/run build-asan
	step "coverage" 300 tools/coverage build-asan
	step "build (clang)" 600 build_clang
	step "tests (clang)" 600 tests build-clang fast
	step "build (gcc, tsan)" 600 build build-tsan -Db_sanitize=thread
	step "tests (gcc, tsan)" 600 tests build-tsan threads
	step "clang-tidy" 900 check_tidy
	step "cppcheck" 300 check_cppcheck
	step "fuzzing" 900 tests/fuzz/run --time 5 --seed 1
	step "canaries" 1500 tests/fuzz/run --canary --time 120 --seed 1
	step "KVM" 400 tests/host/run --quiet --timeout 300 -- build/test_kvm
	# The time limits only end what hangs: a slow machine is none of it.
	step "guests" 2700 env KHYVE_PATIENCE=4 tests/guest/run
}

case ${1:-} in
quick | full) "$1" ;;
step)
	shift
	"$@"
	exit
	;;
*)
	echo "usage: $0 quick|full|step STEP" >&2
	exit 2
	;;
esac

[ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[@]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
