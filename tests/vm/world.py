# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Network namespaces for tests of NAT switches: one is the host, one the world outside.

The host is 192.0.2.1 and 2001:db8::1; outside is .254 and ::fe with a name server that knows www.example,
198.51.100.7 and 2001:db8:7::7, where a server says who asks; six.example is the second one of them only. Outside has
no route to any private network. For tests of vm and for guest scenarios: either's harness will do.
"""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

from harness import PATIENCE, Failed

NET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nat_net.py")
# The rules of a host with Docker.
DOCKER = """
    ip link add docker0 type bridge
    ip addr add 172.17.0.1/16 dev docker0
    for t in iptables ip6tables; do
        $t -P FORWARD DROP
        $t -N DOCKER-USER
        $t -A FORWARD -j DOCKER-USER
        $t -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        $t -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
        $t -A DOCKER-USER -j RETURN
    done
    iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
"""


def sh(*argv, check=True, stdin=None, env=None):
    r = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False, env=env,
                       timeout=60 * PATIENCE)
    if check and r.returncode:
        raise Failed(f"{' '.join(argv)}: {r.stdout}{r.stderr}")
    return r.stdout


def name_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8") as f:
        return f.read().strip()
    return "gone"


class World:
    """The namespaces, files below top, and the host of the store in dir."""

    def __init__(self, top, dir):
        self.top, self.dir = str(top), str(dir)
        self.id = f"khyvenat-{os.getpid()}"
        self.host, self.out = f"{self.id}-host", f"{self.id}-out"
        self.spaces, self.procs = [], []
        self.resolv = os.path.join(self.top, "resolv.conf")
        self.write(self.resolv, "nameserver 192.0.2.254\n")
        # dnsmasq runs as a user of its own.
        os.chmod(self.top, 0o755)
        # In front of a command that is to run on the host, with its resolv.conf.
        self.prefix = ["ip", "netns", "exec", self.host, "unshare", "-m", "sh", "-c",
                       'mount --bind "$0" /etc/resolv.conf && exec "$@"', self.resolv]

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def sh(self, space, *argv, **kw):
        return sh("ip", "netns", "exec", space, *argv, **kw)

    def add_space(self, name):
        sh("ip", "netns", "add", name)
        self.spaces.append(name)
        self.sh(name, "ip", "link", "set", "lo", "up")

    def script(self, space, text):
        for line in text.strip().splitlines():
            self.sh(space, *line.split())

    def spawn(self, space, *argv, env=None):
        p = subprocess.Popen(["ip", "netns", "exec", space, *argv], stdout=subprocess.PIPE, text=True,
                             env={**os.environ, **(env or {})})
        self.procs.append(p)
        return p

    def serve(self, space, *args, name=""):
        p = self.spawn(space, sys.executable, NET, "serve", *args, env={"NAME": name})
        if p.stdout.readline() != "ready\n":
            raise Failed(f"no server {' '.join(args)}")
        return p

    def net(self, space, *args):
        """One of nat_net.py's clients."""
        return self.sh(space, sys.executable, NET, *args).strip()

    def make(self):
        self.add_space(self.host)
        self.add_space(self.out)
        self.script(self.host, f"""
            sysctl -q net.ipv6.conf.default.autoconf=0
            ip link add up0 type veth peer name up0 netns {self.out}
            ip link set up0 up
            ip addr add 192.0.2.1/24 dev up0
            ip addr add 2001:db8::1/64 dev up0 nodad
            sysctl -q net.ipv6.conf.default.autoconf=1
            ip route add default via 192.0.2.254""")
        # A router says that it is one when it is asked whether it is there, too.
        self.script(self.out, """
            sysctl -q net.ipv6.conf.all.forwarding=1
            ip link set up0 up
            ip addr add 192.0.2.254/24 dev up0
            ip addr add 2001:db8::fe/64 dev up0 nodad
            ip addr add 198.51.100.7/32 dev lo
            ip addr add 2001:db8:7::7/128 dev lo nodad""")
        # A name server, and a router whose advertisements give the host its way out with IPv6.
        dns = os.path.join(self.top, "outside.conf")
        self.write(dns, "port=53\nno-resolv\nno-hosts\ninterface=up0\nbind-interfaces\nuser=root\npid-file=\n"
                     "address=/www.example/198.51.100.7\naddress=/www.example/2001:db8:7::7\naddress=/six.example/2001:db8:7::7\n"
                     "enable-ra\ndhcp-range=2001:db8::,ra-only,64\nra-param=up0,4,900\n"
                     f"dhcp-leasefile={self.top}/outside.leases\n")
        self.spawn(self.out, "dnsmasq", "-k", "-C", dns)
        self.serve(self.out, "::", "80")
        self.serve(self.out, "198.51.100.7", "53000", "udp")
        end = time.time() + 20 * PATIENCE
        while "default" not in self.sh(self.host, "ip", "-6", "route"):
            if time.time() > end:
                raise Failed("the host does not learn its router")
            time.sleep(0.05)

    def close(self):
        for space in self.spaces:
            for pid in sh("ip", "netns", "pids", space, check=False).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            sh("ip", "netns", "del", space, check=False)
        for p in self.procs:
            p.wait()

    # --- what there is ---

    def state(self):
        """All that a switch could change on the host."""
        def sysctl():
            values = {}
            for line in self.sh(self.host, "sh", "-c", "grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf "
                                "/proc/sys/net/ipv4/ip_forward 2>/dev/null || true").splitlines():
                key, _, value = line.partition(":")
                if "stable_secret" not in key:
                    values[key] = value
            return values

        def files():
            return sorted(os.path.join(folder, f) for folder, _, names in os.walk(os.path.join(self.dir, ".config"))
                          for f in [*names, ""])
        with open(os.path.join(self.dir, ".config", "system.conf"), encoding="utf-8") as f:
            conf = f.read()
        links = sorted(i["ifname"] for i in json.loads(self.sh(self.host, "ip", "-j", "link")))
        # Times to live count down.
        routes = re.sub(r" expires \S+", "", self.sh(self.host, "sh", "-c", "ip route; ip -6 route; ip rule"))
        return {"rules": self.sh(self.host, "nft", "-s", "list", "ruleset"), "links": links, "routes": routes,
                "sysctl": sysctl(), "files": files(), "conf": conf,
                "processes": sorted(name_of(p) for p in sh("ip", "netns", "pids", self.host).split())}

    def same(self, before):
        """Fails if the host differs from what it was."""
        now = self.state()
        for key, old in before.items():
            new = now[key]
            if isinstance(old, dict):
                old, new = ({k: v for k, v in a.items() if b.get(k) != v} for a, b in ((old, new), (new, old)))
            if old != new:
                raise Failed(f"{key} of the host\n--- was\n{old}\n--- is\n{new}")

    def dnsmasq(self):
        """The pids of dnsmasq on the host."""
        return [int(p) for p in sh("ip", "netns", "pids", self.host).split() if name_of(p) == "dnsmasq"]

    def ruleset(self):
        return self.sh(self.host, "nft", "-s", "list", "ruleset")
