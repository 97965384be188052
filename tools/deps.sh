#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# usage: tools/deps.sh build|demo|test|bench
#
# Installs the Debian 12 or 13 packages that are missing for building khyve, for its demo, for its
# tests, or for comparing it with others; each set includes the one before. Needs root only if
# something is missing.

set -eu -o pipefail

build="build-essential pkg-config meson ninja-build python3
	liburing-dev zlib1g-dev libssl-dev libcurl4-openssl-dev libjansson-dev libmnl-dev
	libslirp-dev libarchive-dev libjpeg62-turbo-dev"
demo="ovmf grub-common grub-efi-amd64-bin mtools xorriso busybox-static cpio kmod xz-utils
	fdisk dosfstools e2fsprogs efibootmgr nftables qemu-system-x86 linux-image-amd64 linux-headers-amd64
	tigervnc-viewer vncsnapshot xvfb procps iproute2 dnsmasq-base"
test="clang clang-format clang-tidy cppcheck libclang-rt-dev mandoc shellcheck acpica-tools
	valgrind gcovr strace xfsprogs btrfs-progs git imagemagick tightvncpasswd iperf3 iptables zsh fish qemu-utils
	openssh-client openssh-server mmdebstrap rsync"

# Peers. Without libvirt's own package of units, so that no daemon is started.
bench="libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu"

# The installer's package carries the release's number in its name.
installer()
{
	local release
	for release in 13 12; do
		if apt-cache show "debian-installer-$release-netboot-amd64" > /dev/null 2>&1; then
			echo "debian-installer-$release-netboot-amd64"
			return
		fi
	done
}

has()
{
	dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

# Runs a command with its output in $log; on a terminal, a clock shows that it works.
logged()
{
	local pid start=$SECONDS
	"$@" > "$log" 2>&1 < /dev/null &
	pid=$!
	while kill -0 "$pid" 2> /dev/null; do
		[ ! -t 1 ] || printf '\r  ... %s, %d s' "$1 $2" $((SECONDS - start))
		sleep 1
	done
	[ ! -t 1 ] || printf '\r\033[K'
	wait "$pid"
}

case ${1:-} in
build) wanted=$build ;;
demo) wanted="$build $demo" ;;
test) wanted="$build $demo $test" ;;
bench) wanted="$build $demo $test $bench" ;;
*)
	echo "usage: $0 build|demo|test|bench" >&2
	exit 2
	;;
esac

if ! command -v dpkg-query > /dev/null; then
	echo "deps: not a Debian system: install the equivalents of: $wanted" >&2
	exit 0
fi

missing=()
for package in $wanted; do
	has "$package" || missing+=("$package")
done
case $1 in
demo | test | bench)
	for release in 12 13; do
		! has "debian-installer-$release-netboot-amd64" || found=yes
	done
	[ "${found:-no}" = yes ] || missing+=(installer)
	;;
esac
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps: run this once as root: apt-get install ${missing[*]}" >&2
	exit 1
fi
echo "deps: installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! logged apt-get update; then
	cat "$log" >&2
	exit 1
fi
packages=()
for package in "${missing[@]}"; do
	if [ "$package" = installer ]; then
		packages+=("$(installer)")
	else
		packages+=("$package")
	fi
done
if ! logged apt-get install -y --no-install-recommends "${packages[@]}"; then
	tail -n 30 "$log" >&2
	exit 1
fi
