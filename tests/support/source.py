"""A server that copies are read from, and that misbehaves as it is told: one thing served by path, each with a list
of behaviours, one for each request to it (the last one stays).

    with Source() as source:
        source.serve("/a", b"bytes", cut_at=100)             # the first body ends there; then as usual
        source.url("/a"), source.requests("/a")              # [(headers), ...] as they came
"""
import hashlib
import base64
import re
import socket
import threading


class Thing:
    def __init__(self, body, behaviours):
        self.body, self.behaviours, self.seen = body, behaviours, []


class Source:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port, self.things, self.connections = self.listener.getsockname()[1], {}, 0
        self.lock, self.closing, self.open = threading.Lock(), False, set()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing = True
        self.listener.close()
        for s in list(self.open):
            s.close()

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    def serve(self, path, body=b"", *behaviours, **behaviour):
        """behaviour: status, headers (dict), cut_at, stop_at (then silent), length, etag, md5=True, chunked, ignore_range."""
        self.things[path] = Thing(body, [*behaviours, behaviour])

    def requests(self, path):
        return self.things[path].seen

    def _accept(self):
        while not self.closing:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self.open.add(s)
            threading.Thread(target=self._connection, args=(s,), daemon=True).start()

    def _connection(self, s):
        try:
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    data = s.recv(65536)
                    if not data:
                        return
                    rest += data
                head, _, rest = rest.partition(b"\r\n\r\n")
                if not self._answer(s, head.decode("latin-1")):
                    return
        except OSError:
            pass
        finally:
            self.open.discard(s)
            s.close()

    def _answer(self, s, head):
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        thing = self.things.get(target.split("?")[0])
        if not thing:
            s.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        with self.lock:
            thing.seen.append(headers)
            b = thing.behaviours.pop(0) if len(thing.behaviours) > 1 else thing.behaviours[0]
        body, etag = b.get("body", thing.body), b.get("etag", '"v1"')
        out, status, part = {}, b.get("status", 200), body
        want = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if status == 200 and etag and headers.get("if-match") not in (None, etag, "*"):
            status, part = 412, b""
        elif status == 200 and want and b.get("more_than_asked"):
            status, part = 206, body[int(want[1]):]
            out["Content-Range"] = f"bytes {want[1]}-{len(body) - 1}/{len(body)}"
        elif status == 200 and want and not b.get("ignore_range"):
            start, end = int(want[1]), min(int(want[2] or len(body)), len(body) - 1)
            if start >= len(body):
                status, part = 416, b""
            else:
                status, part = 206, body[start:end + 1]
                out["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
        elif status != 200:
            part = b""
        if etag:
            out["ETag"] = etag
        if b.get("md5"):
            out["x-ms-blob-content-md5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
        out.update({"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", **b.get("headers", {})})
        if b.get("chunked"):
            out["Transfer-Encoding"] = "chunked"
            part = b"%x\r\n%s\r\n0\r\n\r\n" % (len(part), part)
        else:
            out["Content-Length"] = str(b.get("length", len(part)))
        s.sendall(f"HTTP/1.1 {status} Said\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in out.items()).encode() + b"\r\n")
        if "stop_at" in b:
            s.sendall(part[:b["stop_at"]])
            s.recv(1)  # until the other side leaves
            return False
        s.sendall(part[:b.get("cut_at", len(part))])
        return "cut_at" not in b and "length" not in b
