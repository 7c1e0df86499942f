#!/usr/bin/python3
"""The WAN between Hearth and the cloud, in one process: an HTTP/1.1 proxy that counts, refuses, stalls, delays,
cuts and corrupts. In a test:

    wan = WanProxy("127.0.0.1", azurite.port).start()      # a thread; wan.port is the box's upstream
    wan.refuse = True                                      # new connections are closed, open ones cut
    wan.counts["GET"], wan.blob_bytes, wan.bytes_up, wan.requests   # [(method, target, status)]

From a shell: wan_proxy.py HOST PORT prints its ports; GET http://127.0.0.1:CONTROL/?refuse=1&delay=0.2 sets,
GET / shows.

Faults: refuse; stall (connections stay, nothing moves); delay (seconds before each request goes on); rate (bytes a
second each way, 0 any); lose_answer = n (the next n answers to requests that match `match` are cut after the cloud
has acted); cut_body = n (the next n answers that match are cut in the middle of the body); corrupt = n (in the next
n such bodies one byte is changed); skip = n (the next n matching answers are spared); fail = [status, n] (answered here, the cloud hears nothing)."""
import json
import socket
import sys
import threading
import time
import urllib.parse
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

CHUNK = 65536


class Gone(Exception):
    pass


class Stream:
    """A socket read by lines and lengths."""

    def __init__(self, sock):
        self.sock, self.rest = sock, b""

    def more(self):
        data = self.sock.recv(CHUNK)
        if not data:
            raise Gone
        self.rest += data

    def head(self):
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        return head

    def some(self, most):
        if not self.rest:
            self.more()
        data, self.rest = self.rest[:most], self.rest[most:]
        return data


def fields(head):
    out = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        out[name.strip().lower()] = value.strip()
    return out


class WanProxy:
    def __init__(self, host, port):
        self.target = (host, port)
        self.refuse = self.stall = False
        self.delay, self.rate = 0.0, 0
        self.match = ""  # of "METHOD target": which requests the counted faults are for
        self.lose_answer = self.cut_body = self.corrupt = self.skip = 0
        self.fail = [0, 0]
        self.counts, self.requests = Counter(), []
        self.bytes_up = self.bytes_down = self.blob_bytes = 0  # blob_bytes: bodies of ranged answers
        self.lock, self.open = threading.Lock(), set()

    # ---- life ----
    def start(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def stop(self):
        self.listener.close()
        self.refuse, self.stall = True, False  # who is held lets go of the cloud
        self.cut()

    def cut(self):
        """Ends every open connection now."""
        with self.lock:
            doomed, self.open = self.open, set()
        for sock in doomed:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def outage(self):
        self.refuse = True
        self.cut()

    def gone(self):
        """Nobody listens: not even a connection comes about, so that nothing can have been sent. back() ends it."""
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self.listener.close()
        self.cut()

    def back(self):
        self.start(self.port)

    def heal(self):
        self.refuse = self.stall = False

    def reset(self):
        with self.lock:
            self.counts.clear()
            self.requests.clear()
            self.bytes_up = self.bytes_down = self.blob_bytes = 0

    def state(self):
        with self.lock:
            return {"counts": dict(self.counts), "bytes_up": self.bytes_up, "bytes_down": self.bytes_down,
                    "blob_bytes": self.blob_bytes, "requests": len(self.requests), "refuse": self.refuse, "stall": self.stall, "delay": self.delay}

    # ---- connections ----
    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cloud = None
        try:
            with self.lock:
                self.open.add(client)
            cloud = socket.create_connection(self.target)
            cloud.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.open.add(cloud)
            up, down = Stream(client), Stream(cloud)
            while self.exchange(up, down):
                pass
        except (Gone, OSError):
            pass
        finally:
            for sock in filter(None, (client, cloud)):
                with self.lock:
                    self.open.discard(sock)
                sock.close()

    def hold(self):
        if self.delay:
            time.sleep(self.delay)
        while self.stall:
            time.sleep(0.01)
        if self.refuse:
            raise Gone

    def take(self, fault, what):
        """One of the counted faults, if it is meant for this request."""
        with self.lock:
            if self.match not in what or getattr(self, fault) <= 0:
                return False
            if self.skip > 0:
                self.skip -= 1
                return False
            setattr(self, fault, getattr(self, fault) - 1)
            return True

    def exchange(self, up, down):
        head = up.head()
        method, target = head.split(b" ", 2)[:2]
        what = method.decode() + " " + target.decode()
        self.hold()
        length = int(fields(head).get(b"content-length", 0))
        if self.fail[1] > 0 and self.match in what:
            self.fail[1] -= 1
            self.relay(up, None, length, "bytes_up")
            up.sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % self.fail[0])
            self.note(what, method, self.fail[0])
            return True
        down.sock.sendall(head + b"\r\n\r\n")
        self.relay(up, down.sock, length, "bytes_up")
        return self.answer(up, down, method, what)

    def note(self, what, method, status):
        with self.lock:
            self.counts[method.decode()] += 1
            self.requests.append((*what.split(" ", 1), status))

    def answer(self, up, down, method, what):
        head = down.head()
        status, field = int(head.split(b" ", 2)[1]), fields(head)
        self.note(what, method, status)
        if self.take("lose_answer", what):
            raise Gone
        self.hold()
        up.sock.sendall(head + b"\r\n\r\n")
        if method == b"HEAD" or status in (204, 304):
            return True
        if field.get(b"transfer-encoding", b"").lower() == b"chunked":
            self.relay_chunks(up, down)
            return True
        length = int(field.get(b"content-length", 0))
        counter = "blob_bytes" if status == 206 else "bytes_down"
        content = length > 1 and status in (200, 206)  # not the body of an error
        if content and self.take("cut_body", what):
            self.relay(down, up.sock, length // 2, counter)
            raise Gone
        corrupt = content and self.take("corrupt", what)
        self.relay(down, up.sock, length, counter, length // 2 if corrupt else -1)
        return field.get(b"connection", b"").lower() != b"close"

    def relay(self, source, into, length, counter, corrupt_at=-1):
        at = 0
        while at < length:
            data = source.some(min(CHUNK, length - at))
            while self.stall:
                time.sleep(0.01)
            if at <= corrupt_at < at + len(data):
                i = corrupt_at - at
                data = data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]
            if into:
                into.sendall(data)
            at += len(data)
            with self.lock:
                setattr(self, counter, getattr(self, counter) + len(data))
            if self.rate:
                time.sleep(len(data) / self.rate)

    def relay_chunks(self, up, down):
        while True:
            while b"\r\n" not in down.rest:
                down.more()
            line, down.rest = down.rest.split(b"\r\n", 1)
            size = int(line.split(b";")[0], 16)
            up.sock.sendall(line + b"\r\n")
            self.relay(down, up.sock, size, "bytes_down")
            while len(down.rest) < 2:
                down.more()
            up.sock.sendall(down.rest[:2])
            down.rest = down.rest[2:]
            if not size:
                return


def control(proxy):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            for name, value in urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query):
                if name == "cut":
                    proxy.cut()
                elif name == "match":
                    proxy.match = value
                elif name == "fail":
                    proxy.fail = [int(n) for n in value.split(",")]
                elif hasattr(proxy, name):
                    setattr(proxy, name, float(value) if name == "delay" else int(value))
            body = json.dumps(proxy.state()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return HTTPServer(("127.0.0.1", 0), Handler)


if __name__ == "__main__":
    wan = WanProxy(sys.argv[1], int(sys.argv[2])).start()
    server = control(wan)
    print(f"proxy {wan.port} control {server.server_address[1]}", flush=True)
    server.serve_forever()
