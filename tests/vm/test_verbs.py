#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm: settings, names, tags, stopping all, and what is not there."""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from harness import alive, cases_of, eq, kill, match, run, true, until

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'


def conf(s, name="guest"):
    return s.read(s.path(name, f"{name}.conf"))


def test_settings(s):
    s.ok("init")
    head = "SETTING             VALUE\n"
    eq(s.ok("get", "all"), head + "console             -\ncompress            -\n"
       "decompress          -\nsuspend             -\n")
    r = s.vm("set", "console=tmux", "compress=zstd -c", status=0)
    eq((r.out, r.err), ("", "vm: WARNING: 'console' has no effect\nvm: WARNING: 'compress' has no effect\n"))
    eq(s.read(s.path(".config/system.conf")), 'console="tmux"\ncompress="zstd -c"\n')
    eq(s.ok("get", "compress", "suspend"), head + "compress            zstd -c\nsuspend             -\n")
    eq(s.json("get", "get", "all")["values"],
       {"console": "tmux", "compress": "zstd -c", "decompress": None, "suspend": None})
    eq(s.fails("set", "press=1"), "vm: ERROR: invalid configuration setting - 'press'; 'vm get all' shows them\n")
    eq(s.fails("set", "suspend=on", "consol=x"),
       "vm: ERROR: invalid configuration setting - 'consol' (did you mean 'console'?)\n")
    match(s.fails("set", "memory=4G"), "'memory': it is a key of guests: vm set NAME memory")
    match(s.read(s.path(".config/system.conf")), '^console="tmux"\ncompress="zstd -c"\n$')
    s.ok("set", "console=", "compress=")
    eq(s.read(s.path(".config/system.conf")), "")
    for words in ("set", "get", "set guest", "get --json", "get -x", "set -x a=b", "tags", "tags add guest",
                  "tags list", "tags wrong guest", "rename guest", "stopall guest", "stopall -x"):
        match(s.vm(*words.split(), status=2).err, "Usage:")


def test_set_keeps_the_file(s):
    s.ok("init")
    text = '# mine\n' + MINIMAL + ' indented=1\ncpu=9\ngraphics="no" # for now\n# end'
    s.guest("guest", text)
    eq(s.ok("set", "guest", "cpu=2", "graphics=yes", "tags=a b", "priority=5"), "")
    eq(conf(s), '# mine\n' + MINIMAL.replace("cpu=1", 'cpu="2"') + ' indented=1\ncpu=9\ngraphics="yes" # for now\n'
       '# end\ntags="a b"\npriority="5"\n')
    eq(s.ok("get", "guest", "cpu", "uuid"), "SETTING             VALUE\ncpu                 2\nuuid                -\n")
    s.ok("set", "guest", "tags=", "priority=")
    true("tags" not in conf(s) and "priority" not in conf(s), conf(s))
    eq(os.stat(s.path("guest/guest.conf")).st_mode & 0o777, 0o600)
    values = s.json("get", "get", "guest")
    eq((values["version"], values["name"], values["values"]["cpu"]), (1, "guest", "2"))
    eq(s.ok("get", "guest"), s.ok("get", "guest", "all"))


