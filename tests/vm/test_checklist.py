#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""What vm-bhyve's users know, replayed line by line: words, grammar, tables, states, locks, errors, and the flow of the
FreeBSD Journal's article "bhyve for the Linux and Windows Users".

A transcript is what vm-bhyve prints. Where vm prints something else on purpose, the line of vm-bhyve begins with "-", that
of vm with "+", and a line with "#" says why; a difference without a reason fails. Differences that hold everywhere:
  * vm-bhyve's messages begin with "/usr/local/sbin/vm: ", ours with "vm: ".
  * Ours may go on behind vm-bhyve's words, with the cause, the next step or a code.
  * Wrong or missing arguments give status 2 and the command's usage on standard error; there, master gives 0.
  * The supervised program is called khyve.
  * Where vm-bhyve ends with 1, vm tells failures apart: 1, 3, 4, 5, 6.
"""
import http.server
import os
import re
import shlex
import stat
import subprocess
import sys
import threading

from harness import cases_of, eq, match, run, true, until

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
TEMPLATE = ('loader="uefi"\ngraphics="yes"\ncpu={cpu}\nmemory={memory}\ndisk0_type="{disk}"\ndisk0_name="disk0.img"\n'
            'disk0_dev="file"\ngraphics_listen="[::]"\ngraphics_res="1024x768"\nxhci_mouse="yes"\nutctime="{utc}"\n'
            'virt_random="yes"\n')
LINUX = TEMPLATE.format(cpu=2, memory="1G", disk="virtio-blk", utc="yes")
WINDOWS = TEMPLATE.format(cpu=2, memory="4G", disk="nvme", utc="no")
# What stands for something that differs from run to run.
WILD = {"<pid>": r"\d+", "<mac>": r"58:9c:fc:0[0-9a-f]:[0-9a-f]{2}:[0-9a-f]{2}", "<bytes>": r"\d+ \(\d+\.\d{3}[BKMGT]\)",
        "<uuid>": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "<any>": ".*"}
differences = []


def pattern(line, stem):
    """A line of a transcript as a regular expression. stem: more may follow."""
    text = "".join(WILD.get(part, re.escape(part)) for part in re.split("(<[a-z]+>)", line))
    return text + (r"(?:[ :;,(\[].*)?" if stem else "") + r"\Z"


def expected(lines):
    """Takes the differences out of a transcript: what vm prints."""
    want, theirs = [], None
    for line in lines:
        if line[:2] in ("- ", "+ ", "# "):
            theirs = theirs or []
            if line[0] == "#":
                true(len(theirs) > 0, f"no difference before {line}")
                differences.append((theirs, line[2:]))
                theirs = None
                continue
            theirs.append(line)
            if line[0] == "+":
                want.append(line[2:])
            continue
        true(not theirs, f"no reason given for {theirs}")
        want.append(line)
    true(not theirs, f"no reason given for {theirs}")
    return want


def compare(s, command, want, status, answer):
    argv = shlex.split(command.format(top=s.top, dir=s.dir))
    r = s.vm(*argv, stdin=answer)
    got = r.out.splitlines() + r.err.splitlines()
    want = [line.format(top=s.top, dir=s.dir) for line in expected(want)]
    where = f"vm {command}\n{r.out}{r.err}--- want\n" + "\n".join(want)
    eq(len(got), len(want), f"lines of {where}")
    for have, line in zip(got, want):
        error = re.match("ERROR: |WARNING: ", line)
        true(re.match(pattern("vm: " + line if error else line, error or line.startswith("  ! ")), have),
             f"{have!r} is not {line!r} in {where}")
    eq(r.status, status, f"status of {where}")


def replay(s, text):
    """Runs the commands of a transcript. "= N" behind the output is the status, "< TEXT" what is answered."""
    command, want, status, answer = None, [], 0, ""
    for line in [*text.strip("\n").split("\n"), "$ "]:
        if line.startswith("$ "):
            if command is not None:
                compare(s, command, want, status, answer)
            command, want, status, answer = line.removeprefix("$ ").removeprefix("vm "), [], 0, ""
        elif line.startswith("= "):
            status = int(line[2:])
        elif line.startswith("< "):
            answer = line[2:] + "\n"
        else:
            want.append(line)


def stopped(s, name="guest"):
    until(lambda: s.state(name) == "Stopped" and not s.run_files(name), f"{name} is stopped")


# --- words and names ---

def test_words(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    replay(s, """
$ vm li
NAME   DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE    TAGS
guest  default    uefi    1    256M    -    No    Stopped  -
$ vm LI
NAME   DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE    TAGS
guest  default    uefi    1    256M    -    No    Stopped  -
$ vm re
ERROR: ambiguous command 're'
= 1
$ vm sw li
NAME  TYPE  IFACE  ADDRESS  PRIVATE  MTU  VLAN  PORTS
$ vm get console
SETTING             VALUE
console             -
""")
    match(s.fails(), "^vm: ERROR: no command specified")
    match(s.ok("version"), "^khyve: virtual machine management v")
    # vm-bhyve prints the usage on standard output with status 1; here the word is named.
    match(s.fails("frobnicate"), "^vm: ERROR: unknown command 'frobnicate'")


def test_names(s):
    s.ok("init")
    for name in ("a", "-ab", "ab-", ".ab", "a b", "a/b", "a\nb", "", "x" * 232, "é1"):
        match(s.fails("create", "-s", "1M", "--", name), r"^vm: ERROR: invalid virtual machine name - '")
    for name in ("ab", "x" * 231, "A.b_c-9"):
        s.ok("create", "-s", "1M", name)
        true(os.path.isfile(s.path(name, f"{name}.conf")), name)


# --- the file's grammar ---

def test_grammar(s):
    """Each line alone in a file: which key it gives which value."""
    s.ok("init")
    s.guest("guest", MINIMAL)
    for line, want in ((b"cpu=2", {"cpu": "2"}), (b'cpu="2"', {"cpu": "2"}), (b" memory=4G", {}), (b"\tmemory=4G", {}),
                       (b"Memory=1G", {}), (b'name="a # b"', {"name": "a"}), (b"key = 3", {"key ": " 3"}),
                       (b"x='1'", {"x": "'1'"}), (b'x="1"   # note', {"x": "1"}), (b"#x=1", {}), (b"1x=1", {}),
                       (b"x=1\nx=2", {"x": "1"}), (b"x=a=b", {"x": "a=b"}), (b"x=", {"x": None}), (b"novalue", {}),
                       (b'graphics_listen="[::]"', {"graphics_listen": "[::]"}),
                       # Ours: Windows' line ends are no part of values.
                       (b"x=1\r\ny=2\r\n", {"x": "1", "y": "2"})):
        with open(s.path("guest/guest.conf"), "wb") as f:
            f.write(line)
        eq(s.json("get", "get", "guest")["values"], want, line)


def test_writer(s):
    """Edits change one line and keep the rest; a last line without an end gets one."""
    s.ok("init")
    s.guest("guest", '# mine\ncpu=1   # one\n\n memory=9G\nmemory="256M"\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'
            'loader="uefi"')
    s.ok("set", "guest", "cpu=2", "memory=512M")
    s.ok("add", "-d", "network", "-s", "public", "guest")
    eq(s.read(s.path("guest/guest.conf")),
       '# mine\ncpu="2"   # one\n\n memory=9G\nmemory="512M"\ndisk0_type="nvme"\ndisk0_name="disk0.img"\nloader="uefi"\n'
       'network0_type="virtio-net"\nnetwork0_switch="public"\n')


def test_booleans(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    for value, on in (("no", 0), ("NO", 0), ("false", 0), ("Off", 0), ("0", 0), ("", 0), ("yes", 1), ("1", 1), ("maybe", 1)):
        s.write(s.path("guest/guest.conf"), MINIMAL + f'graphics="{value}"\n')
        eq("device=fbuf" in s.ok("start", "-n", "guest"), bool(on), f"graphics={value}")


# --- tables ---

def test_tables(s):
    s.write(s.conf, 'vm_list="linux-guest"\n')
    s.ok("init")
    s.guest("linux-guest", 'loader="uefi"\ncpu=2\nmemory=4G\nuuid="10d902cf-d0aa-11ef-91d3-00d8612f03c8"\n'
            'graphics="yes"\ngraphics_listen="127.0.0.1"\ngraphics_port=5977\ncpu_sockets=1\ncpu_cores=2\n'
            'disk0_type="virtio-blk"\ndisk0_name="disk0.img"\n', size="20G")
    s.guest("nfsguest", 'cpu=1\nmemory=256M\n')
    s.guest("windows-guest", 'loader="uefi"\ncpu=2\nmemory=4G\ntags="prod web"\n')
    replay(s, """
