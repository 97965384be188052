#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# usage: debian.sh OUT
#
# Builds a bootable disk image of this host's own Debian release from its own package mirror: UEFI, a
# serial console, an SSH server, the user `debian`. Its first start takes the name of the machine and
# the keys that may log in from a CD with label cidata (vm create -C), and fills its disk.
# Runs as root, or as a user for whom mmdebstrap can make a name space (newuidmap, /etc/subuid).
# No loop devices. OUT is written as it goes; who wants it whole or not at all renames it.

set -eu -o pipefail

esp_sectors=$((128 * 2048))
root_sectors=$((1280 * 2048))
first=2048
packages=linux-image-amd64,systemd-sysv,systemd-boot,systemd-resolved,udev,dbus,kmod,iproute2,fdisk
packages+=,openssh-server,sudo,ca-certificates,initramfs-tools,zstd,less

die()
{
	echo "debian.sh: $*" >&2
	exit 1
}

# "deb" lines for this release, from what apt knows: mirrors, and no third parties.
sources()
{
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(SIGNED_BY)|$(REPO_URI)|$(COMPONENT)|$(LABEL)|$(CODENAME)' \
		'Created-By: Packages' | sort -u | while IFS='|' read -r key uri component label release; do
		# Where nothing is known, the word stays as it is.
		case $key in /*) ;; *) key= ;; esac
		case $label:$component in
		Debian:main | Debian-Security:main)
			echo "deb ${key:+[signed-by=$key] }$uri $release main"
			;;
		esac
	done | sort -u | grep " $VERSION_CODENAME"
}

# What mmdebstrap runs in its name space: $1 is the new system. MODULES=list keeps the initrd small.
prepare_system()
{
	mkdir -p "$1/etc/initramfs-tools/conf.d"
	echo MODULES=list > "$1/etc/initramfs-tools/conf.d/khyve"
	printf '%s\n' virtio_pci virtio_blk virtio_net nvme ahci sd_mod sr_mod isofs ext4 > "$1/etc/initramfs-tools/modules.khyve"
}

finish_system()
{
	local root=$1
	cat "$root/etc/initramfs-tools/modules.khyve" >> "$root/etc/initramfs-tools/modules"
	rm "$root/etc/initramfs-tools/modules.khyve"
	chroot "$root" useradd -m -s /bin/bash debian
	echo 'debian ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/debian"
	printf '%s\n' 'LABEL=root / ext4 errors=remount-ro 0 1' 'LABEL=ESP /boot/efi vfat umask=0077,noauto 0 2' \
		> "$root/etc/fstab"
	printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n' > "$root/etc/systemd/network/50-dhcp.network"
	echo localhost > "$root/etc/hostname"
	printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
	cp "$here/firstboot.sh" "$root/usr/local/sbin/firstboot"
	cp "$here/firstboot.service" "$root/etc/systemd/system/"
	chmod 755 "$root/usr/local/sbin/firstboot"
	# Later kernels go where the firmware finds them.
	cat > "$root/etc/kernel/postinst.d/zz-esp" <<'HOOK'
#!/bin/sh
set -e
version=${1:-$(uname -r)}
[ -d /sys/firmware/efi ] || exit 0
mount /boot/efi 2>/dev/null || true
mkdir -p /boot/efi/debian
cp "/boot/vmlinuz-$version" /boot/efi/debian/vmlinuz
cp "/boot/initrd.img-$version" /boot/efi/debian/initrd.img
HOOK
	chmod 755 "$root/etc/kernel/postinst.d/zz-esp"
	mkdir -p "$root/etc/initramfs/post-update.d" "$root/boot/efi"
	ln -sf ../../kernel/postinst.d/zz-esp "$root/etc/initramfs/post-update.d/zz-esp"
	chroot "$root" systemctl -q enable systemd-networkd systemd-resolved ssh firstboot
	chroot "$root" systemctl -q disable e2scrub_reap.service e2scrub_all.timer
	chroot "$root" update-initramfs -u > /dev/null 2>&1
	rm -f "$root"/etc/ssh/ssh_host_* "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_*
	: > "$root/etc/machine-id"
}

# File systems of the new system, into the files behind descriptors 8 (ESP) and 9 (root).
write_system()
{
	local root=$1 at tree
	at=$(mktemp -d)
	tree=$at/esp
	mkdir -p "$tree/EFI/BOOT" "$tree/loader/entries" "$tree/debian"
	cp "$root/usr/lib/systemd/boot/efi/systemd-bootx64.efi" "$tree/EFI/BOOT/BOOTX64.EFI"
	cp "$root"/boot/vmlinuz-* "$tree/debian/vmlinuz"
	cp "$root"/boot/initrd.img-* "$tree/debian/initrd.img"
	printf 'timeout 0\ndefault debian.conf\n' > "$tree/loader/loader.conf"
	printf '%s\n' 'title Debian' 'linux /debian/vmlinuz' 'initrd /debian/initrd.img' \
		'options root=LABEL=root ro console=tty0 console=ttyS0' > "$tree/loader/entries/debian.conf"
	mkfs.vfat -F 32 -n ESP /proc/self/fd/8 > /dev/null
	mcopy -s -i /proc/self/fd/8 "$tree"/* ::
	# Without what is mounted in there.
	mkdir "$at/root"
	mount --bind "$root" "$at/root"
	mkfs.ext4 -q -F -L root -d "$at/root" /proc/self/fd/9
	umount "$at/root"
	rm -rf "$at"
}

here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
case ${1:-} in
--prepare | --finish | --write)
	"${1#--}_system" "$2"
	exit
	;;
esac
[ $# = 1 ] || die "usage: debian.sh OUT"
out=$1
for tool in mmdebstrap sfdisk mkfs.vfat mkfs.ext4 mcopy; do
	command -v "$tool" > /dev/null ||
		die "the program $tool is missing: apt-get install mmdebstrap fdisk dosfstools e2fsprogs mtools"
done
# shellcheck disable=SC1091
. /etc/os-release
[ "${ID:-}" = debian ] || die "this host is ${ID:-not known}: it has no mirror of Debian"
list=$(sources) || die "apt knows no mirror of $VERSION_CODENAME: see /etc/apt/sources.list"

work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
truncate -s $((esp_sectors * 512)) "$work/esp"
truncate -s $((root_sectors * 512)) "$work/root"
# Name spaces of mmdebstrap are another user to the file system.
[ "$(id -u)" = 0 ] || chmod 666 "$work/esp" "$work/root"
exec 8<> "$work/esp" 9<> "$work/root"
self=$(printf %q "$here/$(basename "$0")")
echo "$list" | mmdebstrap --quiet --variant=minbase --include="$packages" --skip=output/dev \
	--aptopt='Acquire::Languages "none"' --aptopt='Acquire::http::Timeout "20"' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--essential-hook="bash $self --prepare \"\$1\"" --customize-hook="bash $self --finish \"\$1\"" \
	--customize-hook="bash $self --write \"\$1\"" "$VERSION_CODENAME" /dev/null -
truncate -s $(((first + esp_sectors + root_sectors + 2048) * 512)) "$out"
sfdisk --quiet "$out" <<TABLE
label: gpt
start=$first, size=$esp_sectors, type=uefi, name=ESP
start=$((first + esp_sectors)), size=$root_sectors, type=linux, name=root
TABLE
dd if="$work/esp" of="$out" bs=1M seek=$((first / 2048)) conv=notrunc,sparse status=none
dd if="$work/root" of="$out" bs=1M seek=$(((first + esp_sectors) / 2048)) conv=notrunc,sparse status=none
sync "$out"