def test_set_is_strict(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    eq(s.fails("set", "guest", "cpu=2", "memry=1G"), "vm: ERROR: unknown key 'memry' (did you mean 'memory'?)\n")
    eq(s.fails("set", "guest", "disk0_typ=nvme"),
       "vm: ERROR: unknown key 'disk0_typ' (did you mean 'disk0_type'?)\n")
    match(s.fails("set", "guest", "cpu=lots"), r"guest\.conf:2: .*; nothing was changed\n$")
    match(s.fails("set", "guest", "tags=a\"b"), "tags: a value cannot hold")
    match(s.fails("set", "guest", "tags=a#b"), "tags: a value cannot hold")
    match(s.fails("set", "guest", "tags=a\nb"), "tags: a value cannot hold")
    eq(s.fails("set", "guest", "tags"), "vm: ERROR: 'tags' is not KEY=VALUE\n")
    match(s.fails("set", "guest", "tags=x", "=1"), "'=1' is not KEY=VALUE")
    eq(s.fails("set", "none", "cpu=2"), "vm: ERROR: none doesn't appear to be a valid virtual machine\n")
    eq(s.fails("get", "guest", "memry"), "vm: ERROR: unknown key 'memry' (did you mean 'memory'?)\n")
    eq(s.fails("get", "none"), "vm: ERROR: none doesn't appear to be a valid virtual machine\n")
    eq(conf(s), MINIMAL, "a refused change changes nothing")
    r = s.vm("set", "guest", "sound=yes", "network1_type=e1000", status=0)
    match(r.err, r"^vm: WARNING: .*guest.conf:6: 'sound' has no effect\n"
          r"vm: WARNING: .*guest.conf:7: network1 is not used, because there is no network0\n$")
    # What is broken already may be mended one key at a time.
    s.write(s.path("guest/guest.conf"), MINIMAL.replace("cpu=1", "cpu=x").replace("256M", "y") + "zz=1\n")
    match(s.vm("set", "guest", "cpu=1", status=0).err, "^vm: WARNING: the guest cannot start so: .*memory")
    eq(s.vm("set", "guest", "memory=1G", "zz=", status=0).err, "")
    true("zz" not in conf(s), conf(s))


def test_set_in_parallel(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    ps = [s.popen("set", "guest", f"network{n}_mac=58:9c:fc:00:00:0{n}", f"disk{n}_opts=ro",
                  stderr=subprocess.DEVNULL) for n in range(8)]
    eq([p.wait() for p in ps], [0] * 8)
    eq(len(re.findall("_mac=", conf(s))), 8, "an edit is lost")
    eq([f for f in os.listdir(s.path("guest")) if f.startswith(".guest")], [])


def test_set_of_a_running_guest(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.ok("start", "guest")
    eq(s.ok("set", "guest", "cpu=2"), "guest is running: this counts from its next start\n")
    s.ok("poweroff", "-f", "guest")
    eq(s.ok("set", "guest", "cpu=1"), "")


def test_rename(s):
    s.ok("init")
    s.guest("guest", MINIMAL + "# kept\n")
    s.write(s.conf, 'vm_list="guest"\n')
    r = s.vm("rename", "guest", "other", status=0)
    eq((r.out, r.err), ("", "vm: WARNING: vm_list still names guest: 'vm startall' will not find it\n"))
    eq(sorted(os.listdir(s.path("other"))), ["disk0.img", "other.conf", "vm-bhyve.log"])
    eq(conf(s, "other"), MINIMAL + "# kept\n")
    true(not os.path.exists(s.path("guest")), "the old name is free")
    match(s.read(s.path("other/vm-bhyve.log")), ": renamed from guest\n$")
    s.guest("guest", MINIMAL)
    eq(s.fails("rename", "guest", "other"), f"vm: ERROR: directory {s.path('other')} already exists\n")
    match(s.fails("rename", "guest", "a/b"), "^vm: ERROR: invalid virtual machine name - 'a/b'")
    eq(s.fails("rename", "none", "more"), "vm: ERROR: none doesn't appear to be a valid virtual machine\n")
    s.ok("start", "guest")
    match(s.fails("rename", "guest", "more"), "guest appears to be running locally")
    s.ok("poweroff", "-f", "guest")
    s.ok("rename", "guest", "more")
    s.ok("start", "more")
    true(s.pid("more"), "it starts by its new name")


CHANGING = ["openat", "write", "fsync", "rename", "renameat2", "unlink", "fchmod", "fcntl", "flock", "mkdir", "link",
            "ioctl", "ftruncate", "copy_file_range", "rmdir", "unlinkat"]


def killed(s, calls, *args):
    """Kills a command at each of its system calls in turn. Yields after each kill, until a run gets through."""
    for call in calls:
        for n in range(1, 300):
            log = os.path.join(s.top, "strace.log")
            p = subprocess.run(["strace", "-o", log, "-e", f"trace={call}", "-e",
                                f"inject={call}:signal=KILL:when={n}", s.program, *args],
                               env=s.env, cwd=s.top, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               check=False)
            yield f"{call} {n}", p.returncode
            if p.returncode != -9:
                break


def test_killed_rename(s):
    """Killed anywhere, there is one guest, by one of the names, and it starts."""
    if not shutil.which("strace"):
        print("   skipped: no strace")
        return
    s.ok("init")
    counts, kills = {}, 0
    s.guest("guest", MINIMAL)
    for where, status in killed(s, CHANGING, "rename", "guest", "other"):
        names = [line.split()[0] for line in s.ok("list").splitlines()[1:]]
        eq(len(names), 1, f"killed at {where}")
        kills += status == -9
        counts[names[0]] = counts.get(names[0], 0) + 1
        s.ok("start", "-n", names[0])
        eq(os.path.getsize(s.path(names[0], "disk0.img")), 1 << 20)
        s.ok("rename", names[0], "third")
        s.ok("rename", "third", "guest")
        eq(conf(s), MINIMAL, where)
    print(f"   killed at {kills} system calls: {counts}")
    true(kills > 20, "it was killed")


def test_rename_in_parallel(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    ps = [s.popen("rename", "guest", f"name{n}", stderr=subprocess.DEVNULL) for n in range(12)]
    eq([p.wait() for p in ps].count(0), 1)
    names = [line.split()[0] for line in s.ok("list").splitlines()[1:]]
    eq(len(names), 1)
    eq(len([f for f in os.listdir(s.path(names[0])) if f.endswith(".conf")]), 1)


def test_tags(s):
    s.ok("init")
    s.guest("web1", MINIMAL + 'tags="old,blue" # colours\n')
    s.guest("web2", MINIMAL)
    s.ok("tags", "add", "web1", "prod", "blue", "prod")
    match(conf(s, "web1"), 'tags="old blue prod" # colours\n')
    s.ok("tags", "add", "web2", "prod")
    eq(s.ok("tags", "list", "web1"), "old blue prod\n")
    eq(s.ok("ta", "fi", "prod"), "web1 web2\n")
    eq(s.ok("tags", "find", "green"), "")
    eq(s.json("tags-find", "tags", "find", "prod")["guests"], ["web1", "web2"])
    eq(s.json("tags-list", "tags", "list", "web1")["tags"], ["old", "blue", "prod"])
    eq([line.split()[0] for line in s.ok("list", "-t", "blue").splitlines()], ["NAME", "web1"])
    eq([g["name"] for g in s.json("list", "list", "-t", "prod")["guests"]], ["web1", "web2"])
    s.ok("tags", "remove", "web1", "blue", "old")
    match(conf(s, "web1"), 'tags="prod" # colours\n')
    eq(s.fails("tags", "remove", "web1", "prod", "blue"), "vm: ERROR: web1 has no tag 'blue'\n")
    match(conf(s, "web1"), 'tags="prod"')
    s.ok("tags", "remove", "web1", "prod")
    true("tags" not in conf(s, "web1"), "the last one takes the key with it")
    eq(s.fails("tags", "add", "web1", "a"), "vm: ERROR: invalid tag name - 'a'\n")
    eq(s.fails("tags", "add", "none", "ab"), "vm: ERROR: none doesn't appear to be a valid virtual machine\n")


def test_stopall(s):
    s.ok("init")
    eq(s.ok("stopall"), "")
    s.write(s.conf, 'vm_list="one two"\nvm_delay=1\n')
    for name in ("one", "two", "aa", "bb", "off"):
        s.guest(name, MINIMAL)
    for name in ("one", "two", "bb", "aa"):
        s.ok("start", name)
    pids = [s.pid(n) for n in ("aa", "bb", "two", "one")]
    begin = time.time()
    eq(s.ok("stopall"), "Beginning shutdown process\n  * parallel shutdown of non-ordered guests: aa bb\n"
       "  * stopping two\n  * waiting 1 second(s)\n  * stopping one\n\n"
       f"Waiting for PIDS: {' '.join(map(str, pids))}.\n")
    true(time.time() - begin >= 1, "vm_delay is waited for")
    true(not any(alive(p) for p in pids), "all are off when it returns")
    s.ok("start", "one")
    s.ok("start", "aa")
    match(s.ok("stopall", "-f"), "guests: one aa\n\nWaiting|guests: aa one\n\nWaiting")


def test_stopall_is_bounded(s):
    s.ok("init")
    s.guest("deaf", MINIMAL, mode="stubborn")
    s.guest("good", MINIMAL)
    s.ok("start", "deaf")
    s.ok("start", "good")
    eq(s.fails("stopall", "-t", "1", status=7), "vm: ERROR: deaf is still running; 'vm poweroff deaf' ends it\n")
    eq(s.state("good"), "Stopped")
    match(s.ok("stopall", "-k", "-t", "1"), r"Waiting for PIDS: \d+\.\nSwitching off deaf\n$")
    until(lambda: s.state("deaf") == "Stopped", "it is off")


def test_what_is_missing(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    for words in ("suspend guest", "discard guest", "resume guest", "suspendall", "passthru", "suspend none"):
        match(s.fails(*words.split()), "^vm: (ERROR|WARNING): ")
    eq(s.ok("discard", "-f", "guest"), "")
    s.ok("start", "guest")
    match(s.fails("suspend", "guest"), "unable to suspend the guest: khyve cannot save the state of a running guest")
    true("suspend" not in s.ok("help"), "what does not work is not offered")
    match(s.ok("help", "suspend"), "not there yet")


def test_short_words_of_vm_bhyve(s):
    """What is ours is not in the way of words that vm-bhyve's users shorten."""
    s.ok("init")
    s.guest("guest", MINIMAL)
    match(s.ok("po", "-h"), "vm poweroff")
    match(s.ok("l"), "^NAME ")
    eq(s.fails("r"), "vm: ERROR: ambiguous command 'r'\n")
    match(s.ok("rem", "-h"), "vm remove")


def test_json(s):
    """All that is printed for programs is as doc/json says, of guests that run and of broken ones."""
    s.ok("init")
    eq(s.json("list", "list")["guests"], [])
    eq(s.json("info", "info")["guests"], [])
    s.guest("guest", MINIMAL + 'graphics=yes\ntags="a b"\nnetwork0_type="e1000"\n'
            'network0_ports="127.0.0.1:2222:22/tcp"\ndisk1_type="nvme"\n')
    s.guest("odd", 'cpu=many\nmemory=\n')
    s.write(s.path(".iso/a b.iso"), "x" * 10)
    s.write(s.path(".config/system.conf"), 'switch_list="one"\naddr_one="192.0.2.1/24"\n')
    s.write(s.path("guest/guest.conf"), s.read(s.path("guest/guest.conf")).replace('disk1_type="nvme"\n', ""))
    s.ok("start", "guest")
    guests = s.json("list", "list")["guests"]
    eq([(g["name"], g["state"], g["cpu"], g["memory"]) for g in guests],
       [("guest", "running", 1, 268435456), ("odd", "stopped", None, None)])
    eq(guests[0]["pid"], s.pid())
    guest = s.json("info", "info", "guest")["guests"][0]
    eq(guest["console-ports"]["com1"], s.path("guest/com1.sock"))
    eq(guest["network-interfaces"][0]["emulation"], "e1000")
    eq(len(s.json("info", "info")["guests"]), 2)
    eq(s.json("iso", "iso")["media"], [{"datastore": "default", "name": "a b.iso", "bytes": 10}])
    eq(s.json("switch", "switch", "list")["switches"][0]["address"], "192.0.2.1/24")
    eq(s.json("switch", "switch", "info", "one")["switches"][0]["type"], "standard")
    eq([p["guest-port"] for p in s.json("port-list", "port", "list", "--json", "guest")["ports"]], [22])


def test_wait(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="say=Debian_\033[1m\033[0;31mred\033[m say=web_login:_")
    match(s.fails("wait", "guest", "booted"), "guest is off; 'vm why guest' tells the reason")
    eq(s.ok("wait", "guest", "off"), "")
    s.ok("start", "guest")
    eq(s.ok("wait", "guest", "booted"), "")
    eq(s.ok("wait", "guest", "text:^boot of guest on com[0-9]$"), "")
    eq(s.ok("wait", "guest", "text:^Debian red$"), "")
    begin = time.time()
    eq(s.fails("wait", "--timeout", "1", "guest", "text:Windows", status=7),
       "vm: ERROR: guest is not there in time: text:Windows\n")
    true(1 <= time.time() - begin < 20, "the time is kept")
    match(s.fails("wait", "--timeout", "0", "guest", "ssh", status=7), "^vm: ERROR: guest is not there in time: ssh")
    eq(s.fails("wait", "--timeout=0", "guest", "off", status=7), "vm: ERROR: guest is not there in time: off\n")
    match(s.fails("wait", "guest", "text:("), "'\\(' is not a regular expression: ")
    match(s.fails("wait", "guest", "boot"), "'boot' is none of: booted ip ssh off text:REGEX")
    match(s.fails("wait", "none", "off"), "doesn't appear to be a valid")
    match(s.fails("wait", "--timeout", "x", "guest", "off"), "'x' is not a number of seconds")
    s.vm("wait", "guest", status=2)
    p = s.popen("wait", "guest", "off")
    q = s.popen("wait", "guest", "text:never", stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    eq((p.poll(), q.poll()), (None, None), "they wait")
    s.ok("poweroff", "-f", "guest")
    eq((p.wait(20), q.wait(20)), (0, 4))


def test_wait_for_ssh(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.ok("start", "guest")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        s.ok("set", "guest", "network0_type=e1000", f"network0_ports=127.0.0.1:{port}:22/tcp")
        greetings = [b"HTTP/1.1 400\r\n", b"SSH-2.0-OpenSSH\r\n", b"SSH-2.0-OpenSSH\r\n"]

        def serve():
            for greeting in greetings:
                client = server.accept()[0]
                client.sendall(greeting)
                with contextlib.suppress(ConnectionError):
                    client.recv(1)
                client.close()
        t = threading.Thread(target=serve, daemon=True)
        t.start()
        eq(s.ok("wait", "guest", "ssh"), f"127.0.0.1:{port}\n")
        eq(s.ok("wait", "guest", "booted"), "")
        t.join(10)


def test_start_and_wait(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="say=web_login:_")
    match(s.ok("start", "--wait", "guest"), r"  \* booting...\n  \* waiting until it has booted...\n$")
    s.guest("mute", MINIMAL)
    match(s.vm("start", "--wait", "--timeout", "1", "mute", status=7).err, "mute is not there in time: booted")
    s.guest("early", MINIMAL, mode="die-up")
    match(s.vm("start", "--wait", "early", status=1).err, "early is off; 'vm why early'")
    s.vm("start", "--wait", "-n", "guest", status=2)


def test_log(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    eq(s.fails("log", "-k", "guest"), f"vm: ERROR: guest has no log yet: {s.path('guest/khyve.log')}\n")
    log = s.path("guest/vm-bhyve.log")
    s.write(log, "one\ntwo\033[2J\nthree\n")
    eq(s.ok("log", "guest"), "one\ntwo [2J\nthree\n")
    eq(s.ok("log", "-n", "2", "guest"), "two [2J\nthree\n")
    eq(s.ok("log", "-n", "0", "guest"), "")
    eq(s.ok("log", "-n", "9", "guest"), "one\ntwo [2J\nthree\n")
    match(s.fails("log", "-n", "x", "guest"), "'x' is not a number of lines")
    p = s.popen("log", "-f", "-n", "1", "guest", stdout=subprocess.PIPE)
    eq(p.stdout.readline(), "three\n")
    with open(log, "a", encoding="utf-8") as f:
        f.write("four\n")
    eq(p.stdout.readline(), "four\n")
    s.write(log, "new\n")
    eq(p.stdout.readline(), "new\n")
    s.ok("destroy", "-f", "guest")
    eq(p.wait(10), 0, "it ends with the guest")
    p.stdout.close()


def why(s, name="guest"):
    return s.json("why", "why", name)["reason"], s.ok("why", name)


def test_cd(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="locked-cd")
    match(s.fails("cd", "guest"), "guest does not run; set its disks with 'vm configure guest'")
    s.write(s.path(".iso/disc.iso"), "x" * 4096)
    s.ok("start", "guest")
    eq(s.ok("cd", "guest"), "there is a disc in the drive\n")
    eq(s.ok("cd", "guest", "insert", "disc.iso"), "")
    match(s.fails("cd", "guest", "insert", "nothing.iso"), "unable to locate iso file - 'nothing.iso'")
    match(s.fails("cd", "guest", "eject"), "guest: khyve refuses: EBUSY the guest has locked the drive")
    eq(s.ok("cd", "-f", "guest", "eject"), "")
    for wrong in (["guest", "insert"], ["guest", "eject", "x"], ["guest", "burn"], []):
        s.fails("cd", *wrong, status=2)
    eq(s.read(s.path("guest/fake.cd")).splitlines(),
       ["cd 0 look", f"cd 0 insert {s.path('.iso/disc.iso')}", "cd 0 eject", "cd 0 force"])
    s.ok("poweroff", "-f", "guest")


def test_why(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    eq(why(s), ("never-started", "guest is off: it has not been started so far, as far as its log goes\n"))
    s.ok("start", "guest")
    match(why(s)[1], r"^guest is on since 20\d\d-\S+: it runs\n$")
    s.ok("poweroff", "-f", "guest")
    s.write(s.path("guest/fake.mode"), "no-space")
    s.ok("start", "guest")
    eq(why(s)[0], "disk")
    match(why(s)[1], "it is paused: no space on the host for disk0.img\n$")
    match(s.ok("info", "guest"), "  paused: no space on the host for disk0.img\n")
    eq(s.json("info", "info", "guest")["guests"][0]["paused"], "no space on the host for disk0.img")
    match(s.ok("list"), r"(?m)^guest .*  Stalled \(\d+\)  -\n")
    listed = s.json("list", "list")["guests"][0]
    eq((listed["state"], listed["paused"]), ("running", "no space on the host for disk0.img"))
    s.ok("poweroff", "-f", "guest")
    s.write(s.path("guest/fake.mode"), "")
    s.ok("start", "guest")
    eq(s.json("info", "info", "guest")["guests"][0]["paused"], None)
    eq(s.json("list", "list")["guests"][0]["paused"], None)
    s.ok("poweroff", "-f", "guest")
    match(why(s)[1], r"guest is off since 20\d\d-\S+: the guest was switched off: by itself, or by 'vm stop'")
    for status, word in ((0, "reset"), (2, "halted"), (3, "triple-fault"), (5, "error")):
        s.write(s.path("guest/fake.mode"), f"status={status}")
        s.write(s.path("guest/guest.conf"), MINIMAL + "on_restart=stop\n")
        s.ok("start", "guest")
        s.ok("stop", "-t", "20", "guest")
        eq((why(s)[0], s.json("why", "why", "guest")["status"]), (word, status))
    s.write(s.path("guest/fake.mode"), "die")
    s.vm("start", "guest", status=1)
    match(why(s)[1], "khyve failed: khyve: no firmware in this test\n$")
    with open(s.path("guest/khyve.log"), "ab") as f:
        f.write(b"no text: \xff caf\xc3\n")
    match(s.json("why", "why", "guest")["text"], r"no text: \? caf\?$")
    s.write(s.path("guest/fake.mode"), "")
    s.ok("start", "guest")
    os.kill(s.pid(), signal.SIGKILL)
    s.ok("wait", "guest", "off")
    match(why(s)[1], "its khyve was killed: by somebody")
    s.ok("start", "guest")
    pid = s.pid()
    kill(s.supervisor())
    os.kill(pid, signal.SIGKILL)
    s.ok("wait", "guest", "off")
    eq(why(s)[0], "gone")
    s.write(s.path("guest/guest.conf"), MINIMAL.replace("cpu=1", "cpu=x"))
    s.vm("_run", "guest", status=15)
    match(why(s)[1], r"it was not started: .*guest.conf:2: ")


def test_why_of_running_guests(s):
    s.ok("init")
    s.guest("guest", MINIMAL, mode="say=BdsDxe:_No_bootable_option_or_device_was_found.")
    s.ok("start", "guest")
    match(why(s)[1], "the firmware has found nothing to boot from: .*'vm install guest ISO'")
    s.guest("hung", MINIMAL, mode="slow=0 hang")
    p = s.popen("start", "hung", stdout=subprocess.DEVNULL)
    until(lambda: s.state("hung") != "Stopped", "it runs")
    eq(why(s, "hung")[0], "silent")
    p.wait()
    # What khyve said in an earlier run is not this run's reason.
    s.guest("full", MINIMAL)
    s.write(s.path("full/khyve.log"), "WARN disk: write of 4096 bytes at 0: No space left on device\n")
    s.ok("start", "full")
    s.ok("poweroff", "-f", "full")
    true("disk of the host" not in why(s, "full")[1], "an old line")
    with open(s.path("full/khyve.log"), "a", encoding="utf-8") as f:
        f.write("WARN disk: write of 4096 bytes at 0: No space left on device\n")
    match(why(s, "full")[1], "; before, a disk of the host was full")


def test_trash(s):
    s.ok("init")
    eq(s.json("trash-list", "trash", "list")["guests"], [])
    s.guest("guest", MINIMAL)
    s.ok("snapshot", "guest@one")
    s.ok("destroy", "guest", stdin="y\n")
    eq(s.ok("list").count("\n"), 1)
    eq([g["name"] for g in s.json("trash-list", "trash", "list")["guests"]], ["guest"])
    match(s.ok("trash", "list"), r"^NAME   DESTROYED +KEPT UNTIL\nguest  20\d\d-\S+  20\d\d-\S+\n$")
    s.guest("guest", MINIMAL + "# second\n")
    match(s.fails("trash", "restore", "guest"), "virtual machine already exists in")
    s.ok("destroy", "guest", stdin="y\n")
    s.ok("trash", "restore", "guest")
    match(conf(s), "# second")
    s.ok("rename", "guest", "other")
    s.ok("trash", "restore", "guest")
    eq((conf(s), [x["name"] for x in s.json("info", "info", "guest")["guests"][0]["snapshots"]]), (MINIMAL, ["one"]))
    s.ok("start", "guest")
    s.vm("destroy", "guest", stdin="y\n", status=1)
    s.ok("poweroff", "-f", "guest")
    match(s.fails("trash", "restore", "guest"), "guest is not in the trash; 'vm trash list' shows it")
    match(s.fails("trash", "restore", "../x"), "is not in the trash")
    s.ok("destroy", "-f", "guest")
    eq(s.json("trash-list", "trash", "list")["guests"], [], "-f is for good")
    for name in ("one", "two"):
        s.guest(name, MINIMAL)
        s.ok("destroy", name, stdin="y\n")
    match(s.fails("trash", "empty", "three", stdin="y\n"), "three is not in the trash")
    s.ok("trash", "empty", "-f", "one")
    eq([g["name"] for g in s.json("trash-list", "trash", "list")["guests"]], ["two"])
    # After seven days it is gone, with the next command that changes something.
    entry = os.listdir(s.path(".removed"))[0]
    os.rename(s.path(".removed", entry), s.path(".removed", f"{int(time.time()) - 7 * 86400 + 60}-two"))
    s.ok("iso")
    eq(len(os.listdir(s.path(".removed"))), 1)
    entry = os.listdir(s.path(".removed"))[0]
    os.rename(s.path(".removed", entry), s.path(".removed", f"{int(time.time()) - 7 * 86400 - 5}-two"))
    s.ok("iso")
    eq((os.listdir(s.path(".removed")), os.listdir(s.path(".trash"))), ([], []))
    for words in ("trash", "trash restore", "trash list x", "trash empty a b", "trash -x list"):
        s.vm(*words.split(), status=2)


def test_configure_seed(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.env["EDITOR"] = "cp /dev/null"
    eq(s.fails("configure", "guest", "user-data"), "vm: ERROR: cloud-init is not enabled for this guest\n")
    match(s.fails("edit", "guest", "../guest"), "'../guest' is none of: meta-data network-config user-data")
    os.mkdir(s.path("guest/.cloud-init"))
    s.write(s.path("guest/.cloud-init/user-data"), "#cloud-config\n")
    s.ok("edit", "guest", "user-data")
    eq(s.read(s.path("guest/.cloud-init/user-data")), "")
    s.write(s.path("guest/.cloud-init/user-data"), "#cloud-config\n")
    s.write(s.path("guest/seed.iso"), "")
    r = s.vm("configure", "guest", "user-data", stdin="n\n", status=0)
    eq(r.out, "cloud-init has run already. changes won't take effect. edit anyway? (y/n)? ")
    eq(s.read(s.path("guest/.cloud-init/user-data")), "#cloud-config\n")


if __name__ == "__main__":
    run(cases_of(sys.modules[__name__]))
