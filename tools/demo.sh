#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
#
# usage: tools/demo.sh [--live]
#
# Installs nothing, changes nothing outside build/: makes a Debian guest with `vm`, starts Debian's
# installer in it, and takes build/demo/screen.png when the installer's menu is on its screen. --live
# keeps the guest running, its screen on a loopback port, until ^C. Without VT-x or AMD-V all of it
# happens in the nested test host (tests/host). Exit status 0 means that the picture was made.
#
# Packages: tools/deps.sh demo

set -u -o pipefail

cd "$(dirname "$0")/.." || exit 1
top=$PWD
demo=$top/build/demo
# What the two halves tell each other: port, picture, stop.
talk=$demo/talk
live=no
menu_seconds=${KHYVE_DEMO_SECONDS:-540}

die()
{
	[ ! -e "$demo/doing" ] || tick_off
	echo "demo: $*" >&2
	exit 1
}

# --- progress -----------------------------------------------------------------------------------

# A line at the bottom of a terminal, with a clock; into a pipe, one line every half minute. What it
# says is in the file `doing`: seconds since the epoch and a text, or nothing.
ticker()
{
	local since what last=0 now
	while sleep 1; do
		read -r since what < "$demo/doing" || continue
		now=$(date +%s)
		if [ -t 1 ]; then
			printf '\r\033[K  ... %s, %d s' "$what" $((now - since))
		elif [ $((now - (last > since ? last : since))) -ge 30 ]; then
			last=$now
			printf '  ... %s, %d s\n' "$what" $((now - since))
		fi
	done 2> /dev/null
}

tick_off()
{
	: > "$demo/doing"
	[ ! -t 1 ] || printf '\r\033[K'
}

# doing TEXT: what the clock stands for from now on.
doing()
{
	tick_off
	echo "$(date +%s) $*" > "$demo/doing"
}

# Lines that come while the clock runs go above it.
above_clock()
{
	local line
	while IFS= read -r line; do
		[ ! -t 1 ] || printf '\r\033[K'
		printf '%s\n' "$line"
	done
}

# --- inside: where KVM is -------------------------------------------------------------------------

# Shows a command as a person would type it, and runs it.
typed()
{
	echo "\$ $*"
	"$@" || { echo "demo: '$*' failed with status $?" >&2; exit 1; }
}

# wait_file FILE: until the other half has made it.
wait_file()
{
	while [ ! -e "$1" ]; do
		sleep 0.3
	done
}

# shellcheck disable=SC2317  # called by trap
inside_end()
{
	[ -z "$store" ] || vm poweroff -f debian > /dev/null 2>&1
	rm -rf "$tmp"
}

inside()
{
	local iso=$1 base=/tmp
	[ ! -d /dev/shm ] || base=/dev/shm
	store=
	tmp=$(mktemp -d "$base/khyve-demo.XXXXXX") || exit 1
	trap inside_end EXIT
	trap 'exit 143' TERM INT HUP
	# In the test host every first read of a file is slow; memory is not.
	mkdir -p "$tmp/bin/share"
	cp build/vm build/khyve build/khyve-vnc build/khyve-net "$tmp/bin/" || exit 1
	: > "$tmp/khyve.conf"
	cp -r build/share/templates "$tmp/bin/share/" || exit 1
	export PATH=$tmp/bin:$PATH VM_DIR=$tmp/vm KHYVE_CONF=$tmp/khyve.conf
	echo
	typed vm init
	store=yes
	typed vm iso "$iso"
	typed vm iso
	typed cat "$tmp/bin/share/templates/linux-uefi.conf"
	typed vm create -t linux-uefi -s 10G debian
	typed vm install debian "${iso##*/}"
	typed vm list
	sed -n 's/^vnc=.*://p' "$VM_DIR/debian/console" > "$talk/port.new"
	mv "$talk/port.new" "$talk/port"
	wait_file "$talk/watched"
	typed vm list
	wait_file "$talk/picture"
	typed vm list -v
	if [ "$live" = yes ]; then
		wait_file "$talk/stop"
	fi
	echo "# The installer does not listen to the power button of vm stop, so:"
	typed vm poweroff -f debian
	typed vm list
}

# --- outside ------------------------------------------------------------------------------------

has_virtualization()
{
	grep -qwE 'vmx|svm' /proc/cpuinfo && [ -w /dev/kvm ]
}

