"""Signatures of the Blob service, and an HTTP client on a bare socket that sends exactly what it is told and
reads exactly what comes back. Nothing here knows an SDK: what is malformed can be sent, what is signed is visible.

    c = Client(box.endpoint, account, key)
    a = c.request("PUT", "/ctr/name", {"x-ms-blob-type": "BlockBlob"}, b"bytes")    # path below the account
    a.status, a.code, a.headers["etag"], a.body
"""
import base64
import hashlib
import hmac
import socket
import ssl
import urllib.parse
from datetime import datetime, timedelta, timezone
from email.utils import formatdate

VERSION = "2021-12-02"
STANDARD = ["content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
            "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"]


def now(seconds=0):
    """RFC 1123 date, that many seconds from now."""
    return formatdate(datetime.now(timezone.utc).timestamp() + seconds, usegmt=True)


def stamp(**delta):
    """ISO 8601 date that far from now: stamp(hours=1), stamp(days=-1)."""
    return (datetime.now(timezone.utc) + timedelta(**delta)).strftime("%Y-%m-%dT%H:%M:%SZ")


def sign(key, text):
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode("utf-8", "surrogateescape"),
                                     hashlib.sha256).digest()).decode()


def canonical_headers(headers):
    ms = {}
    for name, value in headers:
        if name.lower().startswith("x-ms-"):
            ms.setdefault(name.lower(), []).append(value.strip())
    return "".join(f"{name}:{','.join(ms[name])}\n" for name in sorted(ms))


def canonical_query(query):
    params = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        params.setdefault(urllib.parse.unquote(name).lower(), []).append(urllib.parse.unquote(value))
    return "".join(f"\n{name}:{','.join(sorted(params[name]))}" for name in sorted(params))


def shared_key(account, key, method, target, headers):
    """Value of Authorization. headers: list of (name, value) as they are sent."""
    path, _, query = target.partition("?")
    plain = {name.lower(): value.strip() for name, value in reversed(headers)}
    values = [plain.get(name, "") for name in STANDARD]
    if values[2] == "0":
        values[2] = ""
    text = "\n".join([method, *values, ""]) + canonical_headers(headers) + f"/{account}{path}" + canonical_query(query)
    return f"SharedKey {account}:{sign(key, text)}"


def shared_key_lite(account, key, method, target, headers):
    path, _, query = target.partition("?")
    plain = {name.lower(): value.strip() for name, value in reversed(headers)}
    comp = [p.partition("=")[2] for p in query.split("&") if p.startswith("comp=")]
    date = "" if "x-ms-date" in plain else plain.get("date", "")
    text = "\n".join([method, plain.get("content-md5", ""), plain.get("content-type", ""), date, ""])
    text += canonical_headers(headers) + f"/{account}{path}" + (f"?comp={comp[0]}" if comp else "")
    return f"SharedKeyLite {account}:{sign(key, text)}"


def _query(fields):
    return "&".join(f"{name}={urllib.parse.quote(value, safe='')}" for name, value in fields.items() if value)


def account_sas(account, key, sp="rwdlac", ss="b", srt="sco", se=None, sv="2020-12-06", **more):
    """Query text. more: st, sip, spr, ses."""
    f = dict(sv=sv, ss=ss, srt=srt, sp=sp, se=stamp(days=1) if se is None else se, **more)
    lines = [account, sp, ss, srt, f.get("st", ""), f["se"], f.get("sip", ""), f.get("spr", ""), sv]
    if sv >= "2020-12-06":
        lines.append(f.get("ses", ""))
    return _query({**f, "sig": sign(key, "\n".join(lines + [""]))})


def service_sas(account, key, container, blob=None, sp="r", se=None, sv="2020-12-06", sr=None, snapshot="", **more):
    """Query text for a container, or a blob in it. more: st, si, sip, spr, ses, rscc, rscd, rsce, rscl, rsct."""
    f = dict(sv=sv, sr=sr or ("b" if blob else "c"), sp=sp, se=stamp(days=1) if se is None else se, **more)
    resource = f"/blob/{account}/{container}" + (f"/{blob}" if blob else "")
    lines = [sp, f.get("st", ""), f["se"], resource, f.get("si", ""), f.get("sip", ""), f.get("spr", ""), sv]
    if sv >= "2018-11-09":
        lines += [f["sr"], snapshot]
    if sv >= "2020-12-06":
        lines.append(f.get("ses", ""))
    lines += [f.get(name, "") for name in ("rscc", "rscd", "rsce", "rscl", "rsct")]
    return _query({**f, "sig": sign(key, "\n".join(lines))})


