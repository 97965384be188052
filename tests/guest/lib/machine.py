# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Guests: started by khyve alone or by vm, read through their serial port, told what to do by the control socket."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import harness
from harness import Failed, check, limit

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
TERMINAL_CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")
MARK = "KHYVE-TEST: "


class Serial:
    """Takes in what a guest prints on a serial port that is a UNIX socket."""

    def __init__(self, path, log=None):
        self.path, self.log = str(path), log
        self.text, self.position = "", 0
        self.changed = threading.Condition()
        self.sock = harness.wait_until(self.connect, 15, f"serial port {path}")
        self.closed = False
        threading.Thread(target=self.read, daemon=True).start()

    def connect(self):
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self.path)
        except OSError:
            sock.close()
            return None
        return sock

    def read(self):
        part = b""
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if data and self.log:
                with open(self.log, "ab") as f:
                    f.write(data)
            # A terminal code may come in two pieces.
            whole = part + data
            part = re.search(rb"(\x1b[^A-Za-z\n]*)?$", whole).group(0) if data else b""
            with self.changed:
                self.text += TERMINAL_CODES.sub(b"", whole[:len(whole) - len(part)]).decode(errors="replace")
                self.closed = not data
                self.changed.notify_all()
            if not data:
                return

    def send(self, text):
        self.sock.sendall(text.encode())

    def close(self):
        self.sock.close()

    def wait(self, pattern, seconds):
        """The next match of a regular expression after the last one. A guest's own failure ends the wait."""
        end = time.monotonic() + limit(seconds)
        with self.changed:
            while True:
                match = re.compile(pattern, re.MULTILINE).search(self.text, self.position)
                if match:
                    self.position = match.end()
                    return match
                bad = re.search(rf"^{MARK}failed=(.*)$|^.*(Kernel panic.*)$", self.text[self.position:], re.MULTILINE)
                if bad:
                    raise Failed(f"the guest says: {bad.group(0)}")
                left = end - time.monotonic()
                if self.closed or left <= 0:
                    why = "the guest's serial port was closed" if self.closed else f"not within {limit(seconds):.0f} s"
                    raise Failed(f"waiting for {pattern!r}: {why}; its last lines:\n" + self.tail())
                self.changed.wait(left)

    def mark(self, text, seconds):
        """The next line KHYVE-TEST: text. text is a regular expression."""
        return self.wait(rf"^{MARK}{text}\n", seconds)

    def tail(self, lines=8):
        return "\n".join(line[:160] for line in self.text.splitlines()[-lines:])

    def values(self):
        """All lines KHYVE-TEST: key=value so far: {key: [value, ...]}."""
        found = {}
        for key, value in re.findall(rf"^{MARK}([^=\s]+)=(.*)$", self.text, re.MULTILINE):
            found.setdefault(key, []).append(value)
        return found