$ vm list
NAME           DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO     STATE    TAGS
linux-guest    default    uefi    2    4G      -    Yes [1]  Stopped  -
nfsguest       default    none    1    256M    -    No       Stopped  -
windows-guest  default    uefi    2    4G      -    No       Stopped  prod,web
$ vm list -r
NAME  DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE  TAGS
$ vm list -t web
NAME           DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE    TAGS
windows-guest  default    uefi    2    4G      -    No    Stopped  prod,web
$ vm info linux-guest
------------------------
Virtual Machine: linux-guest
------------------------
  state: stopped
  datastore: default
  loader: uefi
  uuid: 10d902cf-d0aa-11ef-91d3-00d8612f03c8
  cpu: 2
  cpu-topology: sockets=1, cores=2
  memory: 4G

  virtual-disk
    number: 0
    device-type: file
    emulation: virtio-blk
    options: -
    system-path: {dir}/linux-guest/disk0.img
    bytes-size: 21474836480 (20.000G)
    bytes-used: 0 (0.000B)

$ vm info nobody
ERROR: unable to locate virtual machine 'nobody'
= 1
$ vm start linux-guest
Starting linux-guest
  * found guest in {dir}/linux-guest
  * booting...
$ vm list
NAME           DATASTORE  LOADER  CPU  MEMORY  VNC             AUTO     STATE<any>TAGS
linux-guest    default    uefi    2    4G      127.0.0.1:5977  Yes [1]  Running (<pid>)  -
nfsguest       default    none    1    256M    -               No       Stopped<any>-
windows-guest  default    uefi    2    4G      -               No       Stopped<any>prod,web
$ vm list -rv
NAME         DATASTORE  LOADER  CPU  MEMORY  VNC             AUTO      %CPU       RSZ          UPTIME  STATE<any>TAGS
linux-guest  default    uefi    2    4G      127.0.0.1:5977  Yes [1]  <any>  Running (<pid>)  -
$ vm info linux-guest
------------------------
Virtual Machine: linux-guest
------------------------
  state: running (<pid>)
  datastore: default
  loader: uefi
  uuid: 10d902cf-d0aa-11ef-91d3-00d8612f03c8
  cpu: 2
  cpu-topology: sockets=1, cores=2
  memory: 4G
  memory-resident: <bytes>

  console-ports
