# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
# shellcheck shell=bash
#
# Sourced by scripts that take Debian's kernel apart.

# Prints the version of the newest Debian kernel in /boot that has its modules. Cloud kernels have
# no 9p, AHCI and DRM; realtime ones are not what people run. Fails if there is none.
kernel_find()
{
	local image version best=
	for image in /boot/vmlinuz-*-amd64; do
		version=${image#/boot/vmlinuz-}
		case $version in
		*-cloud-amd64|*-rt-amd64|'*-amd64') continue ;;
		esac
		[ -d "/lib/modules/$version/kernel" ] || continue
		best=$(printf '%s\n%s\n' "$best" "$version" | sort -V | tail -n 1)
	done
	[ -n "$best" ] && echo "$best"
}

# Copies module file $1 to folder $2, uncompressed (Debian 13 ships them compressed).
kernel_copy_module()
{
	local name
	name=$(basename "$1")
	case $name in
	*.xz) xz -dc "$1" > "$2/${name%.xz}" ;;
	*.zst) zstd -qdc "$1" > "$2/${name%.zst}" ;;
	*) cp "$1" "$2/$name" ;;
	esac
}