def control(path, command, seconds=20):
    """One command on a control socket: the values it answers. OSError: nobody is there."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(limit(seconds))
        sock.connect(str(path))
        stream = sock.makefile("rw", encoding="utf-8", newline="\n")
        check(stream.readline() == "khyve 1\n", "the control socket does not greet")
        stream.write(command + "\n")
        stream.flush()
        values = {}
        while True:
            line = stream.readline()
            check(line, f"control socket: no answer to {command}")
            if line == "ok\n":
                return values
            check(not line.startswith("err "), f"control socket: {command}: {line.strip()}")
            key, _, value = line.rstrip("\n").partition("=")
            values[key] = value


class Khyve:
    """khyve alone, with a configuration file of its own."""

    def __init__(self, folder, name, settings):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir(exist_ok=True)
        base = {"name": name, "control.path": str(self.folder / "control"), "x86.strictmsr": "false",
                "lpc.com1.path": f"unix:{self.folder / 'com1'}"}
        lines = [f"{key}={value}\n" for key, value in (base | settings).items()]
        (self.folder / "conf").write_text("".join(lines), encoding="utf-8")
        self.log = open(self.folder / "log", "ab")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [str(pathlib.Path(folder) / "khyve"), "-k", str(self.folder / "conf"), name], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log)
        try:
            self.serial = Serial(self.folder / "com1", harness.KEEP / f"{name}.serial")
        except Failed as e:
            raise Failed(f"{e}; khyve said: {self.said()}") from None

    def said(self):
        return (self.folder / "log").read_text(errors="replace").strip()

    def control(self, command):
        return control(self.folder / "control", command)

    def end(self, seconds=60):
        """Waits for the end; the exit status."""
        try:
            return self.process.wait(limit(seconds))
        except subprocess.TimeoutExpired:
            raise Failed(f"khyve still runs after {limit(seconds):.0f} s; serial port:\n{self.serial.tail()}") from None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.serial.close()
        self.log.close()


class Store:
    """A store in memory and the vm program, started by prefix."""

    def __init__(self, folder, prefix=(), **environment):
        self.prefix = list(prefix)
        self.folder = pathlib.Path(folder)
        self.dir = self.folder / "vm.d"
        (self.folder / "khyve.conf").write_text("", encoding="utf-8")
        self.env = dict(os.environ, VM_DIR=str(self.dir), KHYVE_CONF=str(self.folder / "khyve.conf"), **environment)
        self.vm("init")

    def vm(self, *args, status=0, seconds=120, **environment):
        """Runs vm; what it printed, both outputs together. status None: any."""
        try:
            run = subprocess.run([*self.prefix, str(self.folder / "vm"), *map(str, args)], env=self.env | environment, text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 timeout=limit(seconds), check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"vm {' '.join(map(str, args))} takes more than {limit(seconds):.0f} s") from None
        check(status is None or run.returncode == status,
              f"vm {' '.join(map(str, args))}: status {run.returncode}, not {status}: {run.stdout.strip()}")
        return run.stdout

    def edit(self, name, **keys):
        """Sets keys of a guest's file through vm configure."""
        script = self.folder / "editor"
        keys = {key: str(value) for key, value in keys.items()}
        script.write_text("#!/usr/bin/env python3\n"
                          "import os, re, sys\n"
                          "text = open(sys.argv[1]).read()\n"
                          f"for key, value in {keys!r}.items():\n"
                          "    text = re.sub(rf'(?m)^{key}=.*\\n', '', text) + f'{key}=\"{value}\"\\n'\n"
                          "open(sys.argv[1], 'w').write(text)\n", encoding="utf-8")
        script.chmod(0o755)
        self.vm("configure", name, EDITOR=str(script), VISUAL=str(script))

    def row(self, name):
        """A guest's entry of vm list --json."""
        for guest in json.loads(self.vm("list", "--json"))["guests"]:
            if guest["name"] == name:
                return guest
        raise Failed(f"vm list does not know {name}")

    def path(self, name, file):
        return self.dir / name / file

    def control(self, name, command):
        return control(self.path(name, "control.sock"), command)

    def serial(self, name):
        return Serial(self.path(name, "com1.sock"), harness.KEEP / f"{name}.serial")

    def end(self, name, failed):
        """Switches off what still runs; after a failure, shows what the logs say."""
        if failed:
            print(self.log(name), flush=True)
        if self.row(name)["state"] != "stopped":
            self.vm("poweroff", "-f", name)

    def log(self, name):
        text = ""
        for file in ("vm-bhyve.log", "khyve.log"):
            path = self.path(name, file)
            text += path.read_text(errors="replace") if path.exists() else ""
        return text


def processes(pattern):
    """Pids of the processes whose command line matches, without this one and its parents."""
    own, pid = set(), os.getpid()
    while pid > 1:
        own.add(pid)
        pid = int(pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in own:
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if re.search(pattern, line):
            found.append(int(entry.name))
    return found


def kill(pid):
    os.kill(pid, signal.SIGKILL)