-     com1: /dev/nmdm-linux-guest.1B
+     com1: {dir}/linux-guest/com1.sock
# serial ports are sockets: Linux has no nmdm
    vnc: 127.0.0.1:5977

  virtual-disk
    number: 0
    device-type: file
    emulation: virtio-blk
    options: -
    system-path: {dir}/linux-guest/disk0.img
    bytes-size: 21474836480 (20.000G)
    bytes-used: 0 (0.000B)

$ vm get all
SETTING             VALUE
console             -
compress            -
decompress          -
suspend             -
""")


# --- create and add ---

def test_create(s):
    """Step 6, byte for byte."""
    s.ok("init")
    s.write(s.path(".templates/windows-uefi.conf"), WINDOWS)
    replay(s, "$ vm create -t windows-uefi -s 100G windows-guest")
    folder = s.path("windows-guest")
    eq(sorted(os.listdir(folder)), ["disk0.img", "vm-bhyve.log", "windows-guest.conf"])
    st = os.stat(os.path.join(folder, "disk0.img"))
    eq((st.st_size, st.st_blocks, stat.S_IMODE(st.st_mode)), (107374182400, 0, 0o600))
    text = s.read(os.path.join(folder, "windows-guest.conf"))
    want = pattern(WINDOWS + 'uuid="<uuid>"\nnetwork0_mac="<mac>"\n', False)
    true(re.match(want, text), text)
    log = s.read(os.path.join(folder, "vm-bhyve.log"))
    true(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00: generated static mac " + WILD["<mac>"] + r"\n\Z", log), log)
    true(re.search(WILD["<mac>"], log)[0] in text, "the log has the MAC of the file")


def test_add(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.guest("other", MINIMAL + 'network0_type="e1000"\nnetwork0_switch="public"\n')
    replay(s, """