free_port()
{
	local port
	for ((port = 5900; port < 6000; port++)); do
		if ! (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
			echo "$port"
			return
		fi
	done
	die "no free port from 5900 to 5999"
}

# shellcheck disable=SC2317  # called by trap
outside_end()
{
	tick_off
	kill "$ticker_pid" 2>/dev/null
	if [ -n "$host_pid" ]; then
		kill "$host_pid" 2>/dev/null
		wait "$host_pid" 2>/dev/null
	fi
	rm -rf "$talk" "$demo/doing"
}

prepare()
{
	doing "building"
	make -s all > "$demo/build.log" 2>&1 || { tail -n 30 "$demo/build.log"; die "the build failed"; }
	doing "putting the installer's ISO together"
	iso=$demo/debian-12-installer.iso
	[ ! -d /usr/lib/debian-installer/images/13 ] || iso=$demo/debian-13-installer.iso
	[ -e "$iso" ] || tests/guest/iso/mk-installer-iso "$iso" || die "no installer ISO"
	tick_off
}

start_inside()
{
	local options=(--rw "$demo")
	[ $live = yes ] || options+=(--timeout $((menu_seconds + 240)))
	host_port=
	if has_virtualization; then
		echo "This processor has VT-x or AMD-V: the guest runs on it directly."
	else
		echo "No VT-x or AMD-V here: starting the nested test host, a Debian in which QEMU emulates AMD-V."
		echo "Everything in there is some thirty times slower than on a real machine."
		host_port=$(free_port)
		options+=(--forward "$host_port:5900")
	fi
	tests/host/run "${options[@]}" -- "$top/tools/demo.sh" "--inside-$live" "$iso" \
		> >(above_clock) 2>&1 < /dev/null &
	host_pid=$!
}

# wait_inside FILE: until the other half has made it; fails if that half is gone.
wait_inside()
{
	while [ ! -e "$1" ]; do
		kill -0 "$host_pid" 2>/dev/null || die "the guest's side ended before its time (see above)"
		sleep 0.3
	done
}

# A stock VNC client ends the wait of vm install.
end_wait()
{
	local port=$1 log=$demo/vncsnapshot.log
	tick_off
	echo "\$ vncsnapshot 127.0.0.1:$((port - 5900)) first.jpg"
	doing "waiting for the VNC client's first picture"
	timeout 60 vncsnapshot -quiet "127.0.0.1:$((port - 5900))" "$demo/first.jpg" > "$log" 2>&1 ||
		{ cat "$log"; die "the VNC client could not connect to 127.0.0.1:$port"; }
}

outside()
{
	local port picture=$demo/screen.png
	host_pid=
	mkdir -p "$demo"
	rm -rf "$talk" "$picture"
	mkdir "$talk"
	: > "$demo/doing"
	ticker &
	ticker_pid=$!
	disown
	trap outside_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	prepare
	start_inside
	doing "waiting for the guest's host to be up and the guest to be made"
	wait_inside "$talk/port"
	port=${host_port:-$(cat "$talk/port")}
	end_wait "$port"
	touch "$talk/watched"
	doing "waiting for the installer's menu"
	tools/demo-watch --seconds "$menu_seconds" --pid "$host_pid" --note "$demo/doing" \
		"127.0.0.1:$port" "$picture" || die "the installer's menu did not come"
	touch "$talk/picture"
	if [ $live = yes ]; then
		tick_off
		trap 'exit 0' INT
		echo "The installer runs. Its screen, keyboard and mouse: any VNC viewer on 127.0.0.1:$port"
		echo "    xtigervncviewer 127.0.0.1:$port"
		echo "^C here ends it. A picture of it is in ${picture#"$top/"}."
		wait "$host_pid"
		host_pid=
		exit 0
	fi
	doing "switching the guest off"
	wait "$host_pid" || { host_pid=; die "the guest's side failed (see above)"; }
	host_pid=
	tick_off
	[ -s "$picture" ] || die "no picture"
	echo
	echo "The picture of the guest's screen is ${picture#"$top/"}, after $SECONDS s."
	echo "To watch live, and to use the installer by VNC: make demo-live"
}

case ${1:-} in
'') outside ;;
--live) live=yes; outside ;;
--inside-no) inside "$2" ;;
--inside-yes) live=yes; inside "$2" ;;
*)
	echo "usage: $0 [--live]" >&2
	exit 2
	;;
esac
