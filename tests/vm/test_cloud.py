#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of what guests with cloud-init get: vm create -C, the seed's files and its CD."""
import os
import re
import subprocess
import sys

from harness import cases_of, eq, match, run, true, until

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAI+ it's me"
USER = f"#cloud-config\nresize_rootfs: True\nmanage_etc_hosts: localhost\nssh_authorized_keys:\n  - '{KEY}'\n"


def file(s, name, text):
    path = os.path.join(s.top, name)
    s.write(path, text)
    return path


def seed(s, name, which):
    return s.read(s.path(name, ".cloud-init", which))


def conf(s, name, key):
    return re.search(rf'^{key}="(.*)"$', s.read(s.path(name, f"{name}.conf")), re.MULTILINE).group(1)


def unpack(s, name):
    """The files of the CD, by name, and its label."""
    out = os.path.join(s.top, "cd")
    subprocess.run(["rm", "-rf", out], check=True)
    iso = s.path(name, "seed.iso")
    subprocess.run(["xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", out], check=True, capture_output=True)
    label = subprocess.run(["blkid", "-p", "-s", "LABEL", "-o", "value", iso], check=True, capture_output=True, text=True)
    return {f: s.read(os.path.join(out, f)) for f in os.listdir(out)}, label.stdout.strip()


def test_files(s):
    s.ok("init")
    keys = file(s, "keys", f"# mine\n\n{KEY}")
    eq(s.ok("create", "-s", "1M", "-C", "-k", keys, "web"), "")
    eq(seed(s, "web", "meta-data"), f"instance-id: {conf(s, 'web', 'uuid')}\nlocal-hostname: web\n")
    eq(seed(s, "web", "user-data"), USER.replace("it's", "it''s"))
    eq(sorted(os.listdir(s.path("web", ".cloud-init"))), ["meta-data", "user-data"])
    eq([conf(s, "web", f"disk1_{k}") for k in ("type", "name", "dev")], ["ahci-cd", "seed.iso", "file"])
    true(not os.path.exists(s.path("web", "seed.iso")), "the CD is made by the first start")
    eq(os.stat(s.path("web", ".cloud-init", "user-data")).st_mode & 0o777, 0o600)
    # The next disk is none of CDs.
    s.ok("add", "-d", "disk", "-s", "1M", "web")
    eq(conf(s, "web", "disk2_type"), "virtio-blk")
    own = file(s, "own", "#!/bin/sh\necho hello\n")
    s.ok("create", "-s", "1M", "-C", "-u", own, "own")
    eq(seed(s, "own", "user-data"), "#!/bin/sh\necho hello\n")
    s.ok("create", "-s", "1M", "-C", "bare")
    true("ssh_authorized_keys" not in seed(s, "bare", "user-data"), "no keys")


NET4 = """version: 2
ethernets:
  id0:
    match:
      macaddress: "MAC"
    set-name: "eth0"
    addresses: ["192.0.2.2/24", "192.0.2.3/24"]
    dhcp6: true
    accept-ra: true
    nameservers:
      addresses: ["192.0.2.1", "2001:db8::1"]
      search: ["example.org"]
    routes:
      - to: "0.0.0.0/0"
        via: "192.0.2.1"
"""
NET6 = """version: 2
ethernets:
  id0:
    match:
      macaddress: "MAC"
    set-name: "lan0"
    addresses: ["2001:db8::2/64"]
    dhcp4: true
    routes:
      - to: "::/0"
        via: "2001:db8::1"
"""


def test_network(s):
    s.ok("init")
    s.ok("create", "-s", "1M", "-C", "-n", "ip=192.0.2.2/24,192.0.2.3/24;gateway4=192.0.2.1;hostname=www.example.org;"
         "nameservers=192.0.2.1,2001:db8::1;searchdomains=example.org;", "four")
    eq(seed(s, "four", "network-config"), NET4.replace("MAC", conf(s, "four", "network0_mac")))
    match(seed(s, "four", "meta-data"), "local-hostname: www.example.org\n")
    s.ok("create", "-s", "1M", "-C", "-n", "interface=lan0;ip=2001:db8::2/64;gateway6=2001:db8::1", "six")
    eq(seed(s, "six", "network-config"), NET6.replace("MAC", conf(s, "six", "network0_mac")))
    s.ok("create", "-s", "1M", "-C", "-n", "gateway=192.0.2.1", "old")
    match(seed(s, "old", "network-config"), 'dhcp4: true\n    dhcp6: true')


