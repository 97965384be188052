# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""A guest's network card and a small IP stack, on the socket that khyve would be connected to."""
import ipaddress
import os
import select
import socket
import struct
import time

BROADCAST = b"\xff" * 6
IP4, ARP, IP6 = 0x0800, 0x0806, 0x86DD
ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


# Machines that are busy with other things may multiply every time limit.
PATIENCE = float(os.environ.get("KHYVE_PATIENCE", "1"))


class Timeout(Exception):
    pass


def checksum(data):
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pack(address):
    return ipaddress.ip_address(address).packed


class Packet:
    """What a frame that came turned out to be."""

    def __init__(self, frame):
        self.frame, self.proto, self.src, self.dst, self.payload = frame, None, None, None, b""
        self.type = struct.unpack(">H", frame[12:14])[0]
        body = frame[14:]
        if self.type == IP4:
            length = struct.unpack(">H", body[2:4])[0]
            head = (body[0] & 15) * 4
            assert checksum(body[:head]) == 0, "IPv4 checksum"
            self.offset = struct.unpack(">H", body[6:8])[0]
            self.id = body[4:6]
            self.proto, self.src, self.dst, self.payload = body[9], body[12:16], body[16:20], body[head:length]
        elif self.type == IP6:
            length = struct.unpack(">H", body[4:6])[0]
            self.offset = 0
            self.proto, self.src, self.dst, self.payload = body[6], body[8:24], body[24:40], body[40:40 + length]
        if self.proto in (TCP, UDP, ICMP6) and not self.offset & 0x3FFF:
            assert checksum(pseudo(self.src, self.dst, self.proto, self.payload) + self.payload) == 0, "checksum"


def pseudo(src, dst, proto, payload):
    if len(src) == 4:
        return src + dst + struct.pack(">BBH", 0, proto, len(payload))
    return src + dst + struct.pack(">IBBBB", len(payload), 0, 0, 0, proto)


