#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""Tests of vm iso: files, and servers that behave well and badly."""
import hashlib
import os
import pty
import subprocess
import sys

from harness import VM, Failed, cases_of, eq, match, run, true
from media_server import DATA, Server

SUM = hashlib.sha256(DATA).hexdigest()


def files(s):
    return sorted(os.listdir(s.path(".iso")))


def content(s, name):
    with open(s.path(".iso", name), "rb") as f:
        return f.read()


def test_files(s):
    s.ok("init")
    eq(s.ok("iso"), "DATASTORE           FILENAME\n")
    s.write(os.path.join(s.top, "a b.iso"), "x")
    eq(s.ok("iso", "a b.iso"), "")
    os.mkdir(s.path(".iso/folder"))
    s.write(s.path(".iso/.hidden"), "")
    eq(s.ok("iso"), "DATASTORE           FILENAME\ndefault             a b.iso\n")
    eq(content(s, "a b.iso"), b"x")
    match(s.fails("iso", "a b.iso"), "exists already; remove it first to get it again")
    match(s.fails("iso", "none.iso"), "none.iso: No such file or directory")
    match(s.fails("iso", "/tmp"), "/tmp: not a file")
    match(s.fails("iso", "file:///etc/passwd"), "only http, https and ftp can be fetched")
    match(s.fails("iso", "http://127.0.0.1:1/"), "has no file name at its end")
    s.fails("iso", "-x", status=2)


def test_local_checksum(s):
    s.ok("init")
    path = os.path.join(s.top, "a.iso")
    with open(path, "wb") as f:
        f.write(DATA)
    match(s.fails("iso", path, "0" * 64), f"a.iso is not kept: wrong checksum: the file has {SUM}")
    match(s.fails("iso", path, "abc"), "'abc' is not a checksum")
    match(s.fails("iso", path, "sha512:" + SUM), "is not a checksum")
    eq(files(s), [])
    s.ok("iso", path, "sha256:" + SUM.upper())
    eq((files(s), content(s, "a.iso")), (["a.iso"], DATA))


def test_fetch(s):
    server = Server()
    s.ok("init")
    r = s.vm("iso", server.url + "/x/My%20Disc.iso?token=1#top", SUM, status=0)
    eq((r.out, r.err), ("My Disc.iso: it has the checksum that was given\n", ""), "no progress when nobody watches")
    eq((files(s), content(s, "My Disc.iso")), (["My Disc.iso"], DATA))
    s.ok("iso", server.url + "/moved.iso", hashlib.sha512(DATA).hexdigest())
    eq(content(s, "moved.iso"), DATA)
    server.data = b""
    s.ok("iso", server.url + "/empty.iso")
    eq(content(s, "empty.iso"), b"")
    server.close()


def test_fetch_goes_on(s):
    server = Server()
    s.ok("init")
    server.cut = 300000
    s.ok("iso", server.url + "/a.iso", SUM)
    eq([r[1] for r in server.requests], [None, "bytes=300000-"], "one try goes on by itself")
    eq((files(s), content(s, "a.iso")), (["a.iso"], DATA))
    server.close()


def test_fetch_goes_on_another_day(s):
    server = Server()
    s.ok("init")
    with open(s.path(".iso/.a.iso.part"), "wb") as f:
        f.write(DATA[:5000])
    s.write(s.path(".iso/.a.iso.part.id"), '"one"')
    s.ok("iso", server.url + "/a.iso", SUM)
    eq(server.requests[0][1:], ("bytes=5000-", '"one"'))
    eq((files(s), content(s, "a.iso")), (["a.iso"], DATA))
    server.close()


def test_fetch_of_a_changed_file(s):
    server = Server()
    s.ok("init")
    for name, prepare in (("changed", lambda: setattr(server, "etag", '"two"')),
                          ("no ranges", lambda: setattr(server, "ranges", False)),
                          ("no validator", lambda: setattr(server, "etag", None))):
        with open(s.path(f".iso/.{name}.part"), "wb") as f:
            f.write(b"old" * 1000)
        s.write(s.path(f".iso/.{name}.part.id"), '"one"')
        prepare()
        s.ok("iso", server.url + "/" + name.replace(" ", "%20"), SUM)
        eq(content(s, name), DATA, name)
    eq(files(s), ["changed", "no ranges", "no validator"])
    server.close()


def test_fetch_of_too_much(s):
    server = Server()
    s.ok("init")
    with open(s.path(".iso/.a.iso.part"), "wb") as f:
        f.write(DATA + b"more")
    s.write(s.path(".iso/.a.iso.part.id"), '"one"')
    s.ok("iso", server.url + "/a.iso", SUM)
    eq((files(s), content(s, "a.iso")), (["a.iso"], DATA))
    server.close()


def test_fetch_errors(s):
    server = Server()
    s.ok("init")
    server.status = 404
    match(s.fails("iso", server.url + "/a.iso"), "cannot fetch http://127.0.0.1:.*: The requested URL "
          "returned error: 404")
    eq(files(s), [])
    server.status = None
    match(s.fails("iso", server.url + "/a.iso", "1" * 64), "a.iso is not kept: wrong checksum: ")
    eq(files(s), [])
    match(s.fails("iso", server.url + "/a.iso", "xyz"), "'xyz' is not a checksum")
    server.close()
    match(s.fails("iso", server.url + "/a.iso"), "cannot fetch .*: Failed to connect")
    eq(files(s), [])


def test_fetch_of_less_than_announced(s):
    server = Server()
    server.lie, server.etag = 10, None
    s.ok("init")
    match(s.fails("iso", server.url + "/a.iso"), "cannot fetch")
    eq(files(s), [], "half a file has no name")
    server.close()


def test_fetch_of_an_unfinished_file_is_kept(s):
    server = Server()
    s.ok("init")
    server.always = 1000
    match(s.fails("iso", server.url + "/a.iso"), "4000 bytes are kept, the same command goes on from there")
    eq(files(s), [".a.iso.part", ".a.iso.part.id"])
    eq(s.ok("iso"), "DATASTORE           FILENAME\n")
    server.always = None
    s.ok("iso", server.url + "/a.iso", SUM)
    eq((files(s), content(s, "a.iso")), (["a.iso"], DATA))
    server.close()


def test_fetch_twice_at_a_time(s):
    server = Server()
    s.ok("init")
    ps = [s.popen("iso", server.url + "/a.iso", SUM, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
          for _ in range(6)]
    statuses = sorted(p.wait() for p in ps)
    eq(statuses[0], 0, "one of them fetches it")
    # 5: another one is at it; 4: it is there already, for one that comes late.
    true(set(statuses[1:]) <= {4, 5}, f"the others: {statuses}")
    eq((files(s), content(s, "a.iso")), (["a.iso"], DATA))
    server.close()


def test_progress_on_a_terminal(s):
    server = Server()
    s.ok("init")
    master, slave = pty.openpty()
    p = s.popen("iso", server.url + "/a.iso", stdout=slave, stderr=subprocess.DEVNULL)
    p.wait(timeout=30)
    os.close(slave)
    out = os.read(master, 65536).decode()
    os.close(master)
    match(out, r"a\.iso +\[#{16}\] 100% of 1049 kB\x1b\[K\r\n$")
    server.close()


if not os.access(VM, os.X_OK):
    raise Failed(f"{VM} does not exist: set VM")
run(cases_of(sys.modules[__name__]))
