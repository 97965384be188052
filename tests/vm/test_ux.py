#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of what vm does for people and for programs beside its work: codes, statuses, suggestions."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time

from harness import HERE, PATIENCE, Failed, cases_of, eq, match, rules, rules_of, run, true, until, valid

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'


def test_codes(s):
    """Messages of each kind: code and exit status."""
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.guest("on", MINIMAL)
    s.ok("start", "on")
    s.write(s.path(".iso/a.iso"), "x")
    for code, status, command in (
            ("K001", 1, "lits"), ("K001", 1, ""), ("K002", 2, "list -x"), ("K003", 1, "destroy guest"),
            ("K004", 1, "wait --timeout x guest off"), ("K005", 1, "create x"), ("K006", 1, "create -s 1x other"),
            ("K010", 3, "start nobody"), ("K010", 3, "info nobody"), ("K010", 3, "destroy -f nobody"),
            ("K012", 3, "create -t none other"), ("K013", 3, "install guest none.iso"), ("K014", 3, "rollback guest@none"),
            ("K015", 3, "create -d none other"), ("K016", 3, "trash restore nobody"), ("K017", 3, "discard guest"),
            ("K020", 4, "start on"), ("K020", 4, "destroy -f on"), ("K020", 4, "snapshot on"), ("K021", 4, "poweroff -f guest"),
            ("K024", 4, "create guest"), ("K035", 6, "passthru"), ("K041", 1, "set guest cpuu=1")):
        r = s.vm(*command.split())
        eq((r.codes[:1], r.exact), ([code], status), f"vm {command}: {r.out}{r.err}")
    # What is a warning to vm-bhyve's users stays one.
    r = s.vm("stop", "guest")
    eq((r.exact, r.codes), (0, ["K021"]))


def test_explain(s):
    codes = s.json("explain", "explain")["codes"]
    names = [c["code"] for c in codes]
    eq((names, len(set(names))), (sorted(names), len(names)), "in order, each once")
    true(len(codes) > 40, "the table is whole")
    for c in codes:
        true(re.fullmatch(r"K\d{3}", c["code"]) and c["status"] in (1, 2, 3, 4, 5, 6, 7), c)
        true(c["meaning"].endswith(".") and c["fix"], c)
        out = s.ok("explain", c["code"].lower())
        true(out.startswith(f"{c['code']} (exit status {c['status']})\n"), out)
        eq(" ".join(out.split("\n", 1)[1].split()), f"{c['meaning']} {c['fix']}")
        true(max(map(len, out.splitlines())) <= 80, out)
    eq([line[:4] for line in s.ok("explain").splitlines()], names)
    match(s.fails("explain", "K999"), "there is no code 'K999'")
    man = s.read(os.path.join(HERE, "../../man/vm.8"))
    eq(re.findall(r"^\.It Li (K\d{3})$", man, re.M), names, "the manual's list of codes")


def test_code_places(s):
    """Each code is given by some message, or for what the system says, and each one given is explained."""
    src, given = os.path.join(HERE, "../../src"), set()
    for folder in ("manager", "cmd/vm"):
        for name in os.listdir(os.path.join(src, folder)):
            given.update("K" + n for n in re.findall(r"\bK\((\d+)\)", s.read(os.path.join(src, folder, name))))
    table = s.read(os.path.join(src, "cmd/vm/codes.c"))
    given.update(re.findall(r'\{ E[A-Z]+, "(K\d+)" \}', table))
    eq(sorted(given), [c["code"] for c in s.json("explain", "explain")["codes"]])


def test_code_travels(s):
    """A code comes from where the message is made, whatever is in front of it; not from names in the text; and never into a log."""
    s.ok("init")
    s.guest("is-not-running", MINIMAL)
    r = s.vm("set", "is-not-running", "cpu=many")
    eq((r.codes, r.exact, "\1" in r.err), (["K004"], 1, False), r.err)
    s.write(s.path("is-not-running/is-not-running.conf"), MINIMAL + "cpuu=1\n")
    eq(s.vm("start", "is-not-running").codes, ["K041"])
    text = s.read(s.path("is-not-running/vm-bhyve.log"))
    true("unknown key 'cpuu'" in text and "\1" not in text and "K041" not in text, text)
    r = s.vm("create", "-t", os.path.join(s.top, "does not exist already"), "new")
    true(r.codes != ["K024"], r.err)


