#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm events."""
import json
import os
import re
import signal
import subprocess
import sys

from harness import HERE, cases_of, eq, kill, match, run, true, until, valid

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d) (\S+) (.+)")
with open(os.path.join(HERE, "../../doc/json/events.json"), encoding="utf-8") as schema:
    RULES = json.load(schema)


class Listener:
    """vm events -f, which is known to listen when this is made."""

    def __init__(self, s, *args):
        self.path = os.path.join(s.top, "events" + "".join(args).replace("-", ""))
        with open(self.path, "w", encoding="utf-8") as out:
            self.p = s.popen("events", "-f", *args, stdout=out)
        until(lambda: "poll" in s.read(f"/proc/{self.p.pid}/wchan") or alive_in_poll(self.p.pid), "vm events waits")

    def lines(self):
        with open(self.path, encoding="utf-8") as f:
            return f.read().splitlines()

    def texts(self):
        return [" ".join(line.split(" ")[1:]) for line in self.lines()]

    def end(self):
        self.p.send_signal(signal.SIGINT)
        self.p.wait(10)


def alive_in_poll(pid):
    """System call 7 is poll."""
    with open(f"/proc/{pid}/syscall", encoding="utf-8") as f:
        return f.read().split()[0] in ("7", "271")


def test_past(s):
    """What logs tell, of all guests in the order of time; a guest's settings are no events."""
    s.ok("init")
    for name in ("web", "db"):
        s.guest(name, MINIMAL)
    s.write(s.path("web", "vm-bhyve.log"), "2026-01-02T03:04:05+00:00: initialising\n2026-01-02T03:04:05+00:00:  [loader: uefi]\n"
            "2026-01-02T03:04:09+00:00: stopped\n2026-01-02T03:04:10+00:00: half a li")
    s.write(s.path("db", "vm-bhyve.log"), "no time: nothing\n2026-01-02T04:04:07+01:00: warning; bad \x1b[31mthing\n")
    want = ["2026-01-02T03:04:05+00:00 web initialising", "2026-01-02T04:04:07+01:00 db warning; bad  [31mthing",
            "2026-01-02T03:04:09+00:00 web stopped"]
    eq(s.ok("events").splitlines(), want)
    eq(s.ok("events", "web").splitlines(), [want[0], want[2]])
    objects = [json.loads(line) for line in s.ok("events", "--json").splitlines()]
    for o in objects:
        valid(o, RULES)
    eq([(o["guest"], o["source"], o["event"], o["text"]) for o in objects],
       [("web", "vm", "prepare", "initialising"), ("db", "vm", "warning", "warning; bad  [31mthing"), ("web", "vm", "stopped", "stopped")])
    match(s.fails("events", "nobody"), "doesn't appear to be a valid virtual machine")
    match(s.fails("events", "-f", "nobody"), "doesn't appear to be a valid virtual machine")
    eq(s.vm("events", "web", "db").exact, 2)


def test_long_log(s):
    """More than one piece of reading, and a line that is longer than any."""
    s.ok("init")
    s.guest("web", MINIMAL)
    s.write(s.path("web", "vm-bhyve.log"), "".join(f"2026-01-02T03:04:05+00:00: line {n}\n" for n in range(5000)))
    lines = s.ok("events").splitlines()
    eq([line.split(" ")[-1] for line in lines], [str(n) for n in range(5000)])


def test_damaged_log(s):
    """Zeroes that a crash of the host left in a log, and bytes that are no text, end nothing."""
    s.ok("init")
    s.guest("web", MINIMAL)
    now = b"2026-01-02T03:04:05+00:00: "
    with open(s.path("web", "vm-bhyve.log"), "wb") as f:
        f.write(now + b"one\n" + bytes(9) + b"\n" + now + b"two \xff\xc3\xa4\n" + now + b"thr\0ee\n" + now + b"four\n")
    texts = [json.loads(line)["text"] for line in s.ok("events", "--json").splitlines()]
    eq(texts, ["one", "two ?\u00e4", "thr", "four"])
    eq(len(s.popen("events", stdout=subprocess.PIPE, encoding="latin-1").communicate()[0].splitlines()), 4)


def test_follow(s):
    """Guests that run, that start later, and that are made later; what was before is not told."""
    s.ok("init")
    s.guest("web", MINIMAL)
    s.ok("start", "web")
    every, one = Listener(s), Listener(s, "--json", "web")
    s.guest("db", MINIMAL)
    s.ok("start", "db")
    until(lambda: "db state running" in every.texts(), "the new guest is heard of")
    s.ok("reset", "-f", "web")
    until(lambda: "web reset 1" in every.texts(), "reset")
    s.ok("poweroff", "-f", "web")
    kill(s.pid("db"))
    until(lambda: {"web stopped", "db stopped"} <= set(every.texts()), "both ends")
    until(lambda: "db state off" in every.texts(), "khyve that was killed is off, too")
    s.ok("start", "web")
    until(lambda: every.texts().count("web state running") == 2, "the next run")
    for line in every.lines():
        true(LINE.fullmatch(line), line)
    of = {name: [t.split(" ", 1)[1] for t in every.texts() if t.startswith(name + " ")] for name in ("web", "db")}
    # Who of khyve and vm is heard first at the end is chance.
    eq(of["web"][:2] + sorted(of["web"][2:4]) + of["web"][4:6],
       ["reset 1", "state running", "khyve exited with status 1", "state off", "stopped", "initialising"])
    told = [t for t in of["db"] if t.startswith(("state", "starting", "khyve exited", "stopped", "init"))]
    eq(sorted(told[:3]), ["initialising", "starting khyve (run 1)", "state running"])
    eq(sorted(told[3:]), ["khyve exited with status 137", "state off", "stopped"])
    objects = [json.loads(line) for line in one.lines()]
    for o in objects:
        valid(o, RULES)
    eq({o["guest"] for o in objects}, {"web"})
    eq([(o["source"], o["event"]) for o in objects[:2]], [("khyve", "reset"), ("khyve", "state")])
    eq(sorted((o["source"], o["event"]) for o in objects[2:5]), [("khyve", "state"), ("vm", "exit"), ("vm", "stopped")])
    every.end()
    one.end()


def test_pause(s):
    s.ok("init")
    s.guest("web", MINIMAL)
    s.ok("start", "web")
    listener = Listener(s)
    s.ok("snapshot", "-f", "web@one")
    until(lambda: len(listener.texts()) == 3, "snapshot")
    eq(sorted(listener.texts()), ["web snapshot one made", "web state paused", "web state running"])
    listener.end()


def test_gone(s):
    """A guest that is destroyed, a log that is packed, and a reader that goes away."""
    s.ok("init")
    s.guest("web", MINIMAL)
    log = s.path("web", "vm-bhyve.log")
    s.write(log, "2026-01-02T03:04:05+00:00: before\n" * 3)
    listener = Listener(s)
    s.write(log, "2026-01-02T03:04:05+00:00: after\n")
    until(lambda: listener.texts() == ["web after"], "the log begins again")
    s.ok("destroy", "-f", "web")
    s.guest("other", MINIMAL)
    s.write(s.path("other", "vm-bhyve.log"), "2026-01-02T03:04:05+00:00: here\n")
    until(lambda: "other here" in listener.texts(), "others go on")
    listener.end()
    p = s.popen("events", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    p.wait(10)
    eq(p.stderr.read(), "")


if __name__ == "__main__":
    run(cases_of(sys.modules[__name__]))
