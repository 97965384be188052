#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of --dry-run: whatever it is given to, it says what would be done or why not, and nothing is changed.

Each command runs with it first, then without it. As root in a network namespace of its own, for the switches.
"""
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys

from harness import Failed, cases_of, eq, match, run, true

GUEST = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
NETWORK = 'network0_type="virtio-net"\nnetwork0_switch="user"\n'
CD = 'disk1_type="ahci-cd"\ndisk1_name="%s"\ndisk1_dev="custom"\n'


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout


def state(s):
    """Every file and folder of the store and beside it, with its time; and what the host's network is."""
    found = {}
    for folder, names, files in os.walk(s.top):
        for name in names + files + ["."]:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            data = b""
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    data = f.read()
            found[path] = (st.st_mode, st.st_uid, st.st_size, st.st_mtime_ns, hashlib.sha256(data).hexdigest())
    for what in ("link", "addr", "route"):
        # Clocks run by themselves, and so do the states that they lead to.
        found["ip " + what] = re.sub(r"\d+sec|\w+_timer +\S+|tentative|state \w+|<.*?>", "", output("ip", "-d", what))
    if shutil.which("nft"):
        found["nft"] = output("nft", "list", "ruleset")
    with open("/proc/sys/net/ipv4/ip_forward", encoding="utf-8") as f:
        found["forward"] = f.read()
    return found


def dry(s, command, before=None):
    """Runs a command with --dry-run, behind it and within it. What it did, which is nothing."""
    before = before or state(s)
    words = command.split()
    r = s.vm(*words, "--dry-run")
    after = state(s)
    eq({k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}, set(),
       f"vm {command} --dry-run changed something\n{r.out}{r.err}")
    eq(s.vm(words[0], "--dry-run", *words[1:]).out, r.out, command)
    return r


def both(s, *commands):
    """Commands that can be done: planned, then done."""
    for command in commands:
        plan = dry(s, command)
        eq((plan.exact, plan.codes), (0, []), f"vm {command} --dry-run\n{plan.out}{plan.err}")
        match(plan.out, "(?m)^would ")
        r = s.vm(*command.split(), stdin="y\n")
        eq(r.exact, 0, f"vm {command}\n{r.out}{r.err}")
        true("would " not in r.out, r.out)


def neither(s, *commands):
    """Commands that cannot: for the same reason, in the same words and with the same status."""
    for command in commands:
        before = state(s)
        plan = dry(s, command, before)
        r = s.vm(*command.split())
        eq((plan.exact, plan.codes, plan.err), (r.exact, r.codes, r.err), f"vm {command}\n{plan.out}--- done\n{r.out}")
        true(plan.exact, f"vm {command} --dry-run\n{plan.out}")


def prepare(s):
    s.ok("init")
    s.guest("off", GUEST + NETWORK)
    s.guest("on", GUEST + CD % s.path(".config/null.iso"))
    s.ok("start", "on")
    for name in ("a.iso", "b.img"):
        s.write(os.path.join(s.top, name), name)
    for name in ("store", "isos"):
        os.mkdir(os.path.join(s.top, name))


def test_guests(s):
    prepare(s)
    both(s, "create -s 1M new", "set new cpu=2", "set console=tmux", "clone off copy", "rename copy other", "add -d disk -s 1M off",
         "disk resize off 1 2M", "disk resize off 1 +1M", "disk resize on 0 2M", "disk remove -f off 1", "add -d network -s user off",
         "remove -d network 1 off", "tags add off web db", "tags remove off db", "protect off on", "protect off off",
         "port add off 8089:80", "port remove off 8089", "destroy -f other", "destroy new", "trash restore new", "destroy new",
         "trash empty -f")
    s.env["EDITOR"] = "true"
    both(s, "configure off")
    neither(s, "create off", "create -t none xx", "create -s 1x xx", "clone off on", "clone off .", "clone nobody xx", "clone on xx",
            "rename off on", "rename off .", "rename on xx", "set off cpu=many", "set off cpuu=1", "set nothing=1",
            "add -d disk -s 1x off", "add -d network -s . off", "add -d disk -s 1M nobody", "remove -d network 7 off",
            "remove -d network 0 on", "disk resize off 9 1G", "disk resize off 0 1M1", "disk remove -f off 0",
            "disk remove -f off 5", "disk remove -f on 0", "tags remove off none", "tags add off .", "protect off maybe",
            "protect nobody on", "configure nobody", "port add off x", "port add on 8089:80", "port remove off 1", "destroy nobody",
            "destroy on", "trash restore nobody", "trash empty -f nobody", "cd off eject", "cd on insert none.iso")
    s.ok("protect", "off", "on")
    neither(s, "destroy -f off", "disk remove -f off 0", "rollback off@one")


def test_snapshots_and_images(s):
    prepare(s)
    both(s, "snapshot off@one", "snapshot off@two", "snapshot -f on@live", "rollback -r off@one", "clone off@one new",
         "destroy off@one")
    neither(s, "snapshot on", "snapshot off@!", "snapshot on@live", "snapshot -f on@live", "rollback off@none", "rollback off", "rollback on@live",
            "destroy off@none", "clone off@none xx")
    both(s, "image create off")
    uuid = s.ok("image", "list").splitlines()[1].split()[0]
    both(s, f"image provision {uuid} made", f"image destroy {uuid}")
    neither(s, "image create nobody", "image provision none xx", "image provision none off", "image destroy none")
    s.ok("snapshot", "off@1")
    s.ok("snapshot", "off@2")
    neither(s, "rollback off@1")


