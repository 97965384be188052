#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm without running guests: words, messages, tables, files."""
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

from harness import VM, Failed, cases_of, eq, match, run, true, until

MINIMAL = 'loader="uefi"\ncpu=1\nmemory=256M\ndisk0_type="nvme"\ndisk0_name="disk0.img"\n'


def test_commands(s):
    eq(s.ok("version"), "khyve: virtual machine management v0.1.0\n")
    eq(s.ok("VERS"), "khyve: virtual machine management v0.1.0\n")
    eq(s.fails(), "vm: ERROR: no command specified; 'vm help' lists them\n")
    eq(s.fails("re"), "vm: ERROR: ambiguous command 're'\n")
    eq(s.fails("instal1"), "vm: ERROR: unknown command 'instal1' (did you mean 'install'?)\n")
    eq(s.fails("zzz"), "vm: ERROR: unknown command 'zzz'; 'vm help' lists them\n")
    eq(s.fails(""), "vm: ERROR: unknown command ''; 'vm help' lists them\n")
    match(s.ok("help"), r"(?s)^Usage:\n    vm init\n.*    vm start \[-fi\] .*NAME\.\.\.\n")
    eq(s.ok("help", "destroy"), "Usage:\n    vm destroy [-f] NAME\n    vm destroy NAME@SNAPSHOT\n\nOptions:\n"
       "    -f  do not ask, and remove it for good: it does not go to the trash\n    --dry-run  say what would be done, and do nothing\n")
    eq(s.ok("destroy", "-h"), s.ok("help", "destroy"))
    eq(s.ok("destroy", "--help"), s.ok("help", "destroy"))


def test_missing_arguments_fail(s):
    s.ok("init")
    for words in ("start", "stop", "restart", "reset", "poweroff", "destroy", "create", "add",
                  "configure", "console", "install", "install guest", "add -d disk guest"):
        r = s.vm(*words.split(), status=2)
        eq(r.out, "", words)
        match(r.err, r"^Usage:\n    vm ")
    match(s.fails("start", "-x", "guest", status=2), r"^vm: ERROR: Illegal option -x\nUsage:")
    match(s.fails("list", "-x", status=2), r"^vm: ERROR: Illegal option -x\nUsage:")
    match(s.fails("create", "-t", status=2), r"^vm: ERROR: option -t needs a value\nUsage:")


def test_init(s):
    eq(s.fails("list"), f"vm: ERROR: {s.dir} is not a valid directory; 'vm init' makes it\n")
    eq(s.fails("create", "guest"), f"vm: ERROR: {s.dir} is not a valid directory; 'vm init' makes it\n")
    eq(s.ok("init"), "")
    eq(sorted(os.listdir(s.dir)), [".config", ".img", ".iso", ".templates", ".trash"])
    eq(sorted(os.listdir(s.path(".config"))), ["null.iso", "switches"])
    eq(os.listdir(s.path(".templates")), ["default.conf"])
    s.write(s.path(".templates", "default.conf"), "mine\n")
    s.ok("init")
    eq(s.read(s.path(".templates", "default.conf")), "mine\n", "init overwrites a template")
    shutil.rmtree(s.path(".iso"))
    s.ok("iso")
    true(os.path.isdir(s.path(".iso")), "a missing folder is made again")


def test_config(s):
    del s.env["VM_DIR"]
    other = os.path.join(s.top, "other")
    s.write(s.conf, f'# comment\nvm_dir="{other}/"\nvm_list="bb aa"\n')
    s.ok("init")
    true(os.path.isdir(other), "vm_dir is used")
    s.env["VM_DIR"] = s.dir
    s.ok("init")
    true(os.path.isdir(s.dir), "VM_DIR overrides vm_dir")
    del s.env["VM_DIR"]
    s.write(s.conf, 'x=1\nvm_dir="zfs:pool/vm"\n')
    eq(s.fails("list"), f"vm: ERROR: {s.conf}:2: 'zfs:pool/vm': ZFS datasets are not supported yet; "
       "give the dataset's mount point\n")
    s.write(s.conf, 'vm_dir="vm"\n')
    eq(s.fails("list"), f"vm: ERROR: {s.conf}:1: 'vm' is not an absolute path\n")
    s.write(s.conf, f'vm_dir="{s.dir}"\nvm_delay="soon"\n')
    eq(s.fails("list"), f"vm: ERROR: {s.conf}:2: vm_delay: 'soon' is not a number of seconds\n")
    s.write(s.conf, f'vm_dir="{s.dir}"\nvm_enable="NO"\n')
    eq(s.fails("list"), f"vm: ERROR: $vm_enable is not enabled in {s.conf}!\n")
    os.unlink(s.conf)
    match(s.fails("list"), "cannot read .*khyve.conf: No such file")


