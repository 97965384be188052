# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""What the tests of vm share: a store in a temporary folder, the stand-in for khyve, checks and the runner."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
FAKE = os.path.join(HERE, "fake_khyve.py")
VM = os.environ.get("VM", "build/vm")
NET = os.path.join(os.path.dirname(VM), "khyve-net")
# Machines that are busy with other things, or emulated, may multiply every time limit.
PATIENCE = float(os.environ.get("KHYVE_PATIENCE", "1"))
LIMIT = 60 * PATIENCE


class Failed(Exception):
    """A check that did not hold."""


# What a command that could not do it ends with: vm-bhyve's 1, or which kind of failure it was.
FAILED = (1, 3, 4, 5, 6)


class Result:
    """What a command did. The codes behind messages are in codes, no longer in the text; 1 stands for all of FAILED."""

    def __init__(self, status, out, err):
        self.exact, self.codes = status, re.findall(r" \[(K\d{3})\]$", out + err, re.M)
        self.status = 1 if status in FAILED else status
        self.out, self.err = (re.sub(r" \[K\d{3}\]$", "", text, flags=re.M) for text in (out, err))


def eq(got, want, what=""):
    if got != want:
        raise Failed(f"{what}\n--- got\n{got}\n--- want\n{want}")


def match(text, pattern):
    if not re.search(pattern, text):
        raise Failed(f"/{pattern}/ is not in\n{text}")


def true(value, what):
    if not value:
        raise Failed(what)


def until(fn, what, seconds=10):
    """Waits for a condition; how long is never part of a test."""
    end = time.time() + seconds * PATIENCE
    while time.time() < end:
        value = fn()
        if value:
            return value
        time.sleep(0.01)
    raise Failed(f"it did not happen within {seconds} s: {what}")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill(pid):
    """SIGKILL; what the process held is free when this returns."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), f"process {pid} ends")


TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None), "object": dict, "array": list}


def has_type(value, name):
    return isinstance(value, TYPES[name]) and not (name in ("integer", "number") and isinstance(value, bool))


def valid(value, schema, where="output"):
    """Checks a value against what doc/json uses of JSON Schema; a keyword that is not known here fails."""
    unknown = set(schema) - {"$schema", "title", "description", "type", "properties", "required", "items", "enum",
                             "const", "additionalProperties"}
    true(not unknown, f"{where}: {unknown} is not checked")
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    true(not names or any(has_type(value, n) for n in names), f"{where}: {value!r} is not {names}")
    true("enum" not in schema or value in schema["enum"], f"{where}: {value!r}")
    true("const" not in schema or value == schema["const"], f"{where}: {value!r}")
    if isinstance(value, list):
        for n, item in enumerate(value):
            valid(item, schema["items"], f"{where}[{n}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for key in schema.get("required", []):
            true(key in value, f"{where}: no {key}")
        for key, item in value.items():
            rest = schema["additionalProperties"]
            true(key in known or rest is not False, f"{where}: {key} is not in the schema")
            valid(item, known.get(key, rest), f"{where}.{key}")


def rules(name):
    """A schema of doc/json."""
    with open(os.path.join(HERE, "../../doc/json", name + ".json"), encoding="utf-8") as f:
        return json.load(f)


def rules_of(args):
    """The name of the schema that a command's output has."""
    words = [a for a in args if a[0] != "-"]
    verb = {"img": "iso"}.get(words[0], words[0])
    for name in ("-".join([verb, *words[1:2]]), verb):
        if os.path.exists(os.path.join(HERE, "../../doc/json", name + ".json")):
            return name
    raise Failed(f"vm {' '.join(args)} has no schema in doc/json")