$ vm add -d network -s public guest
$ vm add -d network -s lab other
$ vm add -d disk -s 10G guest
$ vm add -d disk -t zvol -s 10G guest
- ERROR: device type must be one of the following: zvol sparse-zvol file
+ ERROR: device type must be one of the following: file
# zvols are ZFS volumes
= 1
$ vm add -d floppy -s 1M guest
ERROR: device must be one of the following: disk network
= 1
""")
    eq(s.read(s.path("guest/guest.conf")), MINIMAL + 'network0_type="virtio-net"\nnetwork0_switch="public"\n'
       'disk1_name="disk1.img"\ndisk1_type="nvme"\ndisk1_dev="file"\n')
    eq(os.path.getsize(s.path("guest/disk1.img")), 10 << 30)
    match(s.read(s.path("other/other.conf")), 'network1_type="e1000"\nnetwork1_switch="lab"\n$')
    s.write(s.path("guest/guest.conf"), 'cpu=1\nmemory=256M\n')
    replay(s, """
$ vm add -d disk -s 10G guest
ERROR: failed to get emulation type of the existing guest disks
= 1
""")


# --- running: exits, locks, install ---

def test_exits(s):
    """What the supervisor does with each exit status."""
    s.ok("init")
    for status, conf, restarts in ((0, "", True), (0, 'on_restart="stop"\n', False), (1, "", False), (2, "", False),
                                   (3, "", False), (4, "", False), (3, 'on_fault="restart"\n', True)):
        s.guest("guest", MINIMAL + conf, mode=f"status={status}")
        s.ok("start", "guest")
        pid = s.pid()
        replay(s, """
$ vm stop guest
Sending ACPI shutdown to guest
""")
        where = f"status {status} {conf}"
        if restarts:
            until(lambda pid=pid: s.pid() not in (None, pid), f"it starts again: {where}")
            s.ok("poweroff", "-f", "guest")
        stopped(s)
        match(s.read(s.path("guest/vm-bhyve.log")), f"exited with status {status}\n")
        s.ok("destroy", "-f", "guest")
    # The restart flag turns a power-off into one more run, once.
    s.guest("guest", MINIMAL)
    s.ok("start", "guest")
    pid = s.pid()
    replay(s, """
$ vm restart guest
Setting guest restart flag
Sending ACPI shutdown to guest
""")
    until(lambda: s.pid() not in (None, pid), "it starts again")
    s.ok("stop", "guest")
    stopped(s)


def lock(s, name, text):
    s.write(s.path(name, "run.lock"), text)


def test_locks(s):
    """Which command goes on with which lock file. A lock of ours is the kernel's: what a crash leaves is no lock."""
    s.ok("init")
    stale = {"of this host": f"{os.uname().nodename}\n", "empty": "", "of a host that had another name": "oldname\n"}
    for what, text in stale.items():
        for command, undo in ((("start", "guest"), ("poweroff", "-f", "guest")), (("snapshot", "guest@a"), None),
                              (("rollback", "guest@a"), None), (("rename", "guest", "other"), ("rename", "other", "guest")),
                              (("clone", "guest", "copy"), ("destroy", "-f", "copy")), (("destroy", "-f", "guest"), None)):
            if not os.path.isdir(s.path("guest")):
                s.guest("guest", MINIMAL)
            lock(s, "guest", text)
            r = s.vm(*command)
            eq((r.status, r.err), (0, ""), f"lock {what}: {command}")
            if undo:
                s.ok(*undo)
    # Running here, with the lock of a living khyve; on another host, as far as a shared store shows it.
    s.guest("guest", MINIMAL)
    s.ok("snapshot", "guest@a")
    s.ok("start", "guest")
    replay(s, """
$ vm start guest
Starting guest
  * found guest in {dir}/guest
  ! guest appears to be running already
= 1
$ vm destroy -f guest
- WARNING: guest appears to be running locally (vmm exists)
+ WARNING: guest appears to be running locally (pid <pid>)
# Linux has no /dev/vmm
= 1
$ vm snapshot guest@b
ERROR: guest must be powered off first (use -f to override)
= 1
$ vm rollback guest@a
- ERROR: guest must be powered off first (use -f to override)
+ ERROR: guest must be powered off first
# rollback has no -f, there neither
= 1
""")
    path = s.path("guest/run.lock")
    text = s.read(path)
    lock(s, "guest", re.sub("machine=.*", "machine=0123", text).replace(os.uname().nodename, "hostb", 1))
    replay(s, """
$ vm list
NAME   DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE           TAGS
guest  default    uefi    1    256M    -    No    Locked (hostb)  -
$ vm list -r
NAME   DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE           TAGS
guest  default    uefi    1    256M    -    No    Locked (hostb)  -
$ vm start guest
Starting guest
  * found guest in {dir}/guest
- WARNING: guest appears to be running on hostb (locked)
+   ! guest appears to be running on hostb (locked)
# said where the progress is said
= 1
$ vm destroy -f guest
WARNING: guest appears to be running on hostb (locked)
= 1
""")
    lock(s, "guest", text)
    s.ok("poweroff", "-f", "guest")


