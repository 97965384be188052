#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""What runs inside the network namespaces of test_nat: servers and clients. The first argument says which.

  serve ADDRESS PORT [udp]      answers every connection (or packet) with the peer's address and NAME of the environment
  serve ADDRESS PORT hear       prints what UDP packets say and whom they are from
  get ADDRESS PORT [udp]        prints such an answer, or "refused", "unreachable", "nothing"
  ask SERVER NAME A|AAAA        prints the addresses that a name server says, or "none"
  spoof DEVICE MAC FROM TO PORT TEXT
                                sends a UDP packet with any addresses as a frame to that MAC address
"""
import contextlib
import errno
import os
import socket
import struct
import sys

PATIENCE = float(os.environ.get("KHYVE_PATIENCE", "1"))


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address, port, udp=""):
    s = socket.socket(family(address), socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, int(port)))
    name = os.environ.get("NAME", "")
    if not udp:
        s.listen(16)
    print("ready", flush=True)
    while True:
        if udp:
            text, peer = s.recvfrom(100)
            if udp == "hear":
                print(f"{text.decode().strip()} from {peer[0]}", flush=True)
            else:
                s.sendto(f"{peer[0]} {name}".encode(), peer)
        else:
            c, peer = s.accept()
            with contextlib.suppress(OSError):
                c.sendall(f"{peer[0]} {name}".encode())
            c.close()


def get(address, port, udp=False):
    s = socket.socket(family(address), socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    s.settimeout(2 * PATIENCE)
    try:
        s.connect((address, int(port)))
        if udp:
            s.send(b"?")
        return s.recv(200).decode() or "nothing"
    except ConnectionRefusedError:
        return "refused"
    except (TimeoutError, ConnectionResetError):
        return "nothing"
    except OSError as e:
        if e.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES):
            return "unreachable"
        raise


def skip_name(packet, at):
    while packet[at]:
        if packet[at] >= 0xc0:
            return at + 2
        at += 1 + packet[at]
    return at + 1


def ask(server, name, kind):
    """One question by UDP (RFC 1035 s4)."""
    number = {"A": 1, "AAAA": 28}[kind]
    query = struct.pack(">HHHHHH", 4711, 0x100, 1, 0, 0, 0)
    query += b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    query += struct.pack(">HH", number, 1)
    s = socket.socket(family(server), socket.SOCK_DGRAM)
    s.settimeout(2 * PATIENCE)
    s.connect((server, 53))
    try:
        s.send(query)
        answer = s.recv(2000)
    except (TimeoutError, ConnectionRefusedError):
        return "nothing"
    found, at = [], skip_name(answer, 12) + 4
    for _ in range(struct.unpack(">H", answer[6:8])[0]):
        at = skip_name(answer, at)
        got, _, _, size = struct.unpack(">HHIH", answer[at:at + 10])
        if got == number:
            found.append(socket.inet_ntop(socket.AF_INET if number == 1 else socket.AF_INET6,
                                          answer[at + 10:at + 10 + size]))
        at += 10 + size
    return " ".join(found) or "none"


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def spoof(device, mac, source, target, port, text):
    data = text.encode().ljust(8)
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 1, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(target))
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    udp = struct.pack(">HHHH", 999, int(port), 8 + len(data), 0)
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    s.bind((device, 0))
    own = s.getsockname()[4]
    s.send(bytes.fromhex(mac.replace(":", "")) + own + b"\x08\x00" + head + udp + data)
    return "sent"


if __name__ == "__main__":
    print({"serve": serve, "get": get, "ask": ask, "spoof": spoof}[sys.argv[1]](*sys.argv[2:]))
