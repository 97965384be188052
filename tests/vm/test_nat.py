#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""NAT switches and forwarded ports, in the network namespaces of world.py, others being guests."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import world
from harness import VM, Store, cases_of, eq, match, run, true, until
from world import sh

PATIENCE = float(os.environ.get("KHYVE_PATIENCE", "1"))
MAC = "58:9c:fc:00:00:0{}"
GUEST = ('loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
         'network0_type="virtio-net"\nnetwork0_switch="home"\nnetwork0_mac="%s"\n')


class World(world.World):
    """A world for a store whose vm runs on its host, with namespaces for guests."""

    def __init__(self, store):
        super().__init__(store.top, store.dir)
        self.s = store
        store.popen = self.popen

    def popen(self, *args, **kw):
        """vm in the host's namespace, with its resolv.conf."""
        return subprocess.Popen([*self.prefix, os.path.abspath(VM), *args], env=self.s.env, cwd=self.s.top, text=True, **kw)

    def guest(self, n, name=None, bridge="vm-home"):
        """A namespace that is connected to the switch like a guest, with the MAC address of the guest's file."""
        space, name = f"{self.id}-g{n}", name or f"guest{n}"
        if not os.path.exists(self.s.path(name)):
            self.s.guest(name, GUEST % MAC.format(n))
        self.s.ok("init")
        self.add_space(space)
        self.script(self.host, f"""
            ip link add tap{n} type veth peer name eth0 netns {space}
            ip link set tap{n} master {bridge}
            ip link set tap{n} up""")
        self.script(space, f"""
            ip link set eth0 address {MAC.format(n)}
            ip link set eth0 up""")
        return space

    def dhcp(self, space):
        """What a DHCP client gets: ip, router, dns, domain."""
        script = os.path.join(self.s.top, "udhcpc.sh")
        if not os.path.exists(script):
            self.s.write(script, "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n"
                         "ip addr flush dev eth0 scope global\nip addr add $ip/$mask dev eth0\n"
                         "ip route replace default via $router\necho ip=$ip router=$router dns=$dns domain=$domain\n")
            os.chmod(script, 0o755)
        text = self.sh(space, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-f", "-t", "10", "-s", script)
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def wait_ip6(self, space):
        """The guest's address from router advertisements, in use."""
        def look():
            text = self.sh(space, "ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")
            m = re.search(r"inet6 (fd\S+)/64", text)
            return m and "tentative" not in text and "default" in self.sh(space, "ip", "-6", "route") and m.group(1)
        return until(look, "an address by router advertisements", 20 * PATIENCE)


@contextlib.contextmanager
def make_world(s):
    w = World(s)
    try:
        w.make()
        s.ok("init")
        # What the first switch of all leaves: system.conf without keys, and a folder.
        s.ok("switch", "create", "first")
        s.ok("switch", "destroy", "first")
        yield w
    finally:
        w.close()


def check_guest(w, n=1):
    """Everything that a guest wants from its network. Returns its namespace and address."""
    g = w.guest(n)
    lease = w.dhcp(g)
    eq(lease["ip"], f"172.31.1.{n + 1}")
    eq((lease["router"], lease["dns"], lease["domain"]), ("172.31.1.1", "172.31.1.1", "vm"))
    eq(w.net(g, "ask", "172.31.1.1", "www.example", "A"), "198.51.100.7")
    eq(w.net(g, "ask", "172.31.1.1", "www.example", "AAAA"), "2001:db8:7::7")
    eq(w.net(g, "get", "198.51.100.7", "80"), "::ffff:192.0.2.1", "who the guest is outside")
    eq(w.net(g, "get", "198.51.100.7", "53000", "udp"), "192.0.2.1", "the same by UDP")
    w.wait_ip6(g)
    eq(w.net(g, "get", "2001:db8:7::7", "80"), "2001:db8::1", "who it is with IPv6")
    w.sh(g, "busybox", "ping", "-c", "1", "-W", "5", "198.51.100.7")
    w.sh(g, "busybox", "ping", "-c", "1", "-W", "5", "172.31.1.1")
    return g, lease["ip"]


def whole_story(s, firewall=""):
    """From create to destroy, on a host with a firewall."""
    with make_world(s) as w:
        if firewall:
            w.sh(w.host, "sh", "-ec", firewall)
        before = w.state()
        s.ok("switch", "create", "-t", "nat", "home")
        match(w.sh(w.host, "ip", "-6", "route"), "default via fe80")
        g, ip = check_guest(w)
        w.serve(g, "0.0.0.0", "80", name="web")
        s.ok("port", "add", "guest1", "8080:80")
        s.ok("port", "add", "guest1", "192.0.2.1:8081:80")
        eq(w.net(w.host, "get", "127.0.0.1", "8080"), "172.31.1.1 web")
        eq(w.net(w.out, "get", "192.0.2.1", "8081"), "192.0.2.254 web")
        true(w.net(w.out, "get", "192.0.2.1", "8080") in ("refused", "nothing", "unreachable"),
             "a port of the loopback address answers outside")
        s.ok("switch", "destroy", "home")
        w.sh(w.host, "ip", "link", "del", "tap1")
        w.same(before)
        return g, ip


def test_plain(s):
    whole_story(s)


def test_docker(s):
    whole_story(s, world.DOCKER)


# What ufw makes of its default: refuse what comes in and what passes through. Written after its documentation.
UFW = """
    for t in iptables ip6tables; do
        icmp=icmp
        [ $t = iptables ] || icmp=ipv6-icmp
        for hook in input forward; do
            chain=$(echo $hook | tr a-z A-Z)
            $t -P $chain DROP
            for part in before-logging before after after-logging reject track; do
                $t -N ufw-$part-$hook
                $t -A $chain -j ufw-$part-$hook
            done
            $t -A ufw-before-$hook -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            $t -A ufw-after-logging-$hook -m limit --limit 3/min -j LOG --log-prefix '[UFW BLOCK] '
        done
        $t -N ufw-skip-to-policy-input
        $t -A ufw-skip-to-policy-input -j DROP
        $t -A ufw-after-input -p udp --dport 67 -j ufw-skip-to-policy-input
        $t -A ufw-before-input -i lo -j ACCEPT
        $t -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
    done
    for type in router-advertisement neighbour-solicitation neighbour-advertisement; do
        ip6tables -A ufw-before-input -p ipv6-icmp --icmpv6-type $type -j ACCEPT
    done
"""


def test_ufw(s):
    whole_story(s, UFW)


# The shape of firewalld's table: policies end in a refusal inside a chain that is called.
FIREWALLD = """
nft -f - <<'END'
table inet firewalld {
    chain filter_INPUT_POLICIES {
        iifname "up0" jump filter_IN_public
        reject with icmpx admin-prohibited
    }
    chain filter_IN_public {
        tcp dport 22 accept
        meta l4proto icmpv6 accept
    }
    chain filter_FORWARD_POLICIES {
        iifname "up0" jump filter_FWD_public
        jump filter_FWD_public
        reject with icmpx admin-prohibited
    }
    chain filter_FWD_public {
        ct state established accept
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_INPUT_POLICIES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_FORWARD_POLICIES
        reject with icmpx admin-prohibited
    }
}
END
"""


def test_firewalld(s):
    whole_story(s, FIREWALLD)


def test_legacy(s):
    """Rules of iptables-legacy are not touched; a warning says what to type, once it is needed."""
    with make_world(s) as w:
        if not shutil.which("iptables-legacy") or w.sh(w.host, "sh", "-c", "iptables-legacy -P FORWARD DROP || echo no"):
            print("skip legacy: no iptables-legacy in this kernel", flush=True)
            return
        r = s.vm("switch", "create", "-t", "nat", "home", status=0)
        m = re.match(r"vm: WARNING: iptables-legacy drops what passes through this host; for guests to reach anything: "
                     r"(.*)\n$", r.err)
        true(m, r.err)
        g = w.guest(1)
        w.dhcp(g)
        eq(w.net(g, "get", "198.51.100.7", "80"), "nothing")
        w.sh(w.host, "sh", "-ec", m.group(1))
        eq(w.net(g, "get", "198.51.100.7", "80"), "::ffff:192.0.2.1")
        eq(s.vm("init", status=0).err, "")
        w.sh(w.host, "iptables-legacy", "-F", "FORWARD")
        r = s.vm("init", status=0)
        match(r.err, "WARNING: iptables-legacy")
        s.ok("switch", "destroy", "home")


def test_firewall_written_anew(s):
    """iptables-save and -restore turn our rules into their own form; they are still found, renewed and removed."""
    with make_world(s) as w:
        w.sh(w.host, "sh", "-ec", world.DOCKER)
        # iptables makes its tables' other chains when it restores them.
        w.sh(w.host, "sh", "-ec", "iptables-save | iptables-restore")
        before = w.state()
        s.ok("switch", "create", "-t", "nat", "home")
        rules = w.ruleset()
        w.sh(w.host, "sh", "-ec", "iptables-save | iptables-restore")
        s.ok("init")
        eq(w.ruleset(), rules, "rules after vm init")
        w.sh(w.host, "sh", "-ec", "iptables-save | iptables-restore")
        match(w.sh(w.host, "iptables-save"), r"-A FORWARD -i vm-home -m comment --comment \"khyve home\" -j ACCEPT")
        s.ok("switch", "destroy", "home")
        w.same(before)


def test_names(s):
    """Guests have names, the same addresses again, and those of their files, whatever they call themselves."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        a, b = w.guest(1), w.guest(2, "web.prod")
        ips = [w.dhcp(a)["ip"], w.dhcp(b)["ip"]]
        eq(w.net(a, "ask", "172.31.1.1", "web-prod.vm", "A"), ips[1])
        eq(w.net(b, "ask", "172.31.1.1", "guest1.vm", "A"), ips[0])
        eq(w.net(b, "ask", "172.31.1.1", "nobody.vm", "A"), "none")
        s.ok("destroy", "-f", "guest1")
        true("guest1" not in s.read(s.path(".config", "nat", "home", "dnsmasq.conf")), "the name is free")
        eq(w.dhcp(b)["ip"], ips[1], "the second guest's address when the first is gone")
        w.serve(b, "::", "80", name="web")
        ip6 = w.wait_ip6(b)
        # dnsmasq may have looked for that address before the guest had it: then the first packets still fail.
        until(lambda: w.net(w.host, "get", ip6, "80").split()[-1] == "web", "an answer by IPv6", 10 * PATIENCE)
        eq(w.net(w.host, "get", ips[1], "80").split()[-1], "web")


def test_several(s):
    """Two switches: different networks, no way from one to the other, one stays when the other goes."""
    with make_world(s) as w:
        before = w.state()
        s.ok("switch", "create", "-t", "nat", "home")
        s.ok("switch", "create", "-t", "nat", "other")
        g, _ = check_guest(w)
        s.guest("guest2", (GUEST % MAC.format(2)).replace("home", "other"))
        h = w.guest(2, bridge="vm-other")
        lease = w.dhcp(h)
        match(lease["ip"], r"^172\.31\.2\.")
        w.serve(h, "0.0.0.0", "80", name="other")
        eq(w.net(w.host, "get", lease["ip"], "80"), "172.31.2.1 other")
        eq(w.net(g, "get", lease["ip"], "80"), "unreachable")
        s.ok("port", "add", "guest2", "0.0.0.0:8080:80")
        eq(w.net(g, "get", "192.0.2.1", "8080").split()[-1], "other", "a forwarded port from the other switch")
        s.ok("switch", "destroy", "home")
        eq(w.net(w.out, "get", "192.0.2.1", "8080").split()[-1], "other")
        eq(len(w.dnsmasq()), 1)
        s.ok("port", "remove", "guest2", "8080")
        s.ok("switch", "destroy", "other")
        for n in (1, 2):
            w.sh(w.host, "ip", "link", "del", f"tap{n}")
        w.same(before)


def test_inside_stays_inside(s):
    """Nobody outside reaches a guest unasked, a guest has no other address than its own, nor the host's loopback."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        g = w.guest(1)
        s.ok("init")
        ip = w.dhcp(g)["ip"]
        w.serve(g, "0.0.0.0", "80", name="web")
        w.sh(w.out, "ip", "route", "add", "172.31.1.0/24", "via", "192.0.2.1")
        eq(w.net(w.out, "get", ip, "80"), "unreachable")
        mac = json.loads(w.sh(w.host, "ip", "-j", "link", "show", "vm-home"))[0]["address"]
        inside = w.serve(w.host, "127.0.0.1", "7", "hear")
        outside = w.serve(w.out, "192.0.2.254", "7", "hear")
        # One that arrives follows those that must not: what is not there then never comes.
        w.net(g, "spoof", "eth0", mac, ip, "127.0.0.1", "7", "1")
        w.net(g, "spoof", "eth0", mac, "127.0.0.1", "127.0.0.1", "7", "2")
        w.net(g, "spoof", "eth0", mac, "203.0.113.9", "192.0.2.254", "7", "3")
        w.net(g, "spoof", "eth0", mac, ip, "192.0.2.254", "7", "4")
        eq(outside.stdout.readline(), "4 from 192.0.2.1\n")
        # Without the rules they would arrive, so it is the rules that keep them away.
        w.sh(w.host, "nft", "flush", "chain", "inet", "khyve", "early")
        w.sh(w.host, "nft", "flush", "chain", "inet", "khyve", "forward")
        w.net(g, "spoof", "eth0", mac, ip, "127.0.0.1", "7", "5")
        w.net(g, "spoof", "eth0", mac, "203.0.113.9", "192.0.2.254", "7", "6")
        eq(inside.stdout.readline(), f"5 from {ip}\n")
        eq(outside.stdout.readline(), "6 from 203.0.113.9\n")


def test_ports(s):
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        g, h = w.guest(1), w.guest(2)
        s.ok("init")
        for space, name in ((g, "one"), (h, "two")):
            w.dhcp(space)
            w.serve(space, "0.0.0.0", "80", name=name)
        w.serve(g, "0.0.0.0", "5353", "udp", name="udp")
        eq(s.ok("port", "list"), "NAME  ADDRESS  PORT  GUEST-PORT  PROTO  SWITCH\n")
        eq(s.ok("port", "add", "guest1", "8080:80"), "")
        s.ok("port", "add", "guest1", "0.0.0.0:5300:5353/udp")
        s.ok("port", "add", "guest2", "192.0.2.1:8080:80")
        eq(s.ok("port", "list"),
           "NAME    ADDRESS    PORT  GUEST-PORT  PROTO  SWITCH\n"
           "guest1  127.0.0.1  8080  80          tcp    home\n"
           "guest1  0.0.0.0    5300  5353        udp    home\n"
           "guest2  192.0.2.1  8080  80          tcp    home\n")
        match(s.read(s.path("guest1", "guest1.conf")),
              r'\nnetwork0_ports="127.0.0.1:8080:80/tcp 0.0.0.0:5300:5353/udp"\n')
        got = json.loads(s.ok("port", "list", "--json", "guest2"))
        eq(got["ports"], [{"name": "guest2", "address": "192.0.2.1", "port": 8080, "guest-port": 80,
                           "protocol": "tcp", "interface": 0, "switch": "home"}])
        eq(w.net(w.host, "get", "127.0.0.1", "8080"), "172.31.1.1 one")
        eq(w.net(w.out, "get", "192.0.2.1", "8080"), "192.0.2.254 two")
        eq(w.net(w.host, "get", "192.0.2.1", "8080").split()[-1], "two")
        eq(w.net(w.out, "get", "192.0.2.1", "5300", "udp"), "192.0.2.254 udp")
        eq(w.net(w.host, "get", "127.0.0.1", "5300", "udp"), "172.31.1.1 udp")
        # A guest uses the host's address for its neighbour.
        eq(w.net(g, "get", "192.0.2.1", "8080").split()[-1], "two")
        # It is all made again from the files.
        w.sh(w.host, "nft", "flush", "ruleset")
        eq(w.net(w.out, "get", "192.0.2.1", "8080"), "refused")
        s.ok("init")
        eq(w.net(w.out, "get", "192.0.2.1", "8080"), "192.0.2.254 two")
        s.ok("port", "remove", "guest2", "8080")
        eq(w.net(w.out, "get", "192.0.2.1", "8080"), "refused")
        s.ok("port", "remove", "guest1", "5300/udp")
        s.ok("port", "remove", "guest1", "127.0.0.1:8080/tcp")
        eq(w.net(w.host, "get", "127.0.0.1", "8080"), "refused")
        eq(s.ok("port", "list"), "NAME  ADDRESS  PORT  GUEST-PORT  PROTO  SWITCH\n")
        true("ports" not in s.read(s.path("guest1", "guest1.conf")), "the key is gone")


def test_without_ip6(s):
    """A host on which somebody has switched IPv6 off."""
    with make_world(s) as w:
        w.sh(w.host, "sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        before = w.state()
        s.ok("switch", "create", "-t", "nat", "home")
        g = w.guest(1)
        w.dhcp(g)
        eq(w.net(g, "get", "198.51.100.7", "80"), "::ffff:192.0.2.1")
        s.ok("switch", "destroy", "home")
        w.sh(w.host, "ip", "link", "del", "tap1")
        w.same(before)


def test_at_once(s):
    """Many commands at the same time: all that they want is there, once."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        for n in range(1, 5):
            s.guest(f"guest{n}", GUEST % MAC.format(n))
        for verb, port in (("add", "{}:80"), ("remove", "{}")):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            running = [s.popen("port", verb, f"guest{n % 4 + 1}", port.format(9000 + n), **pipes) for n in range(12)]
            for p in running:
                out, _ = p.communicate(timeout=60 * PATIENCE)
                eq((p.returncode, out), (0, ""))
            rules = w.ruleset()
            for n in range(12):
                eq(rules.count(f"tcp dport {9000 + n} "), 1 if verb == "add" else 0, f"rules for port {9000 + n}")
            eq(len(w.dnsmasq()), 1)


def test_start(s):
    """A guest that starts finds its switch in order, and a new one is known there."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        for pid in w.dnsmasq():
            os.kill(pid, signal.SIGKILL)
        s.guest("guest1", GUEST % MAC.format(1))
        s.write(s.path("guest1", "guest1.conf"), GUEST % MAC.format(1) + 'network0_ports="8080:80"\n')
        s.ok("start", "guest1")
        eq(len(w.dnsmasq()), 1)
        match(s.read(s.path(".config", "nat", "home", "dnsmasq.conf")), r"58:9c:fc:00:00:01,172\.31\.1\.2,.*,guest1\.vm\n")
        match(w.ruleset(), r"tcp dport 8080 dnat ip to 172\.31\.1\.2:80")
        log = s.read(s.path("guest1", "vm-bhyve.log"))
        true(not re.search(r"warning; .*(nft|dnsmasq|home)", log), log)
        s.ok("poweroff", "-f", "guest1")


def test_ports_refused(s):
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        for n in (1, 2):
            s.guest(f"guest{n}", GUEST % MAC.format(n))
        s.guest("bridged", (GUEST % MAC.format(3)).replace("home", "public"))
        s.ok("port", "add", "guest1", "8080:80")
        eq(s.fails("port", "add", "guest2", "0.0.0.0:8080:80"),
           "vm: ERROR: port 8080 is taken: 127.0.0.1:8080:80/tcp leads to guest guest1; "
           "vm port remove guest1 8080 frees it\n")
        s.ok("port", "add", "guest2", "8080:80/udp")
        s.ok("port", "add", "guest2", "192.0.2.1:8080:80")
        p = w.serve(w.host, "127.0.0.1", "8081")
        match(s.fails("port", "add", "guest1", "8081:80"),
              r"port 8081/tcp is taken by python3\S* \(pid \d+\); choose another one\n$")
        s.ok("port", "add", "guest1", "192.0.2.1:8081:80")
        match(s.fails("port", "add", "guest1", "0.0.0.0:53:53/udp"), r"port 53/udp is taken by dnsmasq \(pid \d+\)")
        p.kill()
        eq(s.fails("port", "add", "guest1", "8080"),
           "vm: ERROR: invalid port - '8080': give [ADDRESS:]HOSTPORT:GUESTPORT[/udp], such as 8080:80\n")
        eq(s.fails("port", "remove", "guest1", "9"),
           "vm: ERROR: guest guest1 has no port 9/tcp; vm port list guest1 shows what it has\n")
        s.ok("port", "add", "guest1", "192.0.2.1:8082:80")
        s.ok("port", "add", "guest1", "8082:80")
        eq(s.fails("port", "remove", "guest1", "8082"),
           "vm: ERROR: port 8082 is forwarded from several addresses; say which: ADDRESS:8082\n")
        match(s.fails("port", "add", "bridged", "90:90"),
              r"no network interface is on a NAT switch or has user networking")
        match(s.fails("port", "add", "nobody", "90:90"), "nobody")
        match(s.fails("port", "add", "guest1", status=2), r"Usage:\n    vm port add NAME")


def test_mends(s):
    """What was killed or removed behind our back comes back with the next command, once."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        rules, pids = w.ruleset(), w.dnsmasq()
        eq(len(pids), 1)
        s.ok("init")
        eq(w.dnsmasq(), pids, "vm init starts another dnsmasq")
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: not w.dnsmasq(), "it ends")
        w.sh(w.host, "nft", "delete", "table", "inet", "khyve")
        w.sh(w.host, "sysctl", "-q", "net.ipv4.ip_forward=0")
        s.ok("init")
        eq(len(w.dnsmasq()), 1)
        eq(w.ruleset(), rules)
        check_guest(w)
        # Another process with that number is not ours to end.
        process = s.path(".config", "nat", "home", "process")
        mine = w.spawn(w.host, "sleep", "1000")
        old = s.read(process).split()
        for pid in w.dnsmasq():
            os.kill(pid, signal.SIGKILL)
        s.write(process, f"{mine.pid} {old[1]} {old[2]}\n")
        s.ok("switch", "destroy", "home")
        eq(mine.poll(), None, "a process that only has the number of dnsmasq")


def test_subnets(s):
    """A network that the host knows in any way is not chosen."""
    with make_world(s) as w:
        s.write(w.resolv, "nameserver 192.168.100.53\n")
        w.sh(w.host, "ip", "route", "add", "172.31.240.0/20", "via", "192.0.2.254", "table", "77")
        w.sh(w.host, "ip", "addr", "add", "10.213.1.9/32", "dev", "lo")
        s.ok("switch", "create", "-t", "nat", "aa")
        match(s.read(s.path(".config", "system.conf")), r'addr_aa="172\.31\.1\.1/24"')
        s.ok("switch", "destroy", "aa")
        w.sh(w.host, "ip", "route", "del", "172.31.240.0/20", "table", "77")
        w.sh(w.host, "ip", "addr", "del", "10.213.1.9/32", "dev", "lo")
        w.sh(w.host, "ip", "route", "add", "172.16.0.0/12", "via", "192.0.2.254")
        s.ok("switch", "create", "-t", "nat", "bb")
        match(s.read(s.path(".config", "system.conf")), r'addr_bb="10\.213\.1\.1/24"')
        w.sh(w.host, "ip", "route", "add", "0.0.0.0/1", "via", "192.0.2.254")
        s.ok("switch", "create", "-t", "nat", "-a", "10.9.0.1/16", "cc")
        s.ok("switch", "create", "-t", "nat", "dd")
        conf = s.read(s.path(".config", "system.conf"))
        match(conf, r'addr_cc="10\.9\.0\.1/16"')
        match(conf, r'addr_dd="10\.213\.2\.1/24"')
        six = re.findall(r'addr6_\w+="(fd\S+)::1/64"', conf)
        eq(len(set(six)), len(six), "two switches have the same IPv6 network")


def test_on_and_off(s):
    """NAT for a standard switch, and back."""
    with make_world(s) as w:
        s.ok("switch", "create", "home")
        before = w.state()
        s.ok("switch", "nat", "home", "on")
        s.ok("switch", "nat", "home", "on")
        check_guest(w)
        w.sh(w.host, "ip", "link", "del", "tap1")
        s.ok("switch", "nat", "home", "off")
        after = w.state()
        for key in ("rules", "links", "processes", "files"):
            eq(after[key], before[key], key)
        eq(w.sh(w.host, "cat", "/proc/sys/net/ipv4/ip_forward"), "0\n")
        eq(w.sh(w.host, "cat", "/proc/sys/net/ipv4/conf/vm-home/route_localnet"), "0\n")


def test_forwarding_was_on(s):
    """What was on before stays on."""
    with make_world(s) as w:
        w.sh(w.host, "sysctl", "-q", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.accept_redirects=1")
        before = w.state()
        s.ok("switch", "create", "-t", "nat", "home")
        s.ok("switch", "destroy", "home")
        w.same(before)
        eq(w.sh(w.host, "cat", "/proc/sys/net/ipv4/ip_forward"), "1\n")


def test_other_store(s):
    """Two stores do not take each other's switches away."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        rules = w.ruleset()
        other = Store()
        try:
            other.popen = w.popen
            env, s.env = s.env, {**s.env, "VM_DIR": other.dir}
            s.ok("init")
            match(s.fails("switch", "create", "-t", "nat", "mine"),
                  f"the NAT switches of this host belong to the store {s.dir}")
            s.env = env
        finally:
            other.close()
        eq(w.ruleset(), rules)
        eq(len(w.dnsmasq()), 1)


def without(w, name, *args):
    """vm on a host that lacks a program: it must fail, and say so."""
    path = os.path.join(w.s.top, "bin")
    os.makedirs(path, exist_ok=True)
    for tool in ("ip", "unshare", "sh", "mount"):
        if not os.path.lexists(os.path.join(path, tool)):
            os.symlink(shutil.which(tool), os.path.join(path, tool))
    # The usual folders are searched, too: hide what is in them behind a file nobody can run.
    hidden = os.path.join(w.s.top, "hidden")
    os.close(os.open(hidden, os.O_CREAT | os.O_WRONLY, 0))
    hide = f"mount --bind {hidden} {shutil.which(name)} || exit 99;"
    p = subprocess.run(["ip", "netns", "exec", w.host, "unshare", "-m", "sh", "-c",
                        f'mount -t tmpfs none {path}; {hide} exec "$@"', "sh", os.path.abspath(VM), *args],
                       env=w.s.env, cwd=w.s.top, text=True, capture_output=True, check=False)
    true(p.returncode == 6, f"without {name}: status {p.returncode}")
    match(p.stderr, f"{name}.* is not installed")


def test_missing_programs(s):
    with make_world(s) as w:
        before = w.state()
        for name in ("nft", "dnsmasq"):
            without(w, name, "switch", "create", "-t", "nat", "home")
            w.same(before)


def test_on_fails(s):
    """A switch that cannot become a NAT switch stays what it is."""
    with make_world(s) as w:
        s.ok("switch", "create", "home")
        before = w.state()
        for name in ("nft", "dnsmasq"):
            without(w, name, "switch", "nat", "home", "on")
            w.same(before)
        match(s.ok("switch", "list"), "\nhome  standard  vm-home  -  ")


def test_one_fails(s):
    """A switch whose dnsmasq cannot run keeps no other from working."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "aa")
        s.ok("switch", "create", "-t", "nat", "home")
        rules = w.ruleset()
        w.sh(w.host, "nft", "delete", "table", "inet", "khyve")
        os.kill(min(w.dnsmasq()), signal.SIGKILL)
        until(lambda: len(w.dnsmasq()) == 1, "one of them is gone")
        hold = ("import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                "s.bind(('172.31.1.1', 53)); print('bound', flush=True); time.sleep(1000)")
        holder = subprocess.Popen([*w.prefix, sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
        try:
            eq(holder.stdout.readline(), "bound\n")
            match(s.fails("init"), "switch aa: dnsmasq: failed to create listening socket for 172.31.1.1")
            eq(w.ruleset(), rules)
        finally:
            holder.kill()
            holder.communicate()
        s.ok("init")
        eq(len(w.dnsmasq()), 2)


def test_same_mac(s):
    """A guest that was copied with its MAC address keeps nobody from the network."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        s.guest("guest1", GUEST % MAC.format(1))
        s.guest("guest1copy", GUEST % MAC.format(1).upper())
        g = w.guest(1)
        eq(w.dhcp(g)["ip"], "172.31.1.2")
        eq(w.net(g, "ask", "172.31.1.1", "guest1.vm", "A"), "172.31.1.2")


def test_names_that_are_words(s):
    """What dnsmasq means by a word is none of a guest's business."""
    with make_world(s) as w:
        s.ok("switch", "create", "-t", "nat", "home")
        for n, name in enumerate(("ignore", "infinite", "12h", "2001"), 1):
            g = w.guest(n, name)
            lease = w.dhcp(g)
            eq(lease["ip"], f"172.31.1.{n + 1}", name)
            eq(w.net(g, "ask", "172.31.1.1", f"{name}.vm", "A"), lease["ip"], name)


def test_killed_create(s):
    """What a create that was killed has not made of the first NAT switch is made by the next init."""
    with make_world(s) as w:
        s.write(s.path(".config/system.conf"), 'switch_list="home"\ntype_home="nat"\naddr_home="172.31.1.1/24"\n')
        s.ok("init")
        eq(w.dhcp(w.guest(1))["ip"], "172.31.1.2")


def test_killed_destroy(s):
    """What a destroy that was killed has left of the last NAT switch goes with the next init."""
    with make_world(s) as w:
        before = w.state()
        path = s.path(".config/system.conf")
        text = s.read(path)
        s.ok("switch", "create", "-t", "nat", "home")
        s.write(path, text)
        s.ok("init")
        w.sh(w.host, "ip", "link", "del", "vm-home")
        w.same(before)


def missing():
    """Why this cannot run here, or None."""
    if os.geteuid() != 0:
        return "it needs root"
    for name in ("ip", "nft", "dnsmasq", "iptables", "ip6tables", "busybox", "unshare"):
        if not shutil.which(name):
            return f"the program {name} is not installed (tools/deps.sh test)"
    probe = ("ip link add br0 type bridge && ip link add ve0 type veth peer name ve1 && iptables -A FORWARD -m conntrack "
             "--ctstate ESTABLISHED -j ACCEPT && nft 'add table inet t; add chain inet t c { type nat hook "
             "postrouting priority 100; }; add rule inet t c masquerade'")
    p = subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True, text=True, check=False)
    return f"the kernel lacks bridges, veth or nf_tables: {p.stderr.strip()}" if p.returncode else None


if __name__ == "__main__":
    why = missing()
    if why:
        print(f"SKIPPED: {why}", flush=True)
        sys.exit(77)
    # Whoever ends this early leaves no namespace behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    run(cases_of(sys.modules[__name__]))
