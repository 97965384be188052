#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# In the guest, before its SSH server: once for each instance-id of the CD with label cidata, takes
# its name and the keys that may log in from there; fills the disk; makes host keys.

set -u
state=/var/lib/khyve-firstboot
cd=/run/khyve-firstboot

# The value of "key: value" at the beginning of a line.
value()
{
	sed -n "s/^$1: *//p" "$2" | head -n 1
}

# The root file system's partition is the last one.
grow()
{
	part=$(findmnt -n -o SOURCE /)
	disk=/dev/$(lsblk -n -o PKNAME "$part")
	number=$(cat "/sys/class/block/${part#/dev/}/partition")
	echo ', +' | sfdisk --quiet --no-reread --force -N "$number" "$disk"
	partx -u --nr "$number" "$disk"
	resize2fs "$part"
}

# Keys of other kinds take an emulated processor minutes.
[ -s /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
modprobe -a sr_mod isofs
# Not through udev, which looks at everything else first.
for try in 1 2 3 4 5; do
	dev=$(blkid -c /dev/null -L cidata || blkid -c /dev/null -L CIDATA) && break
	sleep "$try"
done
[ -n "$dev" ] || exit 0
mkdir -p "$cd" "$state"
mount -o ro "$dev" "$cd" || exit 1
id=$(value instance-id "$cd/meta-data")
if [ "$id" != "$(cat "$state/instance" 2>/dev/null)" ]; then
	name=$(value local-hostname "$cd/meta-data")
	[ -z "$name" ] || {
		echo "$name" > /etc/hostname
		hostname "$name"
		sed -i "s/^127.0.0.1 .*/127.0.0.1 localhost $name/" /etc/hosts
	}
	install -d -m 700 -o debian -g debian /home/debian/.ssh
	sed -n "/^ssh_authorized_keys:/,/^[^ ]/s/^  - '\(.*\)'\$/\1/p" "$cd/user-data" | sed "s/''/'/g" \
		> /home/debian/.ssh/authorized_keys
	chown debian:debian /home/debian/.ssh/authorized_keys
	chmod 600 /home/debian/.ssh/authorized_keys
	grow
	sync
	echo "$id" > "$state/instance"
fi
umount "$cd"