def test_not_running(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    replay(s, """
$ vm stop guest
WARNING: guest doesn't appear to be a running virtual machine
$ vm poweroff -f guest
ERROR: guest doesn't appear to be a running virtual machine
= 1
$ vm poweroff guest
ERROR: guest doesn't appear to be a running virtual machine
= 1
$ vm reset -f guest
ERROR: guest doesn't appear to be a running virtual machine
= 1
$ vm console guest
ERROR: guest doesn't appear to be a running virtual machine
= 1
$ vm restart nobody
- ERROR: unable to locate specified guest
+ ERROR: unable to locate specified guest: nobody
# names it
= 1
$ vm start nobody
Starting nobody
  ! nobody does not seem to be a valid virtual machine
= 1
""")


# --- error texts ---

def test_errors(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    s.write(s.path(".templates/empty.conf"), "cpu=1\n")
    replay(s, """
$ vm create guest
ERROR: virtual machine already exists in {dir}/guest
= 1
$ vm create -t none other
ERROR: unable to find template {dir}/.templates/none.conf
= 1
$ vm create -t empty other
ERROR: template is missing disk0_name specification
= 1
$ vm create -d nowhere other
ERROR: unable to load datastore - 'nowhere'
= 1
$ vm set colour=red
ERROR: invalid configuration setting - 'colour'
= 1
$ vm set press=red
ERROR: invalid configuration setting - 'press'
= 1
$ vm destroy -f nobody
ERROR: nobody doesn't appear to be a valid virtual machine
= 1
$ vm console nobody
ERROR: nobody doesn't appear to be a valid virtual machine
= 1
$ vm configure nobody
ERROR: cannot locate configuration file for virtual machine: nobody
= 1
$ vm configure guest user-data
ERROR: cloud-init is not enabled for this guest
= 1
$ vm install guest none.iso
ERROR: unable to locate iso file - 'none.iso'
= 1
$ vm rollback guest
ERROR: a snapshot name must be provided in guest@snapshot format
= 1
$ vm discard guest
ERROR: no saved state exists for guest
= 1
$ vm discard -f guest
$ vm suspend guest
WARNING: guest doesn't appear to be a running virtual machine
= 1
$ vm rename guest x
- ERROR: invalid virtual machine name - ''
+ ERROR: invalid virtual machine name - 'x'
# there, a bug shows no name
= 1
$ vm tags add guest x/y
ERROR: invalid tag name - 'x/y'
= 1
$ vm tags add guest prod web
$ vm tags list guest
prod web
$ vm tags find web
guest
$ vm tags remove guest prod web
$ vm destroy guest
< n
Are you sure you want to completely remove this virtual machine (y/n)? <any>
$ vm destroy guest
- Are you sure you want to completely remove this virtual machine (y/n)? 
+ Are you sure you want to completely remove this virtual machine (y/n)? 
+ ERROR: nobody answered, so nothing was done
# there, the end of the input is a yes
= 1
$ vm destroy guest
< y
Are you sure you want to completely remove this virtual machine (y/n)? <any>
""")
    true(not os.path.exists(s.path("guest")), "it is gone")


def test_arguments(s):
    s.ok("init")
    for words in ("start", "stop", "restart", "reset", "poweroff", "install", "create", "destroy", "rename a1", "add", "clone a1",
                  "snapshot", "rollback", "configure", "console", "discard", "suspend", "tags", "start -x", "switch create",
                  "switch add public", "switch vlan public", "switch private public", "switch destroy"):
        r = s.vm(*words.split(), status=2)
        true("Usage:\n    vm " in r.err and r.out == "", f"{words}: {r.out}{r.err}")
        true(re.match(r"Usage:\n    vm ", s.ok(words.split()[0], "-h")), f"{words.split()[0]} -h")
        eq(s.ok("help", words.split()[0]), s.ok(words.split()[0], "--help"))


# --- switches, and the article; these need root ---

def test_switch_errors(s):
    from test_switch import ip, lan
    s.ok("init")
    with lan(addresses=False):
        ip("link", "add", "br9", "type", "bridge")
        replay(s, """
$ vm switch create public
$ vm switch create public
ERROR: switch public already exists
= 1
$ vm switch create x
ERROR: invalid switch name - 'x'
= 1
$ vm switch create -n 5000 lab
ERROR: invalid vlan number
= 1
$ vm switch create -m 10 lab
ERROR: invalid mtu
= 1
$ vm switch create -a nonsense lab
ERROR: address must be supplied in CIDR notation (e.g. 192.0.2.1/24, 3fff::1/64)
= 1
$ vm switch create -t odd lab
ERROR: invalid switch type - 'odd'
= 1
$ vm switch create -t manual lab
ERROR: you must specify a bridge to import when creating a manual switch
= 1
$ vm switch create -t manual -b none9 lab
ERROR: none9 does not appear to be a valid existing bridge
= 1
$ vm switch create -t vxlan lab
ERROR: vxlan switches must be created with an interface and vlan id specified
= 1
$ vm switch create -t manual -b br9 mine
$ vm switch add mine em0
- ERROR: manual switches and member interfaces should be configured using /etc/rc.conf
+ ERROR: manual switches and member interfaces should be configured with the tools that made br9
# Linux has no rc.conf
= 1
$ vm switch add public none9
- ERROR: failed to add member none9 to the virtual switch public
+ ERROR: there is no interface none9
# the cause
= 1
$ vm switch address public none
ERROR: unable to locate an existing address for this switch
= 1
$ vm switch destroy mine
$ vm switch destroy public
$ vm switch info public
- ------------------------
- Virtual Switch: public
- ------------------------
-   type: standard
-   ident: -
+ ERROR: there is no switch 'public'
# there, a name that is no switch shows an empty one
= 1
""")
        ip("link", "del", "br9")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web server that says nothing."""

    def log_message(self, *args):
        pass


def serve(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_article(s):
    """The whole flow, on the stand-in for khyve."""
    from test_switch import clean, lan
    web = os.path.join(s.top, "web")
    os.mkdir(web)
    for name in ("Windows11-bhyve.iso", "AlmaLinux-9.5-x86_64-dvd.iso"):
        s.write(os.path.join(web, name), "medium\n")
    server = serve(web)
    url = f"http://127.0.0.1:{server.server_port}"
    s.env["EDITOR"] = 'sed -i s/type="virtio-net"/type="e1000"/'
    with lan(addresses=False):
        s.ok("init")
        for name in os.listdir(web):
            # What it says of a file's progress and proof is test_iso.py's.
            s.ok("iso", f"{url}/{name}")
        replay(s, """
$ vm iso
DATASTORE           FILENAME
default             AlmaLinux-9.5-x86_64-dvd.iso
default             Windows11-bhyve.iso
$ vm switch create public
$ vm switch add public em0
$ vm switch list
NAME    TYPE      IFACE      ADDRESS  PRIVATE  MTU  VLAN  PORTS
public  standard  vm-public  -        no       -    -     em0
""")
        eq(s.read(s.path(".config/system.conf")), 'switch_list="public"\ntype_public="standard"\nports_public="em0"\n')
        s.write(s.path(".templates/linux-uefi.conf"), LINUX)
        s.write(s.path(".templates/windows-uefi.conf"), WINDOWS)
        replay(s, """
$ vm create -t windows-uefi -s 100G windows-guest
$ vm add -d network -s public windows-guest
$ vm create -t linux-uefi -s 100G linux-guest
$ vm add -d network -s public linux-guest
$ vm configure windows-guest
""")
        article_guests(s)
        clean(s)
    server.shutdown()


def article_guests(s):
    eq(re.findall("network.*", s.read(s.path("windows-guest/windows-guest.conf")))[1:],
       ['network0_type="e1000"', 'network0_switch="public"'])
    open_screen = """+ WARNING: {guest}: the screen on [::]:<pid> is open to everybody who can reach this host
# nobody needs a password for it"""
    start = """
Starting {guest}
  * found guest in {{dir}}/{guest}
  * booting...""".strip()
    wait = """+   * waiting for a VNC client on [::]:<pid>
# what it waits for"""
    for guest, iso in (("windows-guest", "Windows11-bhyve.iso"), ("linux-guest", "AlmaLinux-9.5-x86_64-dvd.iso")):
        replay(s, "\n".join((f"$ vm install {guest} {iso}", start.format(guest=guest), wait,
                             open_screen.format(guest=guest))))
    replay(s, """
$ vm list
NAME           DATASTORE  LOADER  CPU  MEMORY  VNC        AUTO  STATE<any>TAGS
linux-guest    default    uefi    2    1G      [::]:5901  No    Running (<pid>)  -
windows-guest  default    uefi    2    4G      [::]:5900  No    Running (<pid>)  -
""")
    conf = dict(line.split("=", 1) for line in s.read(s.path("windows-guest/khyve.run")).splitlines())
    eq([conf.get(f"pci.0.{slot}.0.device", "").split("-")[0] for slot in (3, 4)], ["ahci", "nvme"])
    true("e1000" in conf.values() and conf["rtc.use_localtime"] == "true", conf)
    # The guest starts anew: no wait, and the medium is still there.
    pid = s.pid("windows-guest")
    s.write(s.path("windows-guest/fake.mode"), "status=1")
    s.ok("restart", "windows-guest")
    until(lambda: s.pid("windows-guest") not in (None, pid), "run 2")
    text = until(lambda: os.path.exists(s.path("windows-guest/khyve.run")) and s.read(s.path("windows-guest/khyve.run")), "plan")
    true(".wait=" not in text and "Windows11-bhyve.iso" in text and "bootindex" not in text, text)
    replay(s, """
$ vm stop windows-guest
Sending ACPI shutdown to windows-guest
$ vm poweroff -f linux-guest
""")
    stopped(s, "windows-guest")
    stopped(s, "linux-guest")
    match(s.read(s.path("windows-guest/vm-bhyve.log")), "exited with status 1\n.*: destroying network device tap0\n.*: stopped\n$")
    replay(s, "\n".join(("$ vm start linux-guest", start.format(guest="linux-guest"),
                         open_screen.format(guest="linux-guest"))))
    replay(s, """
$ vm start linux-guest
Starting linux-guest
  * found guest in {dir}/linux-guest
  ! guest appears to be running already
= 1
$ vm poweroff linux-guest
< n
Are you sure you want to forcefully poweroff this virtual machine (y/n)? <any>
$ vm poweroff linux-guest
< y
Are you sure you want to forcefully poweroff this virtual machine (y/n)? <any>
$ vm poweroff linux-guest
ERROR: linux-guest doesn't appear to be a running virtual machine
= 1
""")


def test_differences(s):
    """Every difference above has been given a reason; printed for the reader."""
    del s
    true(len(differences) > 5, "differences were met")
    for theirs, reason in differences:
        print(f"   {' / '.join(theirs)[:100]}: {reason}")


def main():
    cases = cases_of(sys.modules[__name__])
    if os.geteuid() != 0:
        print("skipped: article, switch_errors: only root can make network namespaces")
        run({n: f for n, f in cases.items() if n not in ("article", "switch_errors")})
    if "KHYVE_NETNS" not in os.environ:
        os.environ["KHYVE_NETNS"] = "1"
        os.execvp("unshare", ["unshare", "-n", "-m", sys.executable, *sys.argv])
    for command in (["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "none", "/run"],
                    ["mount", "-t", "sysfs", "none", "/sys"], ["ip", "link", "set", "lo", "up"]):
        subprocess.run(command, check=True)
    run(cases)


if __name__ == "__main__":
    main()
