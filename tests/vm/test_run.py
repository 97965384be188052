#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm with guests that run, on a stand-in for khyve."""
import gzip
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import time

from harness import Failed, VM, alive, cases_of, eq, kill, match, run, true, until

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
SCREEN = MINIMAL + 'graphics="yes"\n'
ASK = "Are you sure you want to forcefully {} this virtual machine (y/n)? "


def start(s, name="guest", conf=MINIMAL, mode=""):
    """A guest that runs."""
    if not os.path.isdir(s.dir):
        s.ok("init")
    s.guest(name, conf, mode=mode)
    s.ok("start", name)
    return s.pid(name)


def stopped(s, name="guest"):
    """Waits for the end of everything that ran for the guest; nothing may stay."""
    until(lambda: s.state(name) == "Stopped" and not s.run_files(name),
          f"{name} is stopped and clean: {s.state(name)} {s.run_files(name)}")


def run_conf(s, name="guest"):
    return dict(line.split("=", 1) for line in s.read(s.path(name, "khyve.run")).splitlines())


def test_start_and_stop(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    r = s.vm("start", "guest", status=0)
    eq(r.out, f"Starting guest\n  * found guest in {s.path('guest')}\n  * booting...\n")
    eq(r.err, "")
    pid = s.pid()
    true(alive(pid), "khyve runs")
    eq(s.run_files(), ["com1.sock", "console", "control.sock", "khyve.run", "run.lock", "supervisor.lock"])
    eq(s.read(s.path("guest/console")), f"com1={s.path('guest/com1.sock')}\n")
    eq(s.read(s.path("guest/run.lock")).splitlines()[:2], [socket.gethostname(), f"pid={pid}"])
    eq(s.read(s.path("guest/fake.seen")), f"fds 0 1 2 3\nleaks 0\nargs guest\nnice {os.nice(0)}\n")
    eq(os.readlink(f"/proc/{pid}/cwd"), s.path("guest"))
    r = s.vm("start", "guest", status=1)
    eq(r.out, f"Starting guest\n  * found guest in {s.path('guest')}\n"
       "  ! guest appears to be running already\n")
    supervisor = s.supervisor()
    eq(s.ok("stop", "guest"), "Sending ACPI shutdown to guest\n")
    stopped(s)
    until(lambda: not alive(pid) and not alive(supervisor), "both processes end")
    r = s.vm("stop", "guest", status=0)
    eq((r.out, r.err), ("", "vm: WARNING: guest doesn't appear to be a running virtual machine\n"))
    s.ok("start", "guest")
    true(s.pid(), "it starts again")


def test_log(s):
    start(s, conf=MINIMAL + 'uuid="u-u"\nmemry=1\n')
    s.ok("stop", "guest")
    stopped(s)
    lines = [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00: ", "", line)
             for line in s.read(s.path("guest/vm-bhyve.log")).splitlines()][1:]
    eq(lines, ["initialising", " [loader: uefi]", " [cpu: 1]", " [memory: 256M]",
               " [com ports: com1]", " [uuid: u-u]", " [primary disk: disk0.img]",
               f"warning; {s.path('guest/guest.conf')}:7: unknown key 'memry' (did you mean 'memory'?)",
               "booting", "starting khyve (run 1)", "khyve exited with status 1", "stopped"])


def test_log_is_rotated(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.write(s.path("guest/vm-bhyve.log"), "x" * (1 << 20))
    s.ok("start", "guest")
    true(os.path.getsize(s.path("guest/vm-bhyve.log")) < 4096, "the log starts again")
    packed = subprocess.run(["gzip", "-dc", s.path("guest/vm-bhyve.log.0.gz")], check=True,
                            stdout=subprocess.PIPE).stdout
    eq(len(packed), 1 << 20)


def test_log_of_a_long_run_is_rotated(s):
    start(s)
    log = s.path("guest/khyve.log")
    with open(log, "a", encoding="utf-8") as f:
        f.write("WARN nvme-0:4.0: the guest is at it again\n" * 30000)
    until(lambda: os.path.exists(log + ".0.gz") and os.path.getsize(log) < 1000, "it is packed", 30)
    with gzip.open(log + ".0.gz", "rt", encoding="utf-8") as f:
        eq(sum("at it again" in line for line in f), 30000)
    os.unlink(log + ".0.gz")


def test_start_errors(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    r = s.vm("start", "none", "guest", "gone", status=2)
    match(r.out, "Starting none\n  ! none does not seem to be a valid virtual machine\nWaiting 2 second")
    true(s.pid(), "the others are started")
    s.env["KHYVE"] = "/nonexistent/khyve"
    s.guest("other", MINIMAL)
    match(s.vm("start", "other", status=1).out,
          r"  ! cannot run khyve \(/nonexistent/khyve\): No such file or directory; it belongs beside vm")


def test_early_death(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="die")
    s.write(s.path("guest/khyve.log"), "a line of yesterday\n")
    r = s.vm("start", "guest", status=1)
    match(r.out, "  \\* booting...\n  ! khyve ended with status 4: khyve: no firmware in this test\n$")
    stopped(s)
    s.write(s.path("guest/fake.mode"), "die-late")
    match(s.vm("start", "guest", status=1).out, "  ! khyve ended with status 4: khyve: it is over\n$")
    stopped(s)
    s.write(s.path("guest/fake.mode"), "slow=1")
    s.ok("start", "guest")
    true(s.pid(), "a slow start is no death")


def test_many_starts(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    ps = [s.popen("start", "guest", stdout=subprocess.PIPE) for _ in range(12)]
    outs = [p.communicate()[0] for p in ps]
    eq(sorted(p.returncode for p in ps), [0] + [4] * 11)
    eq(sum("  ! guest appears to be running already [K020]\n" in o for o in outs), 11, outs)
    eq(s.read(s.path("guest/vm-bhyve.log")).count("starting khyve"), 1)


def test_screen(s):
    s.ok("init")
    for name in ("one", "two"):
        s.guest(name, SCREEN + 'vnc_password="secret"\n')
    ps = [s.popen("start", name, stdout=subprocess.DEVNULL) for name in ("one", "two")]
    eq([p.wait() for p in ps], [0, 0])
    rows = json.loads(s.ok("list", "--json"))["guests"]
    ports = [r["vnc"] for r in rows]
    true(ports[0] != ports[1], ports)
    for row in rows:
        match(row["vnc"], r"^127\.0\.0\.1:59\d\d$")
        name = row["name"]
        eq(s.read(s.path(name, "console")).splitlines()[1], f"vnc={row['vnc']}")
        eq(s.read(s.path(name, "vnc.password")), "secret")
        eq(stat.S_IMODE(os.stat(s.path(name, "vnc.password")).st_mode), 0o600)
        true("secret" not in s.read(s.path(name, "khyve.run")), "the secret is in the configuration")
        true("secret" not in s.ok("start", "-n", name), "the secret is printed")
        for pid in (s.pid(name), s.supervisor(name)):
            for what in ("cmdline", "environ"):
                true("secret" not in s.read(f"/proc/{pid}/{what}"), f"the secret is in {what}")
    match(s.ok("list"), rf"one   default    uefi    1    256M    {ports[0]}  No    Running \(\d+\)  -")
    info = s.ok("info", "one")
    match(info, r"  state: running \(\d+\)\n")
    match(info, r"  memory-resident: \d+ \(\d+\.\d{3}M\)\n\n  console-ports\n"
          rf"    com1: {s.path('one/com1.sock')}\n    vnc: {ports[0]}\n\n")
    match(s.ok("list", "-v"), r"Running")
    s.ok("stop", "one", "two")
    stopped(s, "one")
    stopped(s, "two")


def test_install(s):
    s.ok("init")
    s.guest("guest", SCREEN)
    s.write(s.path(".iso/debian.ISO"), "x")
    out = s.ok("install", "guest", "debian.ISO")
    match(out, r"  \* booting...\n  \* waiting for a VNC client on 127\.0\.0\.1:(\d+)\n$")
    conf = run_conf(s)
    eq({k: v for k, v in conf.items() if k.startswith("pci.0.3.")},
       {"pci.0.3.0.device": "ahci", "pci.0.3.0.port.0.type": "cd", "pci.0.3.0.port.0.ro": "true",
        "pci.0.3.0.port.0.path": s.path(".iso/debian.ISO"), "pci.0.3.0.port.0.bootindex": "1"})
    eq((conf["pci.0.25.0.wait"], conf["boot.once"]), ("true", "true"))
    host, port = conf["pci.0.25.0.tcp"].split(":")
    socket.create_connection((host, int(port))).close()
    before = s.pid()
    s.ok("restart", "guest")
    until(lambda: s.pid() not in (None, before), "it restarts")
    conf = until(lambda: os.path.exists(s.path("guest/khyve.run")) and run_conf(s), "a new plan")
    true("pci.0.25.0.wait" not in conf, "no wait in the second run")
    true("boot.once" not in conf and "pci.0.3.0.port.0.path" in conf and "pci.0.3.0.port.0.bootindex" not in conf,
         "the medium stays, but is not the first to boot")
    s.ok("poweroff", "-f", "guest")
    s.ok("start", "guest")
    true("pci.0.3.0.device" not in run_conf(s), "no medium after the installation")


def test_install_media(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    eq(s.fails("install", "guest", "none.iso"),
       "vm: ERROR: unable to locate iso file - 'none.iso'; 'vm iso' lists them\n")
    match(s.fails("install", "guest", "../guest/guest.conf"), "unable to locate iso file")
    s.write(os.path.join(s.top, "stick.img"), "x")
    s.ok("install", "guest", "stick.img")
    conf = run_conf(s)
    eq((conf["pci.0.3.0.port.0.type"], conf["pci.0.3.0.port.0.ro"], conf["pci.0.3.0.port.0.path"]),
       ("hd", "true", os.path.join(s.top, "stick.img")))


def test_graphics_tls(s):
    """Key and certificate are made once, for one's own eyes, and stay from run to run."""
    s.ok("init")
    s.guest("guest", SCREEN + "graphics_tls=yes\n")
    s.guest("plain", SCREEN + "graphics_tls=no\n")
    s.ok("start", "guest")
    pem = s.read(s.path("guest/vnc.pem"))
    match(pem, r"(?s)^-----BEGIN PRIVATE KEY-----\n.*\n-----BEGIN CERTIFICATE-----\n.*-----END CERTIFICATE-----\n$")
    eq(stat.S_IMODE(os.stat(s.path("guest/vnc.pem")).st_mode), 0o600)
    true("tls_file=vnc.pem" in s.read(s.path("guest/khyve.run")), "khyve is told")
    s.ok("start", "plain")
    true(not os.path.exists(s.path("plain/vnc.pem")), "made without need")
    true("tls_file" not in s.read(s.path("plain/khyve.run")), "khyve is told without need")
    s.ok("poweroff", "-f", "guest")
    s.ok("start", "guest")
    eq(s.read(s.path("guest/vnc.pem")), pem)
    # X.509 has 64 characters for a name, and guests 231.
    long = "long-" + 200 * "x"
    s.guest(long, SCREEN + "graphics_tls=yes\n")
    s.ok("start", long)
    match(s.read(s.path(long, "vnc.pem")), "END CERTIFICATE")


def test_graphics_wait(s):
    s.ok("init")
    s.guest("guest", SCREEN + "graphics_wait=no\n")
    s.write(s.path(".iso/a.iso"), "x")
    true("waiting" not in s.ok("install", "guest", "a.iso"), "graphics_wait=no")
    s.ok("poweroff", "-f", "guest")
    s.write(s.path("guest/guest.conf"), SCREEN + "graphics_wait=yes\n")
    match(s.ok("start", "guest"), "waiting for a VNC client")


def test_uefi_vars(s):
    start(s)
    path = s.path("guest/uefi-vars.fd")
    size = os.path.getsize(path)
    true(size > 100000, "a copy of the firmware's variables")
    s.write(path, "mine")
    s.ok("poweroff", "-f", "guest")
    s.ok("start", "guest")
    eq(s.read(path), "mine", "the variables are the guest's own")
    s.ok("poweroff", "-f", "guest")
    s.write(s.path("guest/guest.conf"), MINIMAL + "uefi_vars=no\n")
    s.ok("start", "guest")
    eq(os.path.getsize(path), size, "uefi_vars=no forgets them")


def test_uuid_is_made_once(s):
    start(s)
    uuid = re.search(r'\nuuid="([0-9a-f-]{36})"\n$', s.read(s.path("guest/guest.conf"))).group(1)
    eq(run_conf(s)["uuid"], uuid)


def test_restart_reads_the_file_again(s):
    pid = start(s)
    s.write(s.path("guest/guest.conf"), MINIMAL.replace("256M", "512M"))
    eq(s.ok("restart", "guest"), "Setting guest restart flag\nSending ACPI shutdown to guest\n")
    until(lambda: s.pid() not in (None, pid), "a new khyve")
    until(lambda: os.path.exists(s.path("guest/console")), "it is up")
    eq(run_conf(s)["memory.size"], "512M")
    s.ok("stop", "guest")
    stopped(s)
    eq(s.fails("restart", "guest"), "vm: ERROR: guest doesn't appear to be a running virtual machine\n")
    eq(s.fails("restart", "none"), "vm: ERROR: unable to locate specified guest: none\n")
    eq(s.run_files(), [], "a refused restart leaves no flag")


def test_restart_with_a_broken_file(s):
    start(s)
    s.write(s.path("guest/guest.conf"), "cpu=1\n")
    s.ok("restart", "guest")
    stopped(s)
    match(s.read(s.path("guest/vm-bhyve.log")), "restarting\n.*: fatal; .*loader is not set")


def test_kill_khyve(s):
    pid = start(s)
    supervisor = s.supervisor()
    kill(pid)
    eq(s.state(), "Stopped", "vm list tells the truth at once")
    s.ok("start", "guest")
    true(s.pid() not in (None, pid), "it starts again at once")
    until(lambda: not alive(supervisor), "the old supervisor ends")
    match(s.read(s.path("guest/vm-bhyve.log")), "khyve exited with status 137\n")


def test_port_is_kept(s):
    for extra in ("", "graphics_port=6077\n"):
        pid = start(s, f"guest{len(extra)}", SCREEN + "on_fault=restart\n" + extra, "screen-stays")
        name = f"guest{len(extra)}"
        before = s.read(s.path(name, "console"))
        os.kill(pid, signal.SIGKILL)
        until(lambda: s.pid(name) not in (None, pid) and os.path.exists(s.path(name, "console")),
              "it is started again")
        eq(s.read(s.path(name, "console")), before)


def test_kill_supervisor(s):
    pid = start(s, conf=SCREEN)
    kill(s.supervisor())
    eq(s.pid(), pid, "the guest goes on")
    match(s.vm("start", "guest", status=1).out, "running already")
    match(s.ok("console", "guest"), "boot of guest on com1")
    s.ok("stop", "guest")
    until(lambda: not alive(pid), "it stops")
    eq(s.state(), "Stopped")
    eq(s.run_files(), [], "vm list has cleaned up")
    s.ok("start", "guest")
    kill(s.supervisor())
    kill(s.pid())
    eq(s.state(), "Stopped")
    eq(s.run_files(), [])
    s.ok("start", "guest")
    kill(s.supervisor())
    eq(s.ok("poweroff", "-f", "guest"), "")
    eq((s.state(), s.run_files()), ("Stopped", []))


def test_restart_without_supervisor(s):
    pid = start(s)
    kill(s.supervisor())
    s.ok("restart", "guest")
    until(lambda: s.pid() not in (None, pid), "an adopted guest restarts")
    match(s.read(s.path("guest/vm-bhyve.log")), "adopting a guest without supervisor")
    s.ok("stop", "guest")
    stopped(s)


def test_kill_both_while_starting(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="slow=30")
    p = s.popen("start", "guest", stdout=subprocess.PIPE)
    pid = until(s.pid, "khyve holds the lock")
    kill(s.supervisor())
    match(p.communicate()[0], "  ! the supervisor died")
    eq(p.returncode, 1)
    eq(s.pid(), pid)
    s.ok("poweroff", "-f", "guest")
    eq((s.state(), s.run_files()), ("Stopped", []))


def test_poweroff(s):
    pid = start(s, conf=MINIMAL + "on_fault=restart\n")
    r = s.vm("poweroff", "guest", status=1)
    eq(r.out, ASK.format("poweroff") + "\n")
    eq(s.ok("poweroff", "guest", stdin="n\n"), ASK.format("poweroff"))
    eq(s.pid(), pid, "no means no")
    eq(s.ok("poweroff", "guest", stdin="y\n"), ASK.format("poweroff"))
    eq((s.state(), s.run_files()), ("Stopped", []), "off when the command returns")
    eq(s.fails("poweroff", "-f", "guest"),
       "vm: ERROR: guest doesn't appear to be a running virtual machine\n")
    s.write(s.path("guest/fake.mode"), "hang")
    p = s.popen("start", "guest", stdout=subprocess.PIPE)
    until(s.pid, "it runs")
    eq(s.ok("poweroff", "-f", "guest"), "")
    eq((s.state(), s.run_files()), ("Stopped", []), "a khyve that does not answer is killed")
    p.communicate()


def test_poweroff_ends_restarts(s):
    start(s, mode="stubborn")
    s.ok("restart", "guest")
    s.ok("poweroff", "-f", "guest")
    eq((s.state(), s.run_files()), ("Stopped", []))


def test_stop_ends_restarts(s):
    pid = start(s, mode="stubborn")
    s.ok("restart", "guest")
    s.ok("stop", "guest")
    with socket.socket(socket.AF_UNIX) as c:
        c.connect(s.path("guest/control.sock"))
        c.sendall(b"quit\n")
        until(lambda: not alive(pid), "the guest is off at last")
    stopped(s)


def test_reset(s):
    pid = start(s)
    eq(s.ok("reset", "-f", "guest"), "")
    eq(s.ok("reset", "guest", stdin="y"), ASK.format("reset"))
    eq(s.pid(), pid)
    s.ok("stop", "guest")
    stopped(s)
    eq(s.fails("reset", "-f", "guest"),
       "vm: ERROR: guest doesn't appear to be a running virtual machine\n")


def test_stop_with_a_limit(s):
    start(s, mode="stubborn")
    r = s.vm("stop", "-t", "1", "guest", status=7)
    eq(r.err, "vm: ERROR: guest is still running; 'vm poweroff guest' ends it\n")
    eq(s.ok("stop", "-t", "1", "-f", "guest"),
       "Sending ACPI shutdown to guest\nSwitching off guest\n")
    eq((s.state(), s.run_files()), ("Stopped", []))
    s.write(s.path("guest/fake.mode"), "")
    s.ok("start", "guest")
    eq(s.ok("stop", "-t", "10", "guest"), "Sending ACPI shutdown to guest\n")
    eq((s.state(), s.run_files()), ("Stopped", []), "-t waits for the end")
    match(s.fails("stop", "-t", "x", "guest"), "'x' is not a number of seconds")


def test_exit_statuses(s):
    pid = start(s, mode="status=0")
    s.ok("stop", "guest")
    until(lambda: s.pid() not in (None, pid), "status 0 is a reboot")
    s.write(s.path("guest/fake.mode"), "status=3")
    s.ok("poweroff", "-f", "guest")
    s.ok("start", "guest")
    s.ok("stop", "guest")
    stopped(s)
    match(s.read(s.path("guest/vm-bhyve.log")), "khyve exited with status 3\n.*: stopped\n$")
    s.write(s.path("guest/guest.conf"), MINIMAL + "on_restart=stop\n")
    s.write(s.path("guest/fake.mode"), "status=0")
    s.ok("start", "guest")
    s.ok("stop", "guest")
    stopped(s)


def test_faults_are_counted(s):
    s.ok("init")
    s.guest("guest", MINIMAL + 'on_fault="restart"\n', mode="die-up")
    s.ok("start", "guest")
    stopped(s)
    log = s.read(s.path("guest/vm-bhyve.log"))
    eq(log.count("starting khyve"), 3)
    match(log, "fatal; 3 faults within a minute, giving up\n")


def test_terminated_supervisor(s):
    pid = start(s)
    os.kill(s.supervisor(), signal.SIGTERM)
    stopped(s)
    until(lambda: not alive(pid), "SIGTERM presses the power button")
    s.write(s.path("guest/fake.mode"), "stubborn")
    s.ok("start", "guest")
    pid, supervisor = s.pid(), s.supervisor()
    os.kill(supervisor, signal.SIGTERM)
    until(lambda: "signal received, poweroff" in s.read(s.path("guest/vm-bhyve.log")), "the button")
    eq(s.pid(), pid)
    os.kill(supervisor, signal.SIGTERM)
    stopped(s)


def test_foreground(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    p = s.popen("start", "-f", "guest", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    until(s.pid, "it runs")
    until(lambda: os.path.exists(s.path("guest/console")), "it is up")
    eq(run_conf(s)["lpc.com1.path"], "stdio")
    eq(s.read(s.path("guest/console")), "")
    s.ok("stop", "guest")
    match(p.communicate(timeout=20)[0], "booting...\n")
    eq(p.returncode, 1, "the status of khyve")
    stopped(s)


def test_foreground_tells_why(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="die")
    r = s.vm("start", "-f", "guest", status=4)
    match(r.out, r"  ! khyve ended with status 4: \S+")
    s.write(s.path("guest/fake.mode"), "die-up")
    r = s.vm("start", "-f", "guest", status=4)
    match(r.out, rf"  ! khyve ended with status 4; see khyve.log in {s.path('guest')}\n")


def test_relative_khyve(s):
    s.env["KHYVE"] = os.path.relpath(s.env["KHYVE"], s.top)
    start(s)
    kill(s.supervisor())
    s.ok("restart", "guest")
    until(lambda: s.pid() and s.supervisor(), "it is looked after again")


def test_odd_store(s):
    s.dir = s.env["VM_DIR"] = os.path.join(s.top, 'a #1 "store"')
    start(s)
    match(s.ok("info", "guest"), re.escape(f"com1: {s.path('guest/com1.sock')}\n"))
    eq(s.ok("console", "guest"), "boot of guest on com1\n")


def test_run_statuses(s):
    s.ok("init")
    s.vm("_run", "none", status=5)
    s.guest("guest", "cpu=1\n")
    s.vm("_run", "guest", status=15)
    s.write(s.path("guest/guest.conf"), MINIMAL)
    s.ok("start", "guest")
    s.vm("_run", "guest", status=10)


def test_startall(s):
    s.write(s.conf, 'vm_list="two one"\nvm_delay=0\n')
    s.ok("init")
    s.guest("one", MINIMAL)
    s.guest("two", MINIMAL)
    s.guest("three", MINIMAL)
    match(s.ok("startall"), "(?s)^Starting two\n.*Starting one\n")
    true(s.pid("one") and s.pid("two") and not s.pid("three"), s.ok("list"))


def test_foreign_lock(s):
    pid = start(s)
    path = s.path("guest/run.lock")
    text = s.read(path)
    s.write(path, re.sub("machine=.*", "machine=0123", text).replace(socket.gethostname(), "hostb", 1))
    eq(s.state(), "Locked (hostb)")
    true("Locked (hostb)" in s.ok("list", "-r"), "it stays in -r")
    match(s.vm("start", "guest", status=1).out, r"running on hostb \(locked\)")
    match(s.fails("poweroff", "-f", "guest"), r"guest appears to be running on hostb \(locked\)")
    match(s.fails("destroy", "-f", "guest"), r"WARNING: guest appears to be running on hostb \(locked\)")
    s.write(path, text)
    eq(s.pid(), pid)


def test_stale_lock_files(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    for text in ("", "hostb\npid=1\nmachine=0123\n", f"{socket.gethostname()}\npid=1\nstart=1\n"):
        s.write(s.path("guest/run.lock"), text)
        s.write(s.path("guest/control.sock"), "")
        s.write(s.path("guest/console"), "vnc=x\n")
        eq(s.state(), "Stopped", text)
        eq(s.run_files(), [], text)
        s.write(s.path("guest/run.lock"), text)
        s.write(s.path("guest/control.sock"), "")
        s.ok("start", "guest")
        s.ok("poweroff", "-f", "guest")


def test_destroy_running(s):
    start(s)
    r = s.vm("destroy", "-f", "guest", status=1)
    match(r.err, rf"^vm: WARNING: guest appears to be running locally \(pid {s.pid()}\)\n$")
    s.ok("poweroff", "-f", "guest")
    s.ok("destroy", "-f", "guest")
    eq(s.state(), None)


def test_destroy_against_start(s):
    for n in range(6):
        name = f"guest{n}"
        s.ok("init")
        s.guest(name, MINIMAL)
        a = s.popen("start", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        b = s.popen("destroy", "-f", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out = a.communicate()[0]
        b.communicate()
        if b.returncode == 0:
            true(not os.path.exists(s.path(name)), "destroyed, but still there")
            true(a.returncode != 0, f"started and destroyed: {out}")
        else:
            eq(a.returncode, 0, out)
            s.ok("poweroff", "-f", name)


def test_priority_and_options(s):
    start(s, conf=MINIMAL + 'priority=5\nbhyve_options="-p 1:1  $(id)"\n')
    eq(s.read(s.path("guest/fake.seen")), "fds 0 1 2 3\nleaks 0\nargs -p 1:1 $(id) guest\nnice 5\n")


def test_long_paths(s):
    s.dir = os.path.join(s.top, "d" * 100)
    s.env["VM_DIR"] = s.dir
    name = "g" * 200
    start(s, name)
    match(s.ok("console", name), "boot of g")
    s.ok("stop", name)
    stopped(s, name)


def test_console(s):
    start(s, conf=MINIMAL + 'comports="com1 com2"\n')
    eq(s.ok("console", "guest"), "boot of guest on com1\n")
    eq(s.ok("console", "guest", "com2"), "boot of guest on com2\n")
    eq(s.ok("console", "guest", stdin="hello\n"), "boot of guest on com1\necho:hello\n")
    eq(s.fails("console", "guest", "com3"),
       "vm: ERROR: unable to locate console device for this virtual machine\n")
    s.ok("stop", "guest")
    stopped(s)
    eq(s.fails("console", "guest"), "vm: ERROR: guest doesn't appear to be a running virtual machine\n")
    eq(s.fails("console", "none"), "vm: ERROR: none doesn't appear to be a valid virtual machine\n")


class Terminal:
    """The far end of a terminal that a command runs on."""

    def __init__(self):
        self.fd, self.slave = pty.openpty()
        self.seen = b""

    def expect(self, want):
        """Reads until want has come; what follows it stays for the next time."""
        end = time.time() + 10
        while want not in self.seen:
            if time.time() > end:
                raise Failed(f"{want} did not come: {self.seen}")
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096)
        self.seen = self.seen.partition(want)[2]

    def close(self):
        os.close(self.fd)
        os.close(self.slave)


def test_start_interactive(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    match(s.ok("start", "-i", "guest"), "booting...\nboot of guest on com1\n$")
    true(s.pid(), "it goes on")


def test_console_on_a_terminal(s):
    start(s)
    t = Terminal()
    io = {"stdin": t.slave, "stdout": t.slave, "stderr": t.slave}
    p = s.popen("console", "guest", **io)
    t.expect(b"Connected to guest, leave with ^]")
    t.expect(b"boot of guest on com1")
    os.write(t.fd, b"a\x03b")
    t.expect(b"echo:a\x03b")
    os.write(t.fd, b"\x1d")
    t.expect(b"Disconnected")
    eq(p.wait(timeout=10), 0)
    p = s.popen("console", "guest", **io)
    t.expect(b"boot of guest on com1")
    s.ok("poweroff", "-f", "guest")
    t.expect(b"The guest's side has closed the connection")
    eq(p.wait(timeout=10), 0)
    t.close()


def test_console_waits(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    p = s.popen("console", "-w", "guest", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    s.ok("start", "guest")
    eq(p.communicate(timeout=20)[0], "Waiting for guest to start...\nboot of guest on com1\n")


def test_inherited_descriptors(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    fd = os.open(s.conf, os.O_RDONLY)
    p = s.popen("start", "guest", pass_fds=[fd], stdout=subprocess.DEVNULL)
    eq(p.wait(), 0)
    for pid in (s.pid(), s.supervisor()):
        links = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
        true(s.conf not in links, f"a descriptor of the caller's shell stays open: {links}")
    os.close(fd)


def test_not_root(s):
    if os.geteuid() != 0:
        return
    s.become(65534)
    pid = start(s)
    eq(os.stat(f"/proc/{pid}").st_uid, s.user)
    s.ok("stop", "guest")
    stopped(s)


def test_no_null_device(s):
    """What keeps the supervisor from starting is named. The machine's own device is not touched: a file hides it."""
    if os.geteuid() != 0:
        return
    s.become(65534)
    s.ok("init")
    s.guest("guest", MINIMAL)
    hidden = os.path.join(s.top, "null")
    os.close(os.open(hidden, os.O_CREAT | os.O_WRONLY, 0o444))
    p = subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$0" /dev/null || exit 99; exec setpriv --reuid 65534 '
                        '--clear-groups "$@"', hidden, s.program, "start", "guest"], env=s.env, cwd=s.top, text=True,
                       stdin=subprocess.DEVNULL, capture_output=True, check=False)
    eq(p.returncode, 1, p.stderr)
    match(p.stdout, r"  ! cannot start the supervisor: /dev/null: Permission denied \[K052\]\n$")
    eq(s.state("guest"), "Stopped")


if not os.access(VM, os.X_OK):
    raise Failed(f"{VM} does not exist: set VM")
run(cases_of(sys.modules[__name__]))