def test_refusals(s):
    s.ok("init")
    keys, empty = file(s, "keys", KEY + "\n"), file(s, "empty", "# none\n\n")
    for option, value, what in (("-k", keys, "injecting public key"), ("-u", keys, "user-data file"),
                                ("-n", "ip=192.0.2.2/24", "network config")):
        eq(s.fails("create", option, value, "web"), f"vm: ERROR: cloud-init is required for {what}. Use -C to enable it.\n")
    eq(s.fails("create", "-C", "-k", keys, "-u", keys, "web"),
       "vm: ERROR: -u and -k are mutually exclusive; use one or the other\n")
    match(s.fails("create", "-C", "-k", "/none", "web"), r"can't read file with public key \(/none\): No such file")
    match(s.fails("create", "-C", "-u", "/none", "web"), r"can't read user-data file \(/none\): No such file")
    match(s.fails("create", "-C", "-k", empty, "web"), "has no public key")
    match(s.fails("create", "-C", "-k", file(s, "esc", "ssh-rsa \033[2J\n"), "web"), "has no public key")
    for text, want in (("ip", "invalid netconfig entry - 'ip'"), ("ipp=1", "invalid netconfig option - 'ipp'"),
                       ("ip=192.0.2.2", "invalid netconfig entry - 'ip=192.0.2.2': ip is an address such as 192.0.2.2/24"),
                       ("ip=192.0.2.2/33", "invalid netconfig entry"), ("ip=2001:db8::1/129", "invalid netconfig entry"),
                       ("ip=192.0.2.2/24,", "invalid netconfig entry"), ("gateway4=::1", "an IPv4 address"),
                       ("gateway6=192.0.2.1", "an IPv6 address"), ("nameservers=dns", "an address"),
                       ("hostname=a b", "the name of a host"), ("interface=\"x\"", "the name of an interface"),
                       ("searchdomains=-", "a domain"), ("ip=192.0.2.2/24;x", "invalid netconfig entry - 'x'"),
                       ("hostname=" + "a" * 300, "invalid netconfig entry")):
        match(s.fails("create", "-C", "-n", text, "web"), re.escape(want))
    eq((s.ok("list").count("\n"), os.listdir(s.path(".trash"))), (1, []))


def test_cd(s):
    s.ok("init")
    s.ok("create", "-s", "1M", "-C", "-k", file(s, "keys", KEY), "-n", "ip=192.0.2.2/24", "web")
    match(s.ok("start", "-n", "web"), r"pci\.0\.5\.0\.port\.0\.path=.*/web/seed\.iso")
    true(not os.path.exists(s.path("web", "seed.iso")), "start -n makes nothing")
    # Before it has run, the editor does not ask.
    s.env["EDITOR"] = "sed -i s/True/False/"
    eq(s.ok("configure", "web", "user-data"), "")
    s.ok("start", "web")
    files, label = unpack(s, "web")
    eq(label.lower(), "cidata")
    eq(sorted(files), ["meta-data", "network-config", "user-data"])
    for name, text in files.items():
        eq(text, seed(s, "web", name))
    match(files["user-data"], "resize_rootfs: False")
    eq(os.stat(s.path("web", "seed.iso")).st_mode & 0o777, 0o600)
    match(s.read(s.path("web", "vm-bhyve.log")), "created .*/web/seed.iso for cloud-init")
    match(s.vm("configure", "web", "user-data", stdin="n\n").out, "cloud-init has run already")
    s.ok("poweroff", "-f", "web")
    first = os.stat(s.path("web", "seed.iso")).st_ino
    s.ok("start", "web")
    s.ok("poweroff", "-f", "web")
    eq(os.stat(s.path("web", "seed.iso")).st_ino, first, "made once")
    # Without network-config, and after what a killed supervisor may leave.
    s.ok("create", "-s", "1M", "-C", "bare")
    s.write(s.path("bare", ".seed.iso"), "x" * 1000000)
    s.ok("start", "bare")
    eq(sorted(unpack(s, "bare")[0]), ["meta-data", "user-data"])
    true(not os.path.exists(s.path("bare", ".seed.iso")), "nothing left")
    s.ok("poweroff", "-f", "bare")
    # What cannot be read is said, and nothing runs.
    os.unlink(s.path("bare", "seed.iso"))
    os.unlink(s.path("bare", ".cloud-init", "meta-data"))
    os.mkdir(s.path("bare", ".cloud-init", "meta-data"))
    match(s.vm("start", "bare", status=1).out, "  ! cannot make .*/bare/seed.iso")
    until(lambda: s.state("bare") == "Stopped", "it does not run")


def test_clone(s):
    s.ok("init")
    s.ok("create", "-s", "1M", "-C", "-n", "ip=192.0.2.2/24", "web")
    s.ok("start", "web")
    s.ok("poweroff", "-f", "web")
    s.ok("snapshot", "web@a")
    for source, name in (("web", "two"), ("web@a", "three")):
        s.ok("clone", source, name)
        true(not os.path.exists(s.path(name, "seed.iso")), "no CD of another guest")
        s.ok("start", name)
        files, _ = unpack(s, name)
        eq(files["meta-data"], f"instance-id: {conf(s, name, 'uuid')}\nlocal-hostname: {name}\n")
        true(conf(s, name, "uuid") != conf(s, "web", "uuid"), "an identity of its own")
        match(files["network-config"], f'macaddress: "{conf(s, name, "network0_mac")}"')
        eq(files["user-data"], seed(s, "web", "user-data"))
        s.ok("poweroff", "-f", name)
    s.ok("rollback", "web@a")
    eq(seed(s, "web", "meta-data"), f"instance-id: {conf(s, 'web', 'uuid')}\nlocal-hostname: web\n")


run(cases_of(sys.modules[__name__]))