def test_suggestions(s):
    s.ok("init")
    s.guest("webserver", MINIMAL)
    for command, what in (("start webservr", "webserver"), ("info webserve", "webserver"), ("stop wbserver", "webserver"),
                          ("restart websever", "webserver"), ("configure wevserver", "webserver"), ("lits", "list"),
                          ("set webserver memry=1G", "memory")):
        r = s.vm(*command.split())
        true(f"did you mean '{what}'?" in r.out + r.err or (what == "memory" and what in r.err), f"{command}: {r.out}{r.err}")
    true("did you mean" not in s.fails("info", "zzzzzz"), "nothing is near")


def test_colours(s):
    """On a terminal only, and not with NO_COLOR."""
    def said(**env):
        main, side = pty.openpty()
        subprocess.run([s.program, "frobnicate"], env={**s.env, "TERM": "xterm", **env}, stderr=side, check=False)
        os.close(side)
        text = os.read(main, 4096).decode()
        os.close(main)
        return text
    match(said(), "^vm: \x1b\\[31mERROR: \x1b\\[0munknown command")
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        match(said(**env), "^vm: ERROR: unknown command")


def on_terminal(s, *args, stdin="", columns=80):
    """What a command prints on a terminal."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    p = s.popen(*args, stdin=subprocess.PIPE, stdout=side, stderr=side)
    os.close(side)
    p.stdin.write(stdin)
    p.stdin.close()
    out = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:
            piece = b""
        if not piece:
            break
        out += piece
    os.close(main)
    p.wait()
    return out.decode().replace("\r", "")


def test_width(s):
    """80 columns are enough for help and what guests usually are."""
    s.ok("init")
    s.guest("web", MINIMAL + "graphics=yes\n")
    for command in [[], *([line.split()[1]] for line in s.ok("help").splitlines() if line.startswith("    vm "))]:
        out = s.ok("help", *command)
        eq([line for line in out.splitlines() if len(line) > 80], [], "vm help")
    eq([line for line in s.vm("doctor").out.splitlines() if len(line) > 80 and " " in line[27:]], [], "vm doctor")
    match(s.ok("help", "create"), r"\n    vm create \[-d STORE\] [^\n]*\n {11}\[-i IMAGE\] NAME\n")
    match(s.ok("help", "create"), r"\n    -C           the guest has [^\n]*\n")
    s.ok("start", "web")
    whole = s.ok("list").splitlines()[0].split()
    for columns, left in ((200, []), (80, ["TAGS"]), (60, ["DATASTORE", "LOADER", "TAGS"])):
        if columns == 80:
            columns = len(s.ok("list").splitlines()[0]) - 1
        out = on_terminal(s, "list", columns=columns).splitlines()
        eq(out[0].split(), [w for w in whole if w not in left], out)
        eq(out[1].split()[0], "web")
    # What guests differ in stays.
    s.guest("db", MINIMAL + 'tags="prod"\n')
    true("TAGS" in on_terminal(s, "list", columns=60) and "DATASTORE" not in on_terminal(s, "list", columns=60), "tags stay")
    out = on_terminal(s, "destroy", "db", stdin="y\n")
    true(out.endswith(" db is in the trash for 7 days; 'vm trash restore db' brings it back\n"), out)
    match(s.fails("set", "vm_list=web"), "'vm_list': it stands in khyve.conf, see khyve.conf")


def doctor(s, *hidden):
    """What it finds when files are hidden by others: pairs of a path and what is mounted there."""
    script = "".join(f"mount --bind '{what}' '{path}' || exit 99\n" for path, what in hidden)
    p = subprocess.run(["unshare", "-m", "sh", "-c", script + 'exec "$0" doctor --json', s.program], env=s.env,
                       capture_output=True, text=True, check=False)
    data = json.loads(p.stdout)
    return p.returncode, {c["name"]: c for c in data["checks"]}


def test_doctor(s):
    """What is asserted does not depend on the machine: each check finds what the test puts before it."""
    s.ok("init")
    r = s.vm("doctor", "--json")
    eq(r.exact, 6 if json.loads(r.out)["worst"] == "bad" else 0)
    names = [c["name"] for c in json.loads(r.out)["checks"]]
    eq([line.split()[1] for line in s.vm("doctor").out.splitlines() if line[0] != " "], names)
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        print("   skipped: the host's files cannot be hidden without root")
        return
    cpu, line, empty = (os.path.join(s.top, n) for n in ("cpuinfo", "line", "empty"))
    os.mkdir(empty)
    for flags, vmx, health, text in (("fpu vmx popcnt", "ept unrestricted_guest", "ok", "VT-x, second level page tables, POPCNT"),
                                     ("fpu vmx", "vnmi", "warning", "and no POPCNT"), ("fpu svm npt popcnt", "", "ok", "AMD-V"),
                                     ("fpu svmx npt", "", None, "neither VT-x (vmx) nor AMD-V (svm)")):
        s.write(cpu, f"processor\t: 0\nflags\t\t: {flags}\nvmx flags\t: {vmx}\n")
        found = doctor(s, ("/proc/cpuinfo", cpu))[1]["processor"]
        true(health in (None, found["health"]) and text in found["cause"], found)
    status, found = doctor(s, *([("/dev/kvm", "/dev/null")] if os.path.exists("/dev/kvm") else []))
    eq((status, found["kvm"]["health"], found["kvm"]["effect"]), (6, "bad", "no guest can start"))
    s.write(line, "MemTotal: 9 kB\nMemAvailable:   1024 kB\n")
    found = doctor(s, ("/proc/meminfo", line))[1]["memory"]
    eq((found["health"], found["cause"]), ("warning", "1 MiB are free"))
    for folder in ("/usr/share/qemu/firmware", "/etc/qemu/firmware"):
        if os.path.isdir(folder):
            status, found = doctor(s, (folder, empty))
            eq((status, found["firmware"]["health"], found["firmware"]["fix"]), (6, "bad", "apt install ovmf"))
            break
    s.env["VM_DIR"] = s.top + "/none"
    eq(doctor(s)[1]["disk"]["fix"], "'vm init' makes it")


# What prints JSON, with arguments of each kind. {image} is an image's UUID.
JSON = {"get": ["all", "console", "guest", "guest cpu", "odd"], "list": ["", "-v", "-r", "-t prod", "-t none"],
        "info": ["", "guest", "guest odd"], "trash list": [""], "disk list": ["guest", "off", "odd"], "iso": ["", "-d default"],
        "img": ["", "-d default"], "image list": [""], "datastore list": [""], "switch list": [""], "switch info": ["", "one"],
        "port list": ["", "guest", "off"], "tags list": ["guest", "odd"], "tags find": ["prod", "none"], "why": ["guest", "off", "odd"],
        "events": ["", "guest"], "top": [""], "doctor": [""], "explain": ["", "K001"]}
NOBODY = ("get nobody cpu", "info nobody", "disk list nobody", "switch info nobody", "port list nobody", "tags list nobody",
          "why nobody", "events nobody", "explain K999", "iso -d nowhere")


def fill(s):
    """A store with some of everything."""
    s.guest("guest", MINIMAL + 'graphics=yes\ntags="prod web"\nnetwork0_type="e1000"\nnetwork0_switch="user"\n'
            'network0_ports="127.0.0.1:2222:22/tcp"\n')
    for name in ("off", "gone"):
        s.guest(name, MINIMAL)
    s.ok("destroy", "gone", stdin="y\n")
    s.ok("snapshot", "guest@one")
    s.ok("image", "create", "off")
    s.guest("odd", 'cpu=many\nmemory=\ndisk0_type="nvme"\n')
    for name in (".iso/a b.iso", ".img/c.raw"):
        s.write(s.path(name), "x" * 10)
    os.mkdir(s.top + "/fast")
    s.ok("datastore", "add", "fast", s.top + "/fast")
    with open(s.path(".config/system.conf"), "a", encoding="utf-8") as f:
        f.write('switch_list="one"\naddr_one="192.0.2.1/24"\n')
    s.ok("start", "guest")


def test_every_json(s):
    """Every command whose usage has --json, in an empty store and a full one; the harness holds it to its schema."""
    forms = [re.match(r"(?:[a-z]+ )+", line.strip()[3:]) for line in s.ok("help").splitlines() if "[--json]" in line]
    eq(sorted({m[0].strip() for m in forms}), sorted(JSON), "commands with --json")
    s.ok("init")
    used = {}
    for full in (False, True):
        if full:
            fill(s)
        for command, arguments in JSON.items():
            for words in arguments if full else [a for a in arguments if not a or a[0] == "-"]:
                args = [*command.split(), "--json", *words.split()]
                r = s.vm(*args)
                true(r.exact == 0 or (r.exact == 6 and command == "doctor"), f"{args}: {r.out}{r.err}")
                # One object, or one in each line.
                for text in r.out.splitlines() if command == "events" else [r.out]:
                    used[rules_of(args)] = json.loads(text)
                    eq(used[rules_of(args)]["version"], 1, args)
    for words in NOBODY:
        r = s.vm(*words.split(), "--json")
        true(r.exact and not r.out and r.err, f"{words}: {r.out}{r.err}")
    eq(sorted(used), sorted(n[:-5] for n in os.listdir(os.path.join(HERE, "../../doc/json"))), "schemas")
    for name, value in used.items():
        # The check finds what is wrong.
        for wrong in ({**value, "more": 1}, {k: v for k, v in value.items() if k != "version"}, {**value, "version": "1"}, []):
            try:
                valid(wrong, rules(name))
            except Failed:
                continue
            raise Failed(f"{name}.json takes {wrong}")


def test_protect(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.ok("add", "-d", "disk", "-s", "1M", "guest")
    s.ok("start", "guest")
    s.ok("poweroff", "-f", "guest")
    s.ok("snapshot", "guest@one")
    before = s.read(s.path("guest/guest.conf"))
    s.ok("protect", "guest", "on")
    eq(s.read(s.path("guest/guest.conf")), before + 'protect="yes"\n')
    s.ok("protect", "guest", "on")
    for command in (["destroy", "-f", "guest"], ["destroy", "guest"], ["rollback", "guest@one"], ["destroy", "guest@one"],
                    ["disk", "remove", "-f", "guest", "1"]):
        r = s.vm(*command, stdin="y\n")
        eq((r.exact, r.codes, r.err), (4, ["K020"], "vm: ERROR: guest is protected; 'vm protect guest off' allows it\n"),
           f"{command} {r.out}")
    s.ok("start", "guest")
    s.ok("poweroff", "-f", "guest")
    s.ok("protect", "guest", "off")
    eq(s.read(s.path("guest/guest.conf")), before)
    s.ok("destroy", "-f", "guest")
    match(s.fails("protect", "nobody", "on"), "valid virtual machine")
    match(s.fails("protect", "guest", status=2), "Usage")


def tree(s):
    """All that is in the store, with contents and times."""
    return {p: (os.lstat(p).st_mtime_ns, os.lstat(p).st_size, s.read(p) if p.endswith(".conf") else "")
            for folder, folders, files in os.walk(s.dir) for p in [os.path.join(folder, n) for n in folders + files]}


def test_dry_run(s):
    """It says what would be done, or why not, as the command does, and changes nothing."""
    s.ok("init")
    s.guest("off", MINIMAL)
    s.guest("on", MINIMAL)
    s.ok("snapshot", "off@one")
    s.ok("start", "on")
    before, pid = tree(s), s.pid("on")
    for command, said in (("create -s 1M new", "would create new from the template default\n"),
                          ("destroy off", "would move off to the trash\n"), ("destroy -f off", "would remove off and its disks for good\n"),
                          ("destroy off@one", "would remove the snapshot off@one\n"), ("rename off other", "would rename off to other\n"),
                          ("start off", f"Starting off\n  * found guest in {s.path('off')}\nwould start off\n"),
                          ("set off cpu=2 memory=1G", "would set cpu=2 of off\nwould set memory=1G of off\n"),
                          ("stop -t 5 on", "would press the power button of on\n"), ("reset on", "would reset on at once\n"),
                          ("restart on", "would press the power button of on and start it again\n"),
                          ("poweroff -f on", "would poweroff on at once\n")):
        eq(s.ok(*command.split(), "--dry-run"), said)
        eq(s.ok(command.split()[0], "--dry-run", *command.split()[1:]), said)
        match(s.ok("help", command.split()[0]), "--dry-run  say what")
        eq(tree(s), before, command)
    for command in ("create off", "create -t none new", "destroy -f on", "destroy nobody", "rename off on", "rename off x", "start on",
                    "set off cpu=many", "set off cpuu=2", "reset off", "poweroff off", "restart off"):
        before = tree(s)
        dry = s.vm(*command.split(), "--dry-run")
        eq(tree(s), before, command)
        wet = s.vm(*command.split())
        eq((dry.exact, dry.codes), (wet.exact, wet.codes), f"{command}: {dry.out}{dry.err} | {wet.out}{wet.err}")
        true(dry.exact, command)
    eq(s.pid("on"), pid)


def test_units(s):
    """systemd takes the units, and they give commands that vm has."""
    folder, there = os.path.join(HERE, "../../dist"), os.path.join(s.top, "units")
    os.mkdir(there)
    for name in sorted(n for n in os.listdir(folder) if n.endswith(".service")):
        text = s.read(os.path.join(folder, name)).replace("@bindir@/vm", os.path.abspath(s.program))
        s.write(os.path.join(there, name.replace("@.", "@web.")), text)
        for command in re.findall(r"^Exec(?:Start|Stop)=\S+ (.*)$", text, re.M):
            # Usage, status 2, would be a command that vm does not know.
            s.ok("help", command.split()[0])
    if not shutil.which("systemd-analyze"):
        print("   skipped: no systemd-analyze")
        return
    for name in sorted(os.listdir(there)):
        p = subprocess.run(["systemd-analyze", "verify", "--man=no", os.path.join(there, name)], capture_output=True, text=True,
                           check=False, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{there}:"})
        about = [line for line in p.stderr.splitlines() if "khyve" in line]
        eq((p.returncode, about), (0, []), f"{name}: {p.stderr}")


def candidates(s, line):
    words = line.split(" ")[1:]
    return sorted(set(s.ok("_complete", "--", *words).split()))


def test_candidates(s):
    """What may follow, by what there is."""
    s.ok("init")
    for name in ("web", "webmail", "db"):
        s.guest(name, MINIMAL)
    s.ok("snapshot", "web@one")
    s.ok("start", "webmail")
    s.write(s.path(".iso/debian.iso"), "x")
    s.write(s.path(".config/system.conf"), 'switch_list="public lab"\ntype_public="standard"\ntype_lab="standard"\n')
    for line, want in (("vm sta", "start startall"), ("vm start we", "web"), ("vm stop ", "webmail"), ("vm info w", "web webmail"),
                       ("vm install db ", "debian.iso"), ("vm destroy web@", "web@one"), ("vm protect db ", "off on"),
                       ("vm set db memo", "memory="), ("vm get db disk0_na", "disk0_name"), ("vm add -d ", "disk network"),
                       ("vm add -d network -s ", "lab public"), ("vm switch des", "destroy"), ("vm switch info p", "public"),
                       ("vm create -t win", "windows-uefi"), ("vm stopall -", "-f -k -t"), ("vm explain K01", " ".join(
                           f"K01{n}" for n in range(8))), ("vm start web d", "db"), ("vm frobnicate ", "")):
        if want:
            eq(candidates(s, line), want.split(), line)
    true("_run" not in candidates(s, "vm "), "hidden commands")
    s.ok("destroy", "db", stdin="y\n")
    eq(candidates(s, "vm trash restore "), ["db"])


def test_shells(s):
    """Typed in real shells, with the key Tab."""
    s.ok("init")
    s.guest("web", MINIMAL)
    programs = os.path.join(s.top, "programs")
    os.mkdir(programs)
    os.symlink(os.path.abspath(s.program), os.path.join(programs, "vm"))
    folder = os.path.abspath(os.path.join(HERE, "../../completions"))
    env = {**s.env, "PATH": f"{programs}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "ready> ", "XDG_CONFIG_HOME": s.top}
    fish = ["fish", "--no-config", "-c", f"source {folder}/vm.fish; complete -C 'vm protect we'; complete -C 'vm protect web '"]
    if shutil.which("fish"):
        out = subprocess.run(fish, env=env, capture_output=True, text=True, check=True).stdout
        eq(out.split(), ["web", "off", "on"], "fish")
    else:
        print("   skipped: no fish")
    for shell, begin in (("bash", ["bash", "--norc", "--noprofile", "-i"]), ("zsh", ["zsh", "-f", "-i"])):
        if not shutil.which(shell):
            print(f"   skipped: no {shell}")
            continue
        main, side = pty.openpty()
        p = subprocess.Popen(begin, env=env, cwd=s.top, stdin=side, stdout=side, stderr=side, start_new_session=True)
        os.close(side)
        said = ""

        def wait(what, main=main):
            nonlocal said
            end = time.time() + 20 * PATIENCE
            while what not in said:
                true(time.time() < end and select.select([main], [], [], 20 * PATIENCE)[0], f"{what!r} not in {said!r}")
                said += os.read(main, 4096).decode(errors="replace")
            said = said.split(what, 1)[1]
        load = f"source {folder}/vm.bash" if shell == "bash" else \
            f"fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D"
        os.write(main, f"{load}; echo lo''aded\n".encode())
        wait("loaded")
        for typed, key, value in ((b"vm protect we\t on\n", "protect", '"yes"'), (b"vm set we\tmemo\t512M\n", "memory", '"512M"'),
                                  (b"vm prot\tweb of\t\n", "protect", None)):
            os.write(main, typed)

            def done(key=key, value=value):
                m = re.search(f"^{key}=(.*)$", s.read(s.path("web/web.conf")), re.M)
                return (m[1] if m else None) == value
            until(done, f"{shell}: {typed}")
            os.write(main, b"echo ne''xt\n")
            wait("next")
        s.ok("set", "web", "memory=256M")
        os.write(main, b"exit\n")
        p.wait(20)
        os.close(main)


if __name__ == "__main__":
    run(cases_of(sys.modules[__name__]))