class Store:
    """A store of its own and everything that a command needs to find it."""

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="khyve-vm-")
        self.dir = os.path.join(self.top, "vm")
        self.conf = os.path.join(self.top, "khyve.conf")
        self.user = None
        self.write(self.conf, "")
        self.program = VM
        self.env = {"PATH": os.environ["PATH"], "HOME": self.top, "VM_DIR": self.dir,
                    "KHYVE": FAKE, "KHYVE_CONF": self.conf, "TZ": "UTC"}
        if "ASAN_OPTIONS" in os.environ:
            self.env["ASAN_OPTIONS"] = os.environ["ASAN_OPTIONS"]

    def become(self, user):
        """From now on commands are run by that user. The clone may lie where only its owner may look."""
        programs = os.path.join(self.top, "bin")
        shutil.copytree(os.path.join(os.path.dirname(VM), "share"), os.path.join(programs, "share"))
        self.program, self.env["KHYVE"] = (shutil.copy(path, programs) for path in (VM, FAKE))
        if os.path.exists(NET):
            shutil.copy(NET, programs)
        os.chown(self.top, user, user)
        os.chmod(self.top, 0o755)
        self.user = user

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8") as f:
            return f.read()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def popen(self, *args, **kw):
        return subprocess.Popen([self.program, *args], env=self.env, cwd=self.top, user=self.user, text=True,
                                **kw)

    def vm(self, *args, stdin="", status=None):
        """Runs a command. With status: fails unless it exits so."""
        p = self.popen(*args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = p.communicate(stdin, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            p.kill()
            raise Failed(f"vm {' '.join(args)} hangs") from None
        r = Result(p.returncode, out, err)
        if "--json" in args:
            for text in out.splitlines() if args[0] == "events" else [out] if out else []:
                valid(json.loads(text), rules(rules_of(args)), f"vm {' '.join(args)}")
        if status is not None and status not in (r.status, r.exact):
            raise Failed(f"vm {' '.join(args)}: status {r.status}, not {status}\n{out}{err}")
        return r

    def ok(self, *args, stdin=""):
        return self.vm(*args, stdin=stdin, status=0).out

    def json(self, schema, *args):
        """What a command prints with --json, which is as doc/json says."""
        eq(rules_of(args), schema)
        return json.loads(self.ok(*args, *([] if "--json" in args else ["--json"])))

    def fails(self, *args, stdin="", status=1):
        """Standard error of a command that must fail."""
        return self.vm(*args, stdin=stdin, status=status).err

    def guest(self, name="guest", conf=None, size="1M", mode=""):
        """A guest without a screen, or with the given file."""
        self.ok("create", "-s", size, name)
        if conf is not None:
            self.write(self.path(name, f"{name}.conf"), conf)
        if mode:
            self.write(self.path(name, "fake.mode"), mode)
        return name

    def state(self, name="guest"):
        for line in self.ok("list").splitlines():
            if line.split()[0] == name:
                return re.search(r"(Running \(\d+\)|Stopped|Locked \(\S+\))", line).group(1)
        return None

    def pid(self, name="guest"):
        m = re.match(r"Running \((\d+)\)", self.state(name))
        return int(m.group(1)) if m else None

    def supervisor(self, name="guest"):
        """The pid of vm _run, which is khyve's parent; None: the guest does not run."""
        pid = self.pid(name)
        if not pid:
            return None
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return int(f.read().rpartition(")")[2].split()[1])

    def run_files(self, name="guest"):
        """What is in the guest's folder only while it runs."""
        keep = {f"{name}.conf", "vm-bhyve.log", "khyve.log", "uefi-vars.fd", "fake.mode", "fake.seen",
                "fake.grown"}
        return sorted(f for f in os.listdir(self.path(name))
                      if f not in keep and not re.match(r"disk\d+\.img", f))

    def close(self):
        """Ends what a failed test left running, by the pids that the lock files name."""
        for folder, _, files in os.walk(self.dir):
            if "run.lock" in files:
                m = re.search(r"pid=(\d+)", self.read(os.path.join(folder, "run.lock")))
                if m and alive(int(m.group(1))):
                    os.kill(int(m.group(1)), signal.SIGKILL)
        for _ in range(100):
            with contextlib.suppress(OSError):
                shutil.rmtree(self.top)
            if not os.path.exists(self.top):
                return
            time.sleep(0.02)


def run(cases):
    """Runs the cases whose names contain the first argument. Prints one line each, then the counts."""
    passed = failed = 0
    want = sys.argv[1] if len(sys.argv) > 1 else ""
    for name, fn in cases.items():
        if want not in name:
            continue
        store = Store()
        try:
            fn(store)
            passed += 1
            print(f"ok {name}", flush=True)
        except Exception as e:  # a broken test is a failed one
            failed += 1
            text = str(e) if isinstance(e, Failed) else traceback.format_exc()
            print(f"FAIL {name}: {text}", flush=True)
        finally:
            store.close()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


def cases_of(module):
    return {n[5:]: f for n, f in vars(module).items() if n.startswith("test_")}