def test_media_and_datastores(s):
    prepare(s)
    right, wrong = hashlib.sha256(b"a.iso").hexdigest(), hashlib.sha256(b"else").hexdigest()
    both(s, f"datastore add more {s.top}/store", f"datastore iso isos {s.top}/isos", "create -s 1M -d more there",
         "destroy -f there", "datastore remove more", f"iso {s.top}/a.iso {right}", f"iso -d isos {s.top}/a.iso", f"img {s.top}/b.img")
    neither(s, "datastore add more /nonexistent", f"datastore add default {s.top}", f"datastore add . {s.top}/store",
            "datastore remove none", "datastore remove default", f"datastore iso isos {s.top}/isos", "iso /nonexistent.iso",
            f"iso {s.top}/a.iso", f"img {s.top}/a.iso {wrong}", "iso -d none a.iso", "iso gopher://example.org/a.iso")
    r = dry(s, "iso http://192.0.2.99/b.iso")
    eq((r.exact, r.out), (0, f"would get http://192.0.2.99/b.iso into {s.path('.iso')}\n"))


def test_power(s):
    prepare(s)
    s.write(s.conf, 'vm_list="off"\nvm_delay=0\n')
    both(s, "reset -f on", "cd on eject", "poweroff -f on", "startall", "stopall -k -t 20", "start on", "stop -t 20 on", "start on")
    neither(s, "start on", "reset -f off", "poweroff -f off", "restart off", "start nobody", "stop nobody")


def test_far(s):
    """Where the other host would be changed, and what has to be fetched, nothing is asked of others."""
    prepare(s)
    eq(dry(s, "migrate -r there off 192.0.2.99").out, "would send off to 192.0.2.99 as there\n")
    neither(s, "migrate nobody 192.0.2.99", "migrate off -- -x", "migrate -r . off 192.0.2.99")
    s.ok("img", os.path.join(s.top, "b.img"))
    r = dry(s, "up b.img upper")
    eq(r.exact, 0, r.err)
    match(r.out, "(?m)^would make a key for vm ssh\n(.*\n)*would create upper with . CPU and 1G of memory\nwould start upper ")
    r = dry(s, "up http://192.0.2.99/cc.img")
    eq(r.exact, 0, r.out + r.err)
    neither(s, "up /nonexistent.img", "up b.img .")
    s.ok("poweroff", "-f", "on")
    shutil.rmtree(s.dir, ignore_errors=True)
    s.write(os.path.join(s.top, "c.img"), "c")
    eq(dry(s, f"up {s.top}/b.img first").exact, 0, "before there is a store")


def test_switches(s):
    prepare(s)
    for n in ("em0", "em1"):
        subprocess.run(["ip", "link", "add", n, "type", "veth", "peer", "name", "peer" + n], check=True)
        subprocess.run(["ip", "link", "set", n, "up"], check=True)
    both(s, "switch create public", "switch create -i em1 -p second", "switch add public em0", "switch address public 192.0.2.1/24",
         "switch private public on", "switch private public off", "switch address public none", "switch remove public em0",
         "switch vlan public 5", "switch vlan public 0", "switch create -a 198.51.100.1/24 third")
    neither(s, "switch create .", "switch create user", "switch create public", "switch create -t none xx", "switch create -t vxlan xx",
            "switch create -t manual xx", "switch create -t manual -b none0 xx", "switch create -i none0 xx", "switch create -i lo xx",
            "switch create -i em1 xx", "switch create -a x xx", "switch add none em0", "switch add public none0", "switch add public lo",
            "switch add public em1", "switch add second em1", "switch remove public em9", "switch vlan public 5000",
            "switch address public x", "switch address public none", "switch address third 192.0.2.7/24 delete", "switch private public maybe",
            "switch nat none on", "switch nat second on", "switch confirm public", "switch destroy none")
    subprocess.run(["ip", "addr", "add", "203.0.113.9/24", "dev", "em0"], check=True)
    both(s, "switch add --now public em0")
    neither(s, "switch destroy public", "switch vlan public 7")
    both(s, "switch remove --now public em0", "switch destroy third", "switch destroy second", "switch destroy public")


def test_nat(s):
    if not shutil.which("nft") or not shutil.which("dnsmasq"):
        print("skipped nat: nft or dnsmasq is missing")
        return
    prepare(s)
    both(s, "switch create -t nat inside", "switch nat inside off", "switch nat inside on", "switch destroy inside")
    neither(s, "switch create -t nat -i em0 xx")


def test_others(s):
    """Who does not change anything does not have it."""
    s.ok("init")
    for command in ("list", "info", "why off", "log off", "get all", "console off", "exec off true", "ssh off"):
        true(s.vm(*command.split(), "--dry-run").exact, command)
    for command in ("clone", "switch", "tags", "up", "trash", "cd", "iso", "migrate", "stopall"):
        match(s.ok("help", command), "--dry-run  say what would be done")


def guarded(fn):
    def run_case(s):
        try:
            fn(s)
        finally:
            s.close()
            for name in re.findall(r"(?m)^\d+: ([^:@]+)", output("ip", "-o", "link")):
                if name != "lo":
                    subprocess.run(["ip", "link", "del", name], stderr=subprocess.DEVNULL, check=False)
    return run_case


def main():
    if os.geteuid() != 0:
        print("skipped: only root can make network namespaces")
        sys.exit(77)
    if "KHYVE_NETNS" not in os.environ:
        os.environ["KHYVE_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "-n", "-m", sys.executable, *sys.argv])
    for command in (["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "none", "/run"],
                    ["mount", "-t", "sysfs", "none", "/sys"], ["ip", "link", "set", "lo", "up"]):
        if subprocess.run(command, check=False).returncode:
            raise Failed(" ".join(command))
    run({n: guarded(f) for n, f in cases_of(sys.modules[__name__]).items()})


if __name__ == "__main__":
    main()