class Guest:
    def __init__(self, path, mac="52:54:00:12:34:56"):
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.ip4, self.ip6 = b"\0" * 4, b"\0" * 16
        self.link_local = pack("fe80::5054:ff:fe12:3456")
        self.router_mac = BROADCAST
        self.router6_mac = b"\x33\x33\0\0\0\1"
        self.connections, self.listeners = {}, {}
        self.received, self.port, self.ident = [], 40000, 1
        self.connect(path)

    def connect(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(5)
        end = time.monotonic() + 10
        while True:
            try:
                self.sock.connect(path)
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def close(self):
        self.sock.close()

    # --- frames out

    def send(self, frame):
        self.sock.send(frame)

    def send_ip(self, dst, proto, payload, src=None, ttl=64):
        dst = pack(dst) if isinstance(dst, str) else dst
        if len(dst) == 4:
            src = src if src is not None else self.ip4
            self.ident = self.ident + 1 & 0xFFFF
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), self.ident, 0, ttl, proto, 0) + src + dst
            head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
            to = BROADCAST if dst == b"\xff" * 4 else self.router_mac
            self.send(to + self.mac + struct.pack(">H", IP4) + head + payload)
        else:
            src = src if src is not None else self.ip6
            head = struct.pack(">IHBB", 0x60000000, len(payload), proto, 255 if proto == ICMP6 else ttl) + src + dst
            to = b"\x33\x33" + dst[12:] if dst[0] == 0xFF else self.router6_mac
            self.send(to + self.mac + struct.pack(">H", IP6) + head + payload)

    def with_sum(self, src, dst, proto, payload, at):
        value = checksum(pseudo(src, dst, proto, payload) + payload)
        return payload[:at] + struct.pack(">H", value or (0xFFFF if proto == UDP else 0)) + payload[at + 2:]

    def own(self, dst):
        return self.ip4 if len(dst) == 4 else self.ip6

    def send_udp(self, dst, sport, dport, data, src=None):
        dst = pack(dst)
        src = src if src is not None else self.own(dst)
        body = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
        self.send_ip(dst, UDP, self.with_sum(src, dst, UDP, body, 6), src)

    def send_icmp6(self, dst, body, src=None):
        dst = pack(dst) if isinstance(dst, str) else dst
        src = src if src is not None else self.link_local
        self.send_ip(dst, ICMP6, self.with_sum(src, dst, ICMP6, body, 2), src)

    # --- frames in

    def receive(self, timeout):
        """One frame, answered where a stack answers by itself; None: nothing came."""
        if not select.select([self.sock], [], [], max(timeout, 0))[0]:
            return None
        frame = self.sock.recv(70000)
        if not frame:
            raise ConnectionError("khyve-net closed the connection")
        p = Packet(frame)
        if p.type == ARP:
            self.on_arp(frame)
        elif p.proto == ICMP6 and p.payload[0] == 135:
            self.on_solicitation(p)
        elif p.proto == TCP:
            self.on_tcp(p)
        self.received.append(p)
        del self.received[:-256]
        return p

    def on_arp(self, frame):
        op, sender_mac, sender, target = struct.unpack(">H6s4s6x4s", frame[20:42])
        if op == 1 and target == self.ip4 and self.ip4 != b"\0" * 4:
            answer = struct.pack(">HHBBH", 1, IP4, 6, 4, 2) + self.mac + self.ip4 + sender_mac + sender
            self.send(sender_mac + self.mac + struct.pack(">H", ARP) + answer)

    def on_solicitation(self, p):
        target = p.payload[8:24]
        if target in (self.ip6, self.link_local):
            body = struct.pack(">BBHI", 136, 0, 0, 0x60000000) + target + b"\2\1" + self.mac
            self.send_icmp6(p.src, body, target)

    def wait(self, what, timeout=5):
        """The first packet for which what() is true."""
        end = time.monotonic() + timeout * PATIENCE
        while time.monotonic() < end:
            p = self.receive(end - time.monotonic())
            if p is not None and what(p):
                return p
        raise Timeout("no such packet came")

    def silence(self, what, seconds):
        try:
            self.wait(what, seconds)
        except Timeout:
            return True
        return False

    # --- protocols

    def arp(self, address="10.0.2.2"):
        request = struct.pack(">HHBBH", 1, IP4, 6, 4, 1) + self.mac + self.ip4 + b"\0" * 6 + pack(address)
        self.send(BROADCAST + self.mac + struct.pack(">H", ARP) + request)
        p = self.wait(lambda p: p.type == ARP and p.frame[20:22] == b"\0\2" and p.frame[28:32] == pack(address))
        self.router_mac = p.frame[22:28]
        return self.router_mac

    def dhcp_message(self, kind, options):
        head = struct.pack(">BBBBIHH", 1, 1, 6, 0, 0x12345678, 0, 0x8000) + b"\0" * 16
        head += self.mac + b"\0" * 10 + b"\0" * 192 + b"\x63\x82\x53\x63"
        self.send_udp("255.255.255.255", 68, 67, head + b"\x35\1" + bytes([kind]) + options + b"\xff", b"\0" * 4)
        p = self.wait(lambda p: p.proto == UDP and p.payload[2:4] == b"\0\x44")
        body, options, at = p.payload[8:], {}, 240
        while at < len(body) and body[at] != 255:
            if body[at]:
                options[body[at]] = body[at + 2:at + 2 + body[at + 1]]
            at += 2 + body[at + 1] if body[at] else 1
        return body[16:20], options

    def dhcp(self):
        """Takes a lease; returns its options."""
        address, offer = self.dhcp_message(1, b"")
        address, options = self.dhcp_message(3, b"\x32\4" + address + b"\x36\4" + offer[54])
        assert options[53] == b"\5", "no acknowledgement"
        self.ip4 = address
        self.arp()
        return options

    def solicit_router(self):
        """Takes an address from a router advertisement."""
        self.send_icmp6("ff02::2", struct.pack(">BBHI", 133, 0, 0, 0) + b"\1\1" + self.mac)
        p = self.wait(lambda p: p.proto == ICMP6 and p.payload[0] == 134)
        self.router6_mac, at = p.frame[6:12], 16
        while at < len(p.payload):
            kind, size = p.payload[at], p.payload[at + 1] * 8
            if kind == 3:
                assert p.payload[at + 2] == 64, "not a prefix of 64 bits"
                self.ip6 = p.payload[at + 16:at + 24] + self.link_local[8:]
            at += size
        return p

    def ping(self, address, data=b"khyve", timeout=5):
        address = pack(address)
        if len(address) == 16:
            self.send_icmp6(address, struct.pack(">BBHHH", 128, 0, 0, 77, 1) + data, self.ip6)
            return self.wait(lambda p: p.proto == ICMP6 and p.payload[0] == 129 and p.src == address, timeout)
        body = struct.pack(">BBHHH", 8, 0, 0, 77, 1) + data
        self.send_ip(address, ICMP, body[:2] + struct.pack(">H", checksum(body)) + body[4:])
        return self.wait(lambda p: p.proto == ICMP and p.payload[0] == 0 and p.src == address, timeout)

    def ask_udp(self, address, port, data, timeout=5):
        self.port += 1
        sport = self.port
        self.send_udp(address, sport, port, data)
        p = self.wait(lambda p: p.proto == UDP and p.src == pack(address) and
                      p.payload[:4] == struct.pack(">HH", port, sport), timeout)
        return p.payload[8:]

    def connect_tcp(self, address, port, timeout=5):
        self.port += 1
        c = Connection(self, pack(address), self.port, port)
        c.transmit(SYN)
        c.run_until(lambda: c.open or c.reset, timeout)
        return c

    def listen(self, port, on_accept):
        self.listeners[port] = on_accept

    def on_tcp(self, p):
        sport, dport = struct.unpack(">HH", p.payload[:4])
        key = (p.src, dport, sport)
        c = self.connections.get(key)
        if c is None and dport in self.listeners and p.payload[13] & (SYN | ACK) == SYN:
            c = Connection(self, p.src, dport, sport, p.dst)
            c.passive = True
            c.on_segment(p.payload)
            self.listeners[dport](c)
        elif c is None and not p.payload[13] & RST:
            seq, ack = struct.unpack(">II", p.payload[4:12])
            head = struct.pack(">HHIIBBHHH", dport, sport, ack, seq + 1 & 0xFFFFFFFF, 0x50, RST | ACK, 0, 0, 0)
            self.send_ip(p.src, TCP, self.with_sum(p.dst, p.src, TCP, head, 16), p.dst)
        elif c is not None:
            c.on_segment(p.payload)


