#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""A stand-in for khyve in tests of vm: it keeps the lock, speaks the control protocol and prints on COM1.

The file fake.mode in the guest's folder says how it behaves, one word per line:
  die          refuse at once: a line on standard error, status 4
  die-late     the same shortly after it has come up
  die-up       the same half a second after that
  status=N     end with status N when the power button is pressed
  stubborn     ignore the power button
  hang         accept control connections and say nothing
  slow=N       come up after N seconds
  say=WORDS    what serial ports have said, _ for blanks
  tells        write to fake.told when it is paused and resumed
  no-pause     refuse that
  starts-paused
  locked-cd    refuse to eject a disc
  no-space     paused, because the host has no space for a disk
  no-grow      refuse to let a disk grow
  screen=WxH   the screen's size: a picture in which each pixel tells where it is
  slow-keys    fetch a chord only when it is asked for the second time
  no-keys      never fetch one
  caps         Caps Lock is on
  read=N written=N received=N sent=N
               what its disk and its card have moved
  reads=N      bytes more that the disk reads in each second
  tap=NAME     the tap that its card is on
  busy         use processor time
  screen-stays when killed, leave a program that keeps the screen's port for a while

Network cards whose back end is a descriptor (a tap) are at hand by commands: "inject N HEX TIMES" sends a frame by
descriptor N, "frames N" answers what came by it.
"""
import contextlib
import os
import select
import socket
import sys
import time


def parse_args(argv):
    """Reads -k FILE, -o KEY=VALUE and the name, as khyve does."""
    conf, extra, i = {}, [], 0
    while i < len(argv):
        if argv[i] == "-k":
            with open(argv[i + 1], encoding="utf-8") as f:
                for line in f:
                    line = line.strip()
                    if line and not line.startswith("#"):
                        key, _, value = line.partition("=")
                        conf[key] = value
            i += 2
        elif argv[i] == "-o":
            key, _, value = argv[i + 1].partition("=")
            conf[key] = value
            i += 2
        else:
            extra.append(argv[i])
            i += 1
    return conf, extra


# What stands before a frame, unless somebody asks for more: virtio's header without num_buffers.
VNET_HEADER = bytes(10)


def tap_fds(conf):
    """The descriptors that network cards were given."""
    fds = set()
    for key, value in conf.items():
        if key.endswith(".backend") and value.startswith("fd:"):
            fds |= {int(n) for n in value[3:].split(":")}
    return fds


def listen_unix(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(16)
    return s


def listen_screen(text):
    if text.startswith("unix:"):
        return listen_unix(text[5:])
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if ":" in host:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((host, int(port)))
    s.listen(4)
    return s


class Fake:
    """One guest that runs."""

    def __init__(self, conf, mode):
        self.conf, self.mode, self.start = conf, mode, time.time()
        self.control = listen_unix(conf["control.path"])
        self.ports, self.screen, self.screen_text = {}, None, None
        for n in range(1, 5):
            path = conf.get(f"lpc.com{n}.path", "")
            if path.startswith("unix:"):
                self.ports[listen_unix(path[5:])] = n
        for key, value in conf.items():
            if key.endswith(".device") and value == "fbuf":
                self.wait = conf.get(key[:-6] + "wait") == "true"
                self.screen_text = conf[key[:-6] + "tcp"]
                self.screen = listen_screen(self.screen_text)
        if "screen-stays" in mode and os.fork() == 0:
            parent = os.getppid()
            os.closerange(0, self.screen.fileno())
            while os.getppid() == parent:
                time.sleep(0.01)
            time.sleep(0.3)
            os._exit(0)
        self.state = "paused" if {"starts-paused", "no-space"} & set(mode) else "waiting" if self.screen and self.wait else "running"
        self.clients, self.consoles, self.resets = {}, {}, 0
        self.asked = self.typed = 0
        self.listeners = []
        self.taps = {fd: [] for fd in tap_fds(conf)}

    def status(self):
        lines = [f"name={self.conf['name']}", f"state={self.state}", f"pid={os.getpid()}",
                 f"uptime={int(time.time() - self.start)}", f"resets={self.resets}",
                 "cpus=2", f"memory={256 << 20}"]
        if self.screen:
            lines.append(f"vnc={self.screen_text}")
        if "no-space" in self.mode:
            lines.append("reason=no space on the host for disk0.img")
        return lines

    def stats(self):
        n = {w.partition("=")[0]: w.partition("=")[2] for w in self.mode if "=" in w}
        age = time.time() - self.start
        read = int(n.get("read", 0)) + int(int(n.get("reads", 0)) * age)
        return [f"exits={int(1000 + 1000 * age)}", "exits.io=7", f"disk.nvme-0:4.0.read={read}",
                f"disk.nvme-0:4.0.written={n.get('written', 0)}", "disk.nvme-0:4.0.requests=3",
                *([f"net.virtio-net-0:5.0.tap={n['tap']}"] if "tap" in n else []),
                f"net.virtio-net-0:5.0.received={n.get('received', 0)}", f"net.virtio-net-0:5.0.sent={n.get('sent', 0)}"]

    def disks(self):
        return sorted((key, value) for key, value in self.conf.items() if key.endswith(".path") and value.endswith(".img"))

    def tell(self, event):
        for client in self.listeners:
            try:
                client.sendall(f"event {event}\n".encode())
            except OSError:
                pass

    def set_state(self, state):
        self.state = state
        self.tell(f"state {state}")

    def command(self, client, line):
        """Answers one line. Ends the process when the guest is to be off."""
        answer = []
        if line == "status":
            answer = self.status()
        elif line.startswith("inject "):
            _, fd, frame, times = line.split()
            for _ in range(int(times)):
                os.write(int(fd), VNET_HEADER + bytes.fromhex(frame))
        elif line.startswith("frames "):
            answer = [f"frame={f.hex()}" for f in self.taps[int(line.split()[1])]]
        elif line.startswith("cd 0 "):
            with open("fake.cd", "a", encoding="utf-8") as f:
                f.write(line + "\n")
            if "locked-cd" in self.mode and line == "cd 0 eject":
                client.sendall(b"err EBUSY the guest has locked the drive\n")
                return
            answer = ["medium=no" if "force" in line or "eject" in line else "medium=yes"]
        elif line == "stats":
            answer = self.stats()
        elif line == "events":
            self.listeners.append(client)
        elif line == "disk":
            for n, (_, path) in enumerate(self.disks()):
                trouble = ": no space on the host" if "no-space" in self.mode else ""
                answer.append(f"nvme-{n}:4.{n}={os.stat(path).st_size} {path}{trouble}")
        elif line.startswith("disk ") and line.endswith(" grow"):
            name = line.split()[1]
            if "no-grow" in self.mode:
                client.sendall(b"err EOPNOTSUPP its disks keep their size\n")
                return
            path = self.disks()[int(name[5])][1]
            with open("fake.grown", "a", encoding="utf-8") as f:
                f.write(f"{name} {os.stat(path).st_size}\n")
            answer = [f"{name}={os.stat(path).st_size}"]
        elif line == "screen":
            size = [w[7:] for w in self.mode if w.startswith("screen=")]
            if not size:
                client.sendall(b"err ENODEV the guest has no screen\n")
                return
            self.show(client, *map(int, size[0].split("x")))
            return
        elif line.split(" ")[0] == "key":
            self.asked += 1
            if "no-keys" in self.mode and self.typed or "slow-keys" in self.mode and self.asked % 2:
                client.sendall(b"err EAGAIN the guest has not fetched the keys before: try again\n")
                return
            if line != "key":
                self.typed += 1
                with open("fake.keys", "a", encoding="utf-8") as f:
                    f.write(line[4:] + "\n")
            answer = ["caps=on" if "caps" in self.mode else "caps=off"]
        elif line == "reset":
            self.resets += 1
            self.tell(f"reset {self.resets}")
            self.set_state(self.state)
        elif line in ("pause", "resume") and "no-pause" not in self.mode:
            if "tells" in self.mode:
                with open("fake.told", "a", encoding="utf-8") as f:
                    f.write(line + "\n")
            self.set_state("paused" if line == "pause" else "running")
        elif line == "poweroff" and "stubborn" in self.mode:
            pass
        elif line in ("poweroff", "quit"):
            client.sendall(b"ok\n")
            status = [w[7:] for w in self.mode if w.startswith("status=")]
            self.end(int(status[0]) if status and line == "poweroff" else 1)
        else:
            client.sendall(b"err EINVAL unknown command\n")
            return
        client.sendall("".join(f"{a}\n" for a in answer + ["ok"]).encode())

    @staticmethod
    def show(client, width, height):
        """The picture lies behind something else, and its lines have gaps."""
        stride, offset = 4 * width + 12, 64
        memory = os.memfd_create("screen")
        lines = (b"".join(bytes((x & 255, y & 255, 7, 99)) for x in range(width)) + b"gapgapgapgap" for y in range(height))
        os.write(memory, bytes(offset) + b"".join(lines))
        answer = f"width={width}\nheight={height}\nstride={stride}\noffset={offset}\nok\n"
        socket.send_fds(client, [answer.encode()], [memory])
        os.close(memory)

    def end(self, status):
        self.tell("state off")
        for path in [self.conf["control.path"]] + [f"com{n}.sock" for n in self.ports.values()]:
            if os.path.exists(path):
                os.unlink(path)
        os._exit(status)

    def on_client(self, client):
        try:
            data = client.recv(4096)
        except ConnectionError:
            data = b""
        if not data:
            if client in self.listeners:
                self.listeners.remove(client)
            del self.clients[client]
            client.close()
            return
        self.clients[client] += data
        while b"\n" in self.clients.get(client, b""):
            line, _, rest = self.clients[client].partition(b"\n")
            self.clients[client] = rest
            if "hang" not in self.mode:
                self.command(client, line.decode())

    def on_console(self, client):
        # Who leaves with something unread resets the connection.
        try:
            data = client.recv(4096)
            if data:
                client.sendall(b"echo:" + data)
        except ConnectionError:
            data = b""
        if not data:
            del self.consoles[client]
            client.close()

    def step(self, timeout):
        socks = [self.control, *self.ports, *self.clients, *self.consoles, *self.taps]
        if self.screen:
            socks.append(self.screen)
        for s in select.select(socks, [], [], timeout)[0]:
            if s is self.control:
                client = s.accept()[0]
                self.clients[client] = b""
                if "hang" not in self.mode:
                    with contextlib.suppress(ConnectionError):
                        client.sendall(b"khyve 1\n")
            elif s in self.ports:
                client = s.accept()[0]
                self.consoles[client] = b""
                said = [f"boot of {self.conf['name']} on com{self.ports[s]}"]
                said += [word[4:].replace("_", " ") for word in self.mode if word.startswith("say=")]
                # Who has left again is noticed at the next step.
                with contextlib.suppress(ConnectionError):
                    client.sendall("".join(line + "\r\n" for line in said).encode())
            elif s in self.taps:
                self.taps[s] = self.taps[s][-200:] + [os.read(s, 65600)[len(VNET_HEADER):]]
            elif s is self.screen:
                s.accept()[0].close()
                self.state = "running"
            elif s in self.clients:
                with contextlib.suppress(ConnectionError):
                    self.on_client(s)
            else:
                self.on_console(s)


def main():
    conf, extra = parse_args(sys.argv[1:])
    mode = []
    if os.path.exists("fake.mode"):
        with open("fake.mode", encoding="utf-8") as f:
            mode = f.read().split()
    # Descriptors other than these would be leaks of vm.
    open_fds = sorted(int(n) for n in os.listdir("/proc/self/fd"))
    with open("fake.seen", "w", encoding="utf-8") as f:
        f.write(f"fds {' '.join(str(n) for n in open_fds if n <= 3)}\n")
        f.write(f"leaks {len(set(open_fds) - {0, 1, 2, 3} - tap_fds(conf)) - 1}\n")
        f.write(f"args {' '.join(extra)}\n")
        f.write(f"nice {os.nice(0)}\n")
    if "die" in mode:
        print("some earlier line", file=sys.stderr)
        print("khyve: no firmware in this test", file=sys.stderr)
        sys.exit(4)
    for word in mode:
        if word.startswith("slow="):
            time.sleep(float(word[5:]))
    fake = Fake(conf, mode)
    end = time.time() + (0.1 if "die-late" in mode else 0.6) if set(mode) & {"die-late", "die-up"} \
        else None
    while True:
        fake.step(0 if "busy" in mode else 0.05 if end else None)
        if end and time.time() > end:
            print("khyve: it is over", file=sys.stderr, flush=True)
            fake.end(4)


main()