class Closed(Exception):
    """The server ended the connection before a whole answer; .data is what came."""

    def __init__(self, data):
        super().__init__(f"connection closed after {data[:200]!r}")
        self.data = data


class Answer:
    def __init__(self, status, reason, headers, body, raw):
        self.status, self.reason, self.raw_headers, self.body, self.raw = status, reason, headers, body, raw
        self.headers = {}
        for name, value in headers:
            self.headers.setdefault(name.lower(), value)

    @property
    def code(self):
        return self.headers.get("x-ms-error-code")

    def __repr__(self):
        return f"<{self.status} {self.code} {self.body[:300]!r}>"


class Connection:
    """One socket. send() takes bytes as they are; answer() reads one answer by its own framing."""

    def __init__(self, host, port, timeout=20, tls=None):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def end_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def _more(self):
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(self.rest)
        self.rest += data

    def _until(self, mark):
        while mark not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(mark)
        return head

    def _take(self, n):
        while len(self.rest) < n:
            self._more()
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def _chunks(self):
        body = b""
        while True:
            n = int(self._until(b"\r\n").split(b";")[0], 16)
            if n == 0:
                while self._until(b"\r\n"):
                    pass
                return body
            body += self._take(n)
            assert self._take(2) == b"\r\n", "chunk without its end"

    def answer(self, method="GET"):
        """The next final answer; 1xx before it are kept in .interim."""
        self.interim = []
        while True:
            head = self._until(b"\r\n\r\n").decode("latin-1")
            first, *lines = head.split("\r\n")
            version, status, reason = (first.split(" ", 2) + [""])[:3]
            assert version == "HTTP/1.1", first
            headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
            if not status.startswith("1"):
                break
            self.interim.append(int(status))
        names = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in ("204", "304"):
            body = b""
        elif names.get("transfer-encoding") == "chunked":
            body = self._chunks()
        elif "content-length" in names:
            body = self._take(int(names["content-length"]))
        else:
            raise AssertionError(f"an answer without framing: {head}")
        return Answer(int(status), reason, headers, body, head)

    def closed(self):
        """True once the server has closed; anything it still sends is an error."""
        try:
            data = self.socket.recv(1)
        except ConnectionResetError:
            return True
        assert not data, f"unexpected bytes after the answer: {data!r}"
        return True


class Client:
    """Requests for one account, path style, one connection each unless told otherwise."""

    def __init__(self, endpoint, account, key):
        url = urllib.parse.urlsplit(endpoint)
        self.scheme, self.host, self.base = url.scheme, url.hostname, url.path.rstrip("/")
        self.port = url.port or (443 if url.scheme == "https" else 80)
        self.authority = self.host + ("" if self.port in (80, 443) else f":{self.port}")
        self.account, self.key = account, key
        self.tls = ssl.create_default_context() if url.scheme == "https" else None

    def connect(self):
        return Connection(self.host, self.port, tls=self.tls)

    def headers(self, more=None, body=b""):
        """The usual ones, overridden by `more`; None as a value leaves a header out."""
        out = {"Host": self.authority, "x-ms-date": now(), "x-ms-version": VERSION}
        if body is not None:
            out["Content-Length"] = str(len(body))
        for name, value in dict(more or {}).items():
            for old in [o for o in out if o.lower() == name.lower()]:
                del out[old]
            out[name] = value
        return [(name, str(value)) for name, value in out.items() if value is not None]

    def head_bytes(self, method, path, headers=None, body=b"", auth=shared_key, account=None, key=None):
        """The request head as sent: signed by `auth`, or not at all when it is None."""
        lines = self.headers(headers, body)
        target = self.base + path
        if auth:
            lines.append(("Authorization", auth(account or self.account, key or self.key, method, target, lines)))
        text = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines) + "\r\n"
        return text.encode("utf-8", "surrogateescape")

    def request(self, method, path, headers=None, body=b"", on=None, **options):
        """path: below the account, percent-encoded, with its query. on: a Connection to use."""
        data = self.head_bytes(method, path, headers, body, **options)
        connection = on or self.connect()
        try:
            connection.send(data + body)
            return connection.answer(method)
        finally:
            if not on:
                connection.close()

    def raw(self, data, method="GET"):
        """Sends the bytes on a connection of their own; the answer to them."""
        with self.connect() as connection:
            connection.send(data)
            return connection.answer(method)