class Connection:
    """TCP as plain as it can be: no options but MSS, go-back-N."""
    WINDOW, RETRY = 65535, 0.3

    def __init__(self, guest, peer, sport, dport, own=None):
        self.guest, self.peer, self.sport, self.dport = guest, peer, sport, dport
        self.own = own or guest.own(peer)
        self.una = self.next = self.iss = 1000
        self.rcv = self.peer_window = 0
        self.mss = 1460 if len(peer) == 4 else 1440
        self.open = self.reset = self.fin_got = self.fin_sent = self.passive = False
        self.out, self.data, self.acked_at, self.due = b"", bytearray(), time.monotonic(), 0
        guest.connections[(peer, sport, dport)] = self

    def transmit(self, flags, seq=None, data=b"", urgent=0):
        seq = self.next if seq is None else seq
        options = struct.pack(">BBH", 2, 4, self.mss) if flags & SYN else b""
        head = struct.pack(">HHIIBBHHH", self.sport, self.dport, seq & 0xFFFFFFFF, self.rcv & 0xFFFFFFFF,
                           (20 + len(options)) // 4 << 4, flags, self.WINDOW, 0, urgent) + options + data
        self.guest.send_ip(self.peer, TCP, self.guest.with_sum(self.own, self.peer, TCP, head, 16), self.own)

    def on_segment(self, segment):
        seq, ack, offset, flags, window = struct.unpack(">IIBBH", segment[4:16])
        data = segment[(offset >> 4) * 4:]
        if flags & RST:
            self.reset = True
            return
        if flags & SYN:
            self.rcv = seq + 1
            if self.passive:
                self.transmit(SYN | ACK, self.iss)
            self.next = self.iss + 1
            if not self.passive:
                self.una, self.open = self.next, True
                self.transmit(ACK)
        self.peer_window = window
        if flags & ACK and self.una < ack <= self.iss + 1 + len(self.out) + 1:
            self.una, self.acked_at = ack, time.monotonic()
            self.next = max(self.next, ack)
            self.open = True
        if seq == self.rcv & 0xFFFFFFFF:
            self.data += data
            self.rcv += len(data)
            if flags & FIN:
                self.fin_got = True
                self.rcv += 1
        if data or flags & FIN:
            self.due += 1
            if self.due >= 2 or flags & (FIN | PSH):
                self.due = 0
                self.transmit(ACK)

    def run_until(self, done, timeout=20):
        end = time.monotonic() + timeout * PATIENCE
        while not done():
            if time.monotonic() > end:
                raise Timeout("TCP does not get on")
            self.push()
            if self.guest.receive(0.05) is None and self.due:
                self.due = 0
                self.transmit(ACK)

    def push(self):
        """Sends what the window allows; from the last acknowledged byte again if nothing moves."""
        if not self.open:
            return
        if self.next > self.una and time.monotonic() - self.acked_at > self.RETRY:
            self.next, self.acked_at = self.una, time.monotonic()
        limit = self.una + min(self.peer_window, 20 * self.mss)
        while True:
            at = self.next - self.iss - 1
            size = min(self.mss, len(self.out) - at, limit - self.next)
            if size <= 0:
                return
            self.transmit(ACK | PSH, data=self.out[at:at + size])
            self.next += size

    def send(self, data, timeout=20):
        self.acked_at = time.monotonic()
        self.out += data
        self.run_until(lambda: self.una - self.iss - 1 >= len(self.out) or self.reset, timeout)

    def receive(self, size, timeout=20):
        self.run_until(lambda: len(self.data) >= size or self.fin_got or self.reset, timeout)
        data, self.data = bytes(self.data[:size]), self.data[size:]
        return data

    def finish(self):
        self.transmit(FIN | ACK)
        self.fin_sent = True
        self.next += 1
        self.acked_at = time.monotonic() + 3600
