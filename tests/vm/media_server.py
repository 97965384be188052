# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the khyve authors
"""An HTTP server for the tests of downloads, which behaves well or badly as they choose."""
import contextlib
import http.server
import re
import threading
import time

DATA = bytes(range(256)) * 4096


class Server:
    """A server on a loopback port whose moods tests choose."""

    def __init__(self, data=DATA):
        self.data, self.etag, self.ranges = data, '"one"', True
        self.cut = None  # close the connection after that many bytes, once
        self.always = None  # the same, each time
        self.lie = 0  # announce that many bytes more than there are
        self.status = None
        self.beside = {}  # other files, by name; what is not there but belongs to checksums is 404
        self.slow = 0  # seconds between pieces
        self.requests = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                with contextlib.suppress(ConnectionError):
                    outer.answer(self)

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def answer(self, h):
        if not re.search(r"SUMS|\.sha\d+$", h.path):
            self.requests.append((h.path, h.headers.get("Range"), h.headers.get("If-Range")))
        if h.path.startswith("/moved"):
            h.send_response(302)
            h.send_header("Location", "/there/other.iso")
            h.send_header("Content-Length", "0")
            h.end_headers()
            return
        name = h.path.rsplit("/", 1)[1]
        if re.search(r"SUMS|\.sha\d+|\.(sign|gpg|asc)$", name) and name not in self.beside or self.status:
            h.send_error(self.status or 404)
            return
        start, code = 0, 200
        m = re.fullmatch(r"bytes=(\d+)-", h.headers.get("Range", ""))
        if m and self.ranges and h.headers.get("If-Range") == self.etag:
            start, code = int(m.group(1)), 206
        data = self.beside.get(name, self.data)
        if start >= len(data) and code == 206:
            h.send_error(416)
            return
        body = data[start:]
        h.send_response(code)
        if self.etag:
            h.send_header("ETag", self.etag)
        if code == 206:
            h.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        h.send_header("Content-Length", str(len(body) + self.lie))
        h.end_headers()
        if self.cut is not None:
            body, self.cut = body[:self.cut], None
            h.close_connection = True
        if self.always:
            body = body[:self.always]
        if self.lie or self.always:
            h.close_connection = True
        for at in range(0, len(body), 65536):
            h.wfile.write(body[at:at + 65536])
            time.sleep(self.slow)

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()
