#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# usage: tools/check.sh quick|full
#
# quick: unit and bench tests of the build in build/, and the cheap checks of the sources.
# full: everything: compilers, sanitizers, analysers, fuzzing, and the guests. Ends with a line
# "N passed, N failed"; the exit status is 0 only if nothing failed. Logs are in build/check/.

set -u -o pipefail

cd "$(dirname "$0")/.." || exit 1
mkdir -p build/check
passed=0
failed=0
failures=()
jobs=$(nproc)

# step NAME CMD...: one check. Its output goes to a log that is shown if it fails. Test programs
# count their own cases; anything else counts as one.
step()
{
	local name=$1 log=build/check/${1//[^A-Za-z0-9-]/_}.log start=$SECONDS counts ok bad status
	shift
	printf '%-34s ' "$name"
	"$@" > "$log" 2>&1 < /dev/null
	status=$?
	counts=$(sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed.*$/\1 \2/p' "$log" |
		awk '{ p += $1; f += $2 } END { if (NR) print p, f }')
	ok=${counts% *}
	bad=${counts#* }
	if [ -z "$counts" ]; then
		ok=$((status == 0))
		bad=$((status != 0))
	elif [ $status != 0 ] && [ "$bad" = 0 ]; then
		bad=1
	fi
	passed=$((passed + ok))
	failed=$((failed + bad))
	if [ "$bad" = 0 ]; then
		printf 'ok %6d passed %5d s\n' "$ok" $((SECONDS - start))
	else
		printf 'FAILED %d of %d, %d s; end of %s:\n' "$bad" $((ok + bad)) $((SECONDS - start)) "$log"
		grep -E '^FAIL|[Ee]rror|ERROR|WARNING' "$log" | head -n 20
		tail -n 25 "$log"
		failures+=("$name")
	fi
}

# build DIR OPTIONS...: configures once, builds, warnings are errors.
build()
{
	local dir=$1
	shift
	[ -f "$dir/build.ninja" ] || meson setup "$dir" -Dwerror=true "$@" || return 1
	ninja -C "$dir" -j "$jobs"
}

# tests DIR SUITE...: runs test suites and prints what the test programs said.
tests()
{
	local dir=$1 suites=() suite status
	shift
	for suite in "$@"; do
		suites+=(--suite "$suite")
	done
	meson test -C "$dir" --no-rebuild --print-errorlogs "${suites[@]}"
	status=$?
	cat "$dir/meson-logs/testlog.txt"
	return $status
}

sources()
{
	git ls-files 'src/*.[ch]' 'tests/*.[ch]' 'bench/*.[ch]' | while read -r f; do
		[ ! -e "$f" ] || echo "$f"
	done
}

check_format()
{
	sources | xargs clang-format --dry-run --Werror
}

check_headers()
{
	local f bad=0
	for f in $(sources); do
		if ! head -n 1 "$f" | grep -q 'SPDX-License-Identifier: BSD-2-Clause'; then
			echo "$f: no SPDX line"
			bad=1
		fi
	done
	for f in $(sources); do
		if [ "$(wc -l < "$f")" -gt 1000 ]; then
			echo "$f: more than 1,000 lines"
			bad=1
		fi
	done
	return $bad
}

check_tidy()
{
	# One file each: over several, clang-tidy takes every va_list for uninitialised.
	git ls-files 'src/*.c' | xargs -P "$jobs" -n 1 \
		clang-tidy --quiet --warnings-as-errors='*' -p build-clang 2>&1
}

check_cppcheck()
{
	cppcheck --quiet --error-exitcode=1 --inline-suppr -j "$jobs" --std=c11 -D_GNU_SOURCE \
		-DKHYVE_VERSION='""' --enable=warning,portability --suppress=missingIncludeSystem \
		--suppressions-list=tools/cppcheck.txt -I src src
}

check_man()
{
	local out
	out=$(mandoc -T lint -W warning man/*.[1-8])
	echo "$out"
	[ -z "$out" ]
}

check_scripts()
{
	git ls-files | while read -r f; do
		[ ! -f "$f" ] || ! head -n 1 "$f" | grep -Eq '^#!.*(bash|/sh)' || echo "$f"
	done | xargs shellcheck -x
}

quick()
{
	step "ranks" tools/check-ranks
	step "format" check_format
	step "files" check_headers
	step "tests" tests build fast vm corpus
}

full()
{
	export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
	step "ranks" tools/check-ranks
	step "format" check_format
	step "files" check_headers
	step "manual pages" check_man
	step "scripts" check_scripts
	step "build (gcc)" build build
	step "tests (gcc)" tests build fast vm vnc
	step "build (gcc, asan, ubsan)" build build-asan -Db_sanitize=address,undefined
	step "tests (gcc, asan, ubsan)" tests build-asan fast corpus
	step "build (clang)" env CC=clang CC_LD=bfd bash -c "$(declare -f build); jobs=$jobs; build build-clang"
	step "tests (clang)" tests build-clang fast
	step "build (gcc, tsan)" build build-tsan -Db_sanitize=thread
	step "tests (gcc, tsan)" tests build-tsan fast
	step "clang-tidy" check_tidy
	step "cppcheck" check_cppcheck
	step "fuzzing" tests/fuzz/run --time 5
	step "canaries" tests/fuzz/run --canary --time 60
	step "guests" tests/guest/run
}

case ${1:-} in
quick | full) "$1" ;;
*)
	echo "usage: $0 quick|full" >&2
	exit 2
	;;
esac

[ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[@]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