def test_names(s):
    s.ok("init")
    for name in ("a", "-ab", "ab-", "a b", "a/b", "..", ".ab", "x" * 232, "a\nb", "a;b", "$(x)"):
        match(s.fails("create", "--", name), r"^vm: ERROR: invalid virtual machine name - '")
    for name in ("ab", "x" * 231, "A.b-c_9"):
        s.ok("create", "-s", "1M", name)
    match(s.fails("start", "-n", "../vm"), "doesn't appear to be a valid virtual machine")


def test_create_from_the_articles_template(s):
    s.ok("init")
    template = ('loader="uefi"\ngraphics="yes"\ncpu=2\nmemory=4G\ndisk0_type="nvme"\n'
                'disk0_name="disk0.img"\ndisk0_dev="file"\ngraphics_listen="[::]"\n'
                'graphics_res="1024x768"\nxhci_mouse="yes"\nutctime="no"\nvirt_random="yes"\n')
    s.write(s.path(".templates", "windows-uefi.conf"), template)
    eq(s.ok("create", "-t", "windows-uefi", "-s", "100G", "windows-guest"), "")
    text = s.read(s.path("windows-guest", "windows-guest.conf"))
    uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    m = re.fullmatch(re.escape(template) + rf'uuid="{uuid}"\nnetwork0_mac="(58:9c:fc:0.:..:..)"\n', text)
    true(m, text)
    eq(sorted(os.listdir(s.path("windows-guest"))), ["disk0.img", "vm-bhyve.log", "windows-guest.conf"])
    st = os.stat(s.path("windows-guest", "disk0.img"))
    eq((st.st_size, st.st_blocks, stat.S_IMODE(st.st_mode)), (107374182400, 0, 0o600))
    match(s.read(s.path("windows-guest", "vm-bhyve.log")),
          rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00: generated static mac {m.group(1)}\n$")
    eq(stat.S_IMODE(os.stat(s.path("windows-guest")).st_mode), 0o700)
    eq(stat.S_IMODE(os.stat(s.path("windows-guest", "windows-guest.conf")).st_mode), 0o600)
    eq(os.listdir(s.path(".trash")), [])


def test_create_options(s):
    s.ok("init")
    s.write(s.path(".templates", "two.conf"),
            'cpu="1" # one\nmemory=1G\ndisk0_type="nvme"\ndisk0_name="a.img"\ndisk0_size="3G"\n'
            'disk1_type="nvme"\ndisk1_name="b.img"\ndisk1_size="2G"\ndisk2_type="nvme"\n'
            'disk2_name="c.img"\ndisk3_name="/dev/zero"\ndisk3_dev="custom"\n')
    s.ok("create", "-t", "two", "-c", "4", "-m", "2G", "guest")
    text = s.read(s.path("guest", "guest.conf"))
    match(text, '^cpu="4" # one\nmemory="2G"\n')
    true("_size" not in text, text)
    eq([os.path.getsize(s.path("guest", f"{n}.img")) >> 30 for n in "abc"], [3, 2, 20])
    s.ok("create", "-t", "two", "-s", "5G", "other")
    eq(os.path.getsize(s.path("other", "a.img")) >> 30, 5)


def test_create_errors(s):
    s.ok("init")
    s.ok("create", "-s", "1M", "guest")
    eq(s.fails("create", "guest"), f"vm: ERROR: virtual machine already exists in {s.path('guest')}\n")
    match(s.fails("create", "-t", "none", "other"),
          f"^vm: ERROR: unable to find template {s.path('.templates/none.conf')}; ")
    eq(s.fails("create", "-t", "../x", "other"), "vm: ERROR: invalid template name - '../x'\n")
    eq(s.fails("create", "-d", "fast", "other"), "vm: ERROR: unable to load datastore - 'fast'\n")
    eq(s.fails("create", "-s", "10Q", "other"),
       "vm: ERROR: invalid disk size - '10Q': give a size such as 20G\n")
    eq(s.fails("create", "-c", "0", "other"), "vm: ERROR: invalid number of cpus - '0'\n")
    eq(s.fails("create", "-m", "lots", "other"),
       "vm: ERROR: invalid memory size - 'lots': give a size such as 2G\n")
    s.write(s.path(".templates", "bare.conf"), "cpu=1\n")
    match(s.fails("create", "-t", "bare", "other"), "template is missing disk0_name specification")
    s.write(s.path(".templates", "out.conf"), 'disk0_name="../x.img"\n')
    match(s.fails("create", "-t", "out", "other"), "disk0_name: '../x.img' is not a file name")
    s.write(s.path(".templates", "zvol.conf"), 'disk0_name="disk0"\ndisk0_dev="zvol"\n')
    match(s.fails("create", "-t", "zvol", "other"), "disk0_dev: 'zvol' is not supported")
    eq(sorted(f for f in os.listdir(s.dir) if f[0] != "."), ["guest"], "a failure leaves nothing")
    eq(os.listdir(s.path(".trash")), [])


def test_create_in_parallel(s):
    s.ok("init")
    ps = [s.popen("create", "-s", "1M", "guest", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
          for _ in range(16)]
    eq(sorted(p.wait() for p in ps), [0] + [4] * 15)
    eq(os.listdir(s.path(".trash")), [])
    eq(sorted(os.listdir(s.path("guest"))), ["disk0.img", "guest.conf", "vm-bhyve.log"])


def test_shipped_templates(s):
    s.ok("init")
    for name in ("default", "linux-uefi", "windows-uefi"):
        s.ok("create", "-t", name, "-s", "1M", name)
        r = s.vm("start", "-n", name, status=0)
        true("is open to everybody" not in r.err, r.err)
        true("unknown key" not in r.err, r.err)
        true("fbuf" not in r.out or "tcp=127.0.0.1:" in r.out, r.out)


def test_list(s):
    s.ok("init")
    eq(s.ok("list"), "NAME  DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE  TAGS\n")
    s.write(s.conf, 'vm_list="web linux-guest"\n')
    s.guest("linux-guest", MINIMAL + 'tags="prod web"\n')
    s.guest("db", "cpu=16\n")
    os.makedirs(s.path("images"))
    os.makedirs(s.path("broken", "broken.conf"))
    eq(s.ok("list"),
       "NAME         DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO     STATE    TAGS\n"
       "broken       default    none    -    -       -    No       Stopped  -\n"
       "db           default    none    16   -       -    No       Stopped  -\n"
       "linux-guest  default    uefi    1    256M    -    Yes [2]  Stopped  prod,web\n")
    eq(s.ok("li", "-v").splitlines()[2],
       "db           default    none    16   -       -    No           -         -               -"
       "  Stopped  -")
    eq(s.ok("list", "-v").splitlines()[0],
       "NAME         DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO      %CPU       RSZ          UPTIME"
       "  STATE    TAGS")
    eq(s.ok("list", "-r"), "NAME  DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE  TAGS\n")
    rows = json.loads(s.ok("list", "--json"))
    eq(rows["version"], 1)
    eq(rows["guests"][2], {"name": "linux-guest", "datastore": "default", "loader": "uefi", "cpu": 1,
                           "memory": 268435456, "vnc": None, "autostart": 2, "state": "stopped",
                           "pid": None, "paused": None, "host": None, "tags": ["prod", "web"]})


def test_list_is_quick(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    for n in range(1000):
        os.mkdir(s.path(f"guest{n:04}"))
        s.write(s.path(f"guest{n:04}", f"guest{n:04}.conf"), MINIMAL)
    best = min(_time(s) for _ in range(5))
    print(f"   1001 guests listed in {best * 1000:.0f} ms")
    eq(len(s.ok("list").splitlines()), 1002)
    true(best < 1, "vm list of 1001 guests takes longer than a second")


def test_system_calls(s):
    """What commands ask of the kernel: times depend on the machine, these do not."""
    s.ok("init")
    for n in range(100):
        os.mkdir(s.path(f"guest{n:02}"))
        s.write(s.path(f"guest{n:02}", f"guest{n:02}.conf"), MINIMAL)
    base = _calls(s, "version").count("\n")
    true(base < 130, f"vm version: {base} system calls; which library is that heavy?")
    listed = _calls(s, "list").count("\n")
    true(listed < base + 100 * 9 + 50, f"vm list of 100 guests: {listed} system calls")
    made = _calls(s, "create", "-s", "1G", "made")
    eq(len(re.findall(r"\b(?:fsync|fdatasync|syncfs|sync)\(", made)), 1, "vm create waits once for the disk")


def _calls(s, *args):
    r = subprocess.run(["strace", VM, *args], env=s.env, cwd=s.top, capture_output=True, text=True, check=True)
    return r.stderr


def _time(s):
    start = time.time()
    s.ok("list")
    return time.time() - start


def test_info(s):
    s.ok("init")
    s.guest("guest", MINIMAL + 'uuid="u-u"\ncpu_sockets=1\ncpu_cores=1\nnetwork0_type="virtio-net"\n'
            'network0_switch="public"\ndisk0_opts="nocache"\n', size="20G")
    want = f"""------------------------
Virtual Machine: guest
------------------------
  state: stopped
  datastore: default
  loader: uefi
  uuid: u-u
  cpu: 1
  cpu-topology: sockets=1, cores=1
  memory: 256M

  network-interface
    number: 0
    emulation: virtio-net
    virtual-switch: public
    fixed-mac-address: -
    fixed-device: -

  virtual-disk
    number: 0
    device-type: file
    emulation: nvme
    options: nocache
    system-path: {s.path("guest/disk0.img")}
    bytes-size: 21474836480 (20.000G)
    bytes-used: 0 (0.000B)

"""
    eq(s.ok("info", "guest"), want)
    eq(s.ok("info"), want)
    r = s.vm("info", "guest", "none", status=1)
    eq(r.err, "vm: ERROR: unable to locate virtual machine 'none'\n")
    disk = json.loads(s.ok("info", "--json", "guest"))["guests"][0]["virtual-disks"][0]
    eq(disk["bytes-size"], 21474836480)


def test_add_disk(s):
    s.ok("init")
    s.guest("guest", MINIMAL + "# end")
    eq(s.ok("add", "-d", "disk", "-s", "2G", "guest"), "")
    eq(s.read(s.path("guest/guest.conf")), MINIMAL + '# end\ndisk1_name="disk1.img"\n'
       'disk1_type="nvme"\ndisk1_dev="file"\n')
    st = os.stat(s.path("guest/disk1.img"))
    eq((st.st_size, stat.S_IMODE(st.st_mode)), (2 << 30, 0o600))
    # A disk whose lines are gone is still somebody's data.
    s.write(s.path("guest/guest.conf"), MINIMAL)
    s.ok("add", "-d", "disk", "-s", "1G", "guest")
    match(s.read(s.path("guest/guest.conf")), 'disk1_name="disk2.img"')
    eq(os.path.getsize(s.path("guest/disk1.img")), 2 << 30)
    match(s.fails("add", "-d", "disk", "-s", "1", "guest"), "invalid disk size - '1'")
    eq(s.fails("add", "-d", "tape", "-s", "1G", "guest"),
       "vm: ERROR: device must be one of the following: disk network\n")
    eq(s.fails("add", "-d", "disk", "-t", "zvol", "-s", "1G", "guest"),
       "vm: ERROR: device type must be one of the following: file\n")
    eq(s.fails("add", "-d", "disk", "-s", "1G", "none"),
       "vm: ERROR: none doesn't appear to be a valid virtual machine\n")
    s.write(s.path("guest/guest.conf"), "cpu=1\n")
    match(s.fails("add", "-d", "disk", "-s", "1G", "guest"),
          "failed to get emulation type of the existing guest disks")


def test_add_in_parallel(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    ps = [s.popen("add", "-d", "disk", "-s", "1M", "guest") for _ in range(12)]
    eq([p.wait() for p in ps], [0] * 12)
    names = re.findall(r'disk\d+_name="?(disk\d+\.img)', s.read(s.path("guest/guest.conf")))
    eq(sorted(names), sorted(f"disk{n}.img" for n in range(13)), "an edit is lost")


def test_add_network(s):
    s.ok("init")
    s.guest("guest", MINIMAL + 'network0_type="e1000"\n')
    s.ok("add", "-d", "network", "-s", "public", "guest")
    match(s.read(s.path("guest/guest.conf")), 'network1_type="e1000"\nnetwork1_switch="public"\n$')
    s.ok("add", "-d", "network", "-s", "user", "guest")
    eq(s.fails("remove", "-d", "network", "3", "guest"),
       "vm: ERROR: guest has no network interface 3; 'vm info guest' shows them\n")
    s.ok("remove", "-d", "network", "1", "guest")
    match(s.read(s.path("guest/guest.conf")), 'network2_type="e1000"\nnetwork2_switch="user"\nnetwork1_type="none"\n$')
    out = s.ok("start", "-n", "guest")
    eq(re.findall(r"pci.0.1[2-9].0.(?:device|backend)=.*", out),
       ["pci.0.12.0.backend=socket:net0.sock", "pci.0.12.0.device=e1000",
        "pci.0.14.0.backend=socket:net2.sock", "pci.0.14.0.device=e1000"])
    s.ok("add", "-d", "network", "-s", "public", "guest")
    match(s.read(s.path("guest/guest.conf")), 'network1_type="e1000"\nnetwork1_switch="public"\n$')
    s.ok("remove", "-d", "network", "1", "guest")
    s.ok("remove", "-d", "network", "2", "guest")
    eq(re.findall("network.*", s.read(s.path("guest/guest.conf"))), ['network0_type="e1000"'])
    for _ in range(7):
        s.ok("add", "-d", "network", "-s", "public", "guest")
    match(s.fails("add", "-d", "network", "-s", "public", "guest"), "at most 8 network interfaces")


def _config(s, extra, base=MINIMAL):
    s.write(s.path("guest/guest.conf"), base + extra)
    lines = s.ok("start", "-n", "guest").splitlines()
    eq(lines[0], f"# khyve runs in {s.path('guest')}")
    return dict(line.split("=", 1) for line in lines[1:] if line[0] != "#")


def test_compile(s):
    s.ok("init")
    s.guest("guest")
    base = {"name": "guest", "cpus": "1", "memory.size": "256M", "rtc.use_localtime": "false",
            "x86.strictmsr": "false", "control.path": "control.sock",
            "lpc.com1.path": "unix:com1.sock", "pci.0.0.0.device": "hostbridge",
            "pci.0.31.0.device": "lpc", "pci.0.4.0.device": "nvme",
            "pci.0.4.0.path": s.path("guest/disk0.img"), "bootvars": s.path("guest/uefi-vars.fd")}
    got = _config(s, "")
    match(got.pop("bootrom"), r"^/usr/share/.*\.fd$")
    eq(got, base)
    got = _config(s, 'graphics="yes"\ngraphics_port=7000\ngraphics_listen="[::]"\n'
                  'graphics_res="1024x768"\nxhci_mouse="yes"\nutctime="no"\nvirt_random="yes"\n'
                  'uuid="u-1"\ncomports="com2 com1"\nloader_timeout=1\nwired_memory="yes"\n'
                  'cpu_sockets=1\ncpu_cores=1\ncpu_threads=1\ngraphics_wait="yes"\n'
                  'vnc_password="secret"\n')
    del got["bootrom"]
    eq(got, base | {
        "boot.wait": "1", "uuid": "u-1", "rtc.use_localtime": "true", "memory.wired": "true", "sockets": "1",
        "cores": "1", "threads": "1", "lpc.com2.path": "unix:com2.sock",
        "pci.0.24.0.device": "virtio-rnd", "pci.0.25.0.device": "fbuf",
        "pci.0.26.0.device": "xhci", "pci.0.26.0.slot.1.device": "tablet",
        "pci.0.25.0.tcp": "[::]:7000", "pci.0.25.0.w": "1024", "pci.0.25.0.h": "768",
        "pci.0.25.0.wait": "true", "pci.0.25.0.password_file": "vnc.password"})


def test_compile_boot_wait(s):
    s.ok("init")
    s.guest("guest")
    for value, want in {"": None, "0": "0", "3": "3", "65": "65", "600": "65", "-1": "65"}.items():
        eq(_config(s, f'loader_timeout="{value}"\n').get("boot.wait"), want, value)


def test_compile_disks(s):
    s.ok("init")
    s.guest("guest")
    base = 'loader="linux"\nkernel="k"\ncpu=1\nmemory=300\n'
    s.write(s.path("guest/k"), "")
    s.write(s.path("guest/50%(x).img"), "")
    got = _config(s, 'disk0_type="virtio-blk"\ndisk0_name="disk0.img"\ndisk0_opts="nocache,sectorsize=512/4096"\n'
                  'disk1_type="ahci-hd"\ndisk1_name="/dev/zero"\ndisk1_dev="custom"\n'
                  'disk2_type="ahci-cd"\ndisk2_name="50%(x).img"\ndisk2_opts=ro\n', base)
    pci = {k[6:]: v for k, v in got.items() if k.startswith("pci.0.") and k[6] in "456"}
    eq(pci, {"4.0.device": "virtio-blk", "4.0.path": s.path("guest/disk0.img"),
             "4.0.nocache": "true", "4.0.sectorsize": "512/4096",
             "5.0.device": "ahci", "5.0.port.0.type": "hd", "5.0.port.0.path": "/dev/zero",
             "6.0.device": "ahci", "6.0.port.0.type": "cd", "6.0.port.0.ro": "true",
             "6.0.port.0.path": s.path("guest/50%%(x).img")})
    eq((got["linux.kernel"], got["memory.size"]), (s.path("guest/k"), "300M"))
    true("bootrom" not in got, "no firmware with a kernel")


def test_addresses_are_stable(s):
    s.ok("init")
    s.guest("guest")
    before = _config(s, 'virt_random=yes\ngraphics=yes\ngraphics_port=7000\n')
    more = "".join(f'disk{n}_type="nvme"\ndisk{n}_name="disk0.img"\n' for n in range(1, 20))
    after = _config(s, 'virt_random=yes\ngraphics=yes\ngraphics_port=7000\n' + more)
    eq({k: after.get(k) for k in before}, before, "adding disks renumbers something")
    eq([k for k in after if k.endswith("device") and after[k] == "nvme"][:3],
       ["pci.0.4.0.device", "pci.0.4.1.device", "pci.0.4.2.device"])
    eq(sum(v == "nvme" for v in after.values()), 20)


def test_linux_loader(s):
    s.ok("init")
    s.guest("guest")
    base = 'cpu=1\nmemory=1G\nloader="linux"\n'
    s.write(s.path("guest/initrd"), "")
    got = _config(s, 'kernel="/dev/zero"\ninitrd="initrd"\ncmdline="console=ttyS0 quiet 100%"\n', base)
    eq((got["linux.kernel"], got["linux.initrd"], got["linux.cmdline"]),
       ("/dev/zero", s.path("guest/initrd"), "console=ttyS0 quiet 100%%"))
    s.write(s.path("guest/guest.conf"), base)
    match(s.fails("start", "-n", "guest"), 'guest.conf:3: loader="linux" needs kernel="FILE"')
    s.write(s.path("guest/guest.conf"), base + 'kernel="gone"\n')
    match(s.fails("start", "-n", "guest"), "guest.conf:4: kernel: .*/guest/gone: No such file")


def test_compile_errors(s):
    s.ok("init")
    s.guest("guest")
    lines = {"cpu=0": "guest.conf:1: cpu: '0' is not a number of at least 1",
             "cpu=two": "cpu: 'two' is not a number",
             "memory=0": "memory: '0' is not a size in whole megabytes such as 512M or 4G",
             "memory=5K": "memory: '5K' is not a size",
             'loader="grub"': "loader: 'grub' does not exist on this host",
             'disk0_type="ide"': "disk0_type: 'ide' is not one of virtio-blk, nvme, ahci-hd, ahci-cd",
             'disk0_dev="zvol"': "disk0_dev: 'zvol' is not supported",
             'disk0_name="none.img"': "disk0: .*/guest/none.img: No such file or directory",
             'disk0_name="/dev/zero"': "disk0_name: '/dev/zero' is not in the guest's folder",
             'comports="com3"': "comports: 'com3' is not com1, com2",
             'comports="com1 com1"': "comports: 'com1 com1' is not",
             'graphics="yes"\ngraphics_listen="here"': "graphics_listen: 'here' is not an address",
             'graphics="yes"\ngraphics_port="99999"': "graphics_port: '99999' is not a port",
             'graphics="yes"\ngraphics_res="big"': "graphics_res: 'big' is not WIDTHxHEIGHT from 640x480",
             'graphics="yes"\ngraphics_res="100x100"': "graphics_res: '100x100'",
             'priority="high"': "priority: 'high' is not a number from -20 to 20",
             'loader_timeout="soon"': "loader_timeout: 'soon' is not a number of seconds"}
    for line, want in lines.items():
        s.write(s.path("guest/guest.conf"), line + "\n" + MINIMAL)
        match(s.fails("start", "-n", "guest"), f"incomplete virtual machine configuration: .*{want}")
        match(s.vm("start", "guest", status=1).out, f"  ! incomplete virtual machine .*{want}")
    for key in ("loader", "cpu", "memory"):
        text = "".join(line + "\n" for line in MINIMAL.splitlines() if not line.startswith(key))
        s.write(s.path("guest/guest.conf"), text)
        match(s.fails("start", "-n", "guest"), f"{key} is not set")
    eq(s.run_files(), [], "a refused start leaves something")


def test_warnings(s):
    s.ok("init")
    s.guest("guest", MINIMAL + 'memry=2G\nsound="yes"\n')
    conf = s.path("guest/guest.conf")
    eq(s.vm("start", "-n", "guest", status=0).err,
       f"vm: WARNING: {conf}:6: unknown key 'memry' (did you mean 'memory'?)\n"
       f"vm: WARNING: {conf}:7: 'sound' has no effect\n")
    s.write(conf, MINIMAL + 'graphics=yes\ngraphics_listen="[::]"\ngraphics_port=7001\n')
    match(s.vm("start", "-n", "guest", status=0).err,
          r"^vm: WARNING: guest: the screen on \[::\]:7001 is open to everybody who can reach this host; "
          'set vnc_password, or graphics_listen="127.0.0.1"\n$')
    for safe in ('graphics_listen="127.0.0.2"', 'graphics_listen="[::1]"', 'graphics_listen="unix:x"',
                 'vnc_password="x"\ngraphics_listen="0.0.0.0"', ""):
        s.write(conf, MINIMAL + "graphics=yes\ngraphics_port=7001\n" + safe + "\n")
        eq(s.vm("start", "-n", "guest", status=0).err, "", safe)


def test_configure(s):
    s.ok("init")
    s.guest("guest", MINIMAL)
    conf = s.path("guest/guest.conf")
    s.env["EDITOR"] = "sed -i s/cpu=1/cpus=3/"
    eq(s.vm("configure", "guest", status=0).err,
       f"vm: WARNING: {conf}:2: unknown key 'cpus' (did you mean 'cpu'?)\n")
    s.env["EDITOR"] = "false"
    s.vm("edit", "guest", status=1)
    s.env["EDITOR"] = "/nonexistent/editor"
    match(s.fails("configure", "guest"), "cannot run /nonexistent/editor: No such file.*; set EDITOR")
    # Whatever the editor leaves behind, the file stays as it was unless the editor ends well.
    before = s.read(conf)
    script = os.path.join(s.top, "editor")
    for what, status in (("truncate -s 5 $1; exit 3", 3), ("truncate -s 5 $1; kill -9 $$", 1), ("rm $1", 1)):
        s.write(script, "#!/bin/sh\n" + what + "\n")
        os.chmod(script, 0o755)
        s.env["EDITOR"] = script
        s.vm("configure", "guest", status=status)
        eq((s.read(conf), os.listdir(s.path(".trash"))), (before, []), what)
    # ^C is for the editor.
    s.write(script, "#!/bin/sh\ntrap 'echo cpu=7 > $1; exit 0' INT\ntouch ready\nwhile :; do sleep 0.02; done\n")
    p = s.popen("configure", "guest", stderr=subprocess.PIPE, process_group=0)
    until(lambda: os.path.exists(os.path.join(s.top, "ready")), "the editor runs")
    os.killpg(p.pid, signal.SIGINT)
    eq((p.communicate(timeout=60)[1], p.returncode, s.read(conf)), ("", 0, "cpu=7\n"))
    # Others do not wait for it, and what they write is not lost.
    s.write(script, f"#!/bin/sh\necho mine > $1\n{os.path.abspath(s.program)} tags add guest web || exit 9\n")
    mine = s.path(".config/guest.conf.mine")
    eq(s.fails("configure", "guest"), f"vm: ERROR: another command changed {conf} meanwhile; your text is in {mine}\n")
    eq((s.read(mine), s.read(conf)), ("mine\n", 'cpu=7\ntags="web"\n'))
    s.write(conf, MINIMAL)
    # No shell: the words are names of files.
    s.env["EDITOR"] = "touch $(id) ;"
    s.vm("configure", "guest", status=0)
    true(os.path.exists(os.path.join(s.top, "$(id)")) and os.path.exists(os.path.join(s.top, ";")),
         "EDITOR went through a shell")
    eq(s.fails("configure", "none"),
       "vm: ERROR: cannot locate configuration file for virtual machine: none\n")


def test_destroy(s):
    s.ok("init")
    s.guest("guest")
    ask = "Are you sure you want to completely remove this virtual machine (y/n)? "
    r = s.vm("destroy", "guest", stdin="", status=1)
    eq(r.out, ask + "\n")
    match(r.err, "nobody answered, so nothing was done")
    eq(s.ok("destroy", "guest", stdin="maybe\nNo\nn\n"), ask * 3)
    eq(s.state(), "Stopped")
    eq(s.ok("destroy", "guest", stdin="yes\n"), ask)
    eq(s.state(), None)
    s.guest("guest")
    eq(s.ok("destroy", "-f", "guest"), "")
    eq(sorted(os.listdir(s.dir)), [".config", ".img", ".iso", ".removed", ".templates", ".trash"])
    eq(os.listdir(s.path(".trash")), [])
    eq(s.fails("destroy", "-f", "guest"),
       "vm: ERROR: guest doesn't appear to be a valid virtual machine\n")


def test_interrupted_destroy_is_finished(s):
    s.ok("init")
    os.makedirs(s.path(".trash", "old.abc", "guest", "deep"))
    s.write(s.path(".trash", "old.abc", "guest", "disk0.img"), "x")
    os.symlink("/etc", s.path(".trash", "old.abc", "guest", "link"))
    busy = s.path(".trash", "busy.def")
    os.makedirs(busy)
    fd = os.open(busy, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    s.ok("iso")
    left = os.listdir(s.path(".trash"))
    os.close(fd)
    eq(left, ["busy.def"], "what another command works on is not a leftover")
    s.ok("iso")
    eq(os.listdir(s.path(".trash")), [])


def test_destroy_links(s):
    s.ok("init")
    s.guest("guest")
    precious = os.path.join(s.top, "precious")
    os.mkdir(precious)
    s.write(os.path.join(precious, "data"), "x")
    os.symlink(precious, s.path("guest", "link"))
    s.ok("destroy", "-f", "guest")
    eq(os.listdir(precious), ["data"])


def test_not_root(s):
    if os.geteuid() != 0:
        return
    s.become(65534)
    s.ok("init")
    s.guest("guest")
    eq(s.state(), "Stopped")
    os.chown(s.path("guest"), 0, 0)
    r = s.vm("list", status=1)
    eq(r.out, "NAME  DATASTORE  LOADER  CPU  MEMORY  VNC  AUTO  STATE  TAGS\n")
    match(r.err, "some guests in .* belong to somebody else and are not shown; run as root")
    match(s.fails("destroy", "guest"), "guest belongs to somebody else; run as root")
    del s.env["VM_DIR"]
    s.ok("init")
    true(os.path.isdir(os.path.join(s.top, ".local/share/khyve")), "the default of a person")
    s.env["VM_DIR"] = os.path.join(s.top, "roots")
    os.mkdir(s.env["VM_DIR"], 0o755)
    match(s.fails("create", "guest"), "Permission denied; run as root, or set VM_DIR to a folder of your own")
    os.chmod(s.env["VM_DIR"], 0o700)
    match(s.fails("list"), "Permission denied; run as root, or set VM_DIR to a folder of your own")


def test_output_errors(s):
    s.ok("init")
    with open("/dev/full", "w", encoding="utf-8") as full:
        p = s.popen("list", stdout=full, stderr=subprocess.PIPE)
        err = p.communicate()[1]
    eq(p.returncode, 1)
    match(err, "cannot write the output")


if not os.access(VM, os.X_OK):
    raise Failed(f"{VM} does not exist: set VM")
run(cases_of(sys.modules[__name__]))
