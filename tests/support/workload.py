"""Clients that write under a ledger until the box is gone or they are told to stop: Put Blob, overwrite, delete, Put
Block (committed, put again, left staged), Put Block List, If-Match by two, reads. And the judge of a box that was just
started. One name belongs to one thread, except those of the chains."""
import base64
import random
import threading
import time
import urllib.parse
import xml.etree.ElementTree as xml

from support.azure import Client, Closed
from support.box import ACCOUNT, KEY
from support.oracle import Wrong, explain, payload

MIB = 1 << 20
CONTAINER, LOCAL = "ckpt", "here"  # LOCAL is of a contract that keeps it in the box
SIZES = [0, 1, 100, 4096, 5000, 20000, 65536, 65537, 70000, 300000, 300000, 1500000]
LARGE = [4 * MIB, 4 * MIB + 1, 5 * MIB, 9 * MIB + 5]  # several extents; the last goes to the cloud in blocks
BLOCK_SIZES = [1, 100, 5000, 40000, 65537, 300000]
PRESS_BYTES = 4 * MIB
SMALL_BYTES_MAX = 65536
SCATTER_RECORDS, SCATTER_KEPT = 1100, 20  # a slab is 65 MiB


class Gone(Exception):
    """The box has ended, or cut the connection."""


class Session:
    """Requests of one thread over one connection, opened again as needed."""

    def __init__(self, endpoint):
        self.client, self.connection = Client(endpoint, ACCOUNT, KEY), None

    def request(self, method, path, headers=None, body=b""):
        try:
            self.connection = self.connection or self.client.connect()
            answer = self.client.request(method, path, headers, body, on=self.connection)
        except (OSError, Closed) as e:
            self.close()
            if isinstance(e, TimeoutError):
                raise Wrong(f"no answer to {method} {path}") from e
            raise Gone from e
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        if answer.status == 500:
            raise Wrong(f"{method} {path}: {answer}")
        return answer

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def path(self, name, query=""):
        container = LOCAL if name.startswith("press") else CONTAINER
        return f"/{container}/{urllib.parse.quote(name)}" + (f"?{query}" if query else "")

    def put(self, name, data, **conditions):
        return self.request("PUT", self.path(name), {"x-ms-blob-type": "BlockBlob", **conditions}, data)

    def get(self, name):
        """(data, ETag), or (None, None) when there is no blob."""
        answer = self.request("GET", self.path(name))
        if answer.status == 404:
            return None, None
        if answer.status != 200:
            raise Wrong(f"GET {name}: {answer}")
        return answer.body, answer.headers["etag"]

    def delete(self, name):
        return self.request("DELETE", self.path(name))

    def put_block(self, name, block_id, data):
        return self.request("PUT", self.path(name, f"comp=block&blockid={urllib.parse.quote(block_id, safe='')}"), {}, data)

    def commit(self, name, ids):
        body = "<BlockList>" + "".join(f"<Latest>{i}</Latest>" for i in ids) + "</BlockList>"
        return self.request("PUT", self.path(name, "comp=blocklist"), {}, body.encode())

    def uncommitted(self, name):
        answer = self.request("GET", self.path(name, "comp=blocklist&blocklisttype=uncommitted"))
        if answer.status == 404:
            return {}
        if answer.status != 200:
            raise Wrong(f"Get Block List {name}: {answer}")
        rows = xml.fromstring(answer.body.lstrip(b"\xef\xbb\xbf")).iter("Block")
        return {row.find("Name").text: int(row.find("Size").text) for row in rows}


def block_id(number):
    return base64.b64encode(f"{number:012d}".encode()).decode()


class Workload:
    """Threads that run until stop() or the box's end. What went wrong in one is raised by stop()."""

    def __init__(self, endpoint, ledger, seed):
        self.endpoint, self.ledger, self.seed = endpoint, ledger, seed
        self.over, self.threads, self.wrong = threading.Event(), [], []

    def run(self, what, *names):
        rng = random.Random(f"{self.seed}/{len(self.threads)}")

        def loop():
            session = Session(self.endpoint)
            try:
                while not self.over.is_set():
                    what(session, rng, names)
            except Gone:
                pass
            except Exception as e:  # pylint: disable=broad-except
                self.wrong.append(e)
            finally:
                session.close()

        self.threads.append(threading.Thread(target=loop))
        self.threads[-1].start()

    def alive(self):
        return any(t.is_alive() for t in self.threads) and not self.wrong

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.wrong:
            raise self.wrong[0]

    def _acked(self, name, what, answer):
        """201 or 202: acknowledged. 503: refused for now. Else something is wrong."""
        if answer.status in (201, 202):
            return self.ledger.ack(name, what, answer.headers.get("etag"))
        if answer.status not in (503, 507):
            raise Wrong(f"{name}: {answer} to {what}; {self.ledger.versions[name]}")
        self.over.wait(0.05)

    # ---- what the threads do ----

    def _put(self, session, name, size):
        version = self.ledger.put(name, size)
        self._acked(name, version, session.put(name, self.ledger.content(name, version)))

    def _stage(self, session, name, size, again=None):
        number = self.ledger.next
        size += number % 1000  # what is put again has another size: a list tells which one it is
        block = self.ledger.block(name, again or block_id(number), size)
        data = payload(self.ledger.seed, name, block.number, block.size)
        self._acked(name, block, session.put_block(name, block.id, data))
        return block

    def _commit(self, session, name, blocks):
        version = self.ledger.commit(name, blocks)
        self._acked(name, version, session.commit(name, [b.id for b in blocks]))

    def _delete(self, session, name):
        self._acked(name, self.ledger.delete(name), session.delete(name))

    def write(self, session, rng, names):
        name, draw = rng.choice(names), rng.random()
        size = rng.choice(LARGE) if rng.random() < 0.04 else rng.choice(SIZES)
        state = self.ledger.state(name)
        if draw < 0.15 and state and state.parts is not None:
            self._delete(session, name)
        elif draw < 0.4:
            blocks = [self._stage(session, name, rng.choice(BLOCK_SIZES)) for _ in range(rng.randint(1, 4))]
            if rng.random() < 0.3:
                blocks[0] = self._stage(session, name, rng.choice(BLOCK_SIZES), again=blocks[0].id)
            if all(b.acked for b in blocks):
                self._commit(session, name, blocks)
        else:
            self._put(session, name, size)

    def stage(self, session, rng, names):
        """Blocks that stay uncommitted for a while, over restarts."""
        name, draw = rng.choice(names), rng.random()
        staged = list(self.ledger.staged(name).values())
        if len(staged) > 12 or (draw < 0.08 and staged):
            rng.shuffle(staged)
            self._commit(session, name, staged)
        elif draw < 0.12:
            self._put(session, name, rng.choice(SIZES[1:6]))
        else:
            again = rng.choice(staged).id if staged and draw < 0.3 else None
            self._stage(session, name, rng.choice(BLOCK_SIZES), again)

    def chain(self, session, rng, names):
        name = rng.choice(names)
        data, base = session.get(name)
        self.ledger.judge_chain(name, data, base)
        version = self.ledger.put(name, rng.randint(100, 20000), base)
        condition = {"If-Match": base} if base else {"If-None-Match": "*"}
        answer = session.put(name, self.ledger.content(name, version), **condition)
        if answer.status in (409, 412):
            self.ledger.counts["conflicts"] += 1
        else:
            self._acked(name, version, answer)

    def read(self, session, rng, names):
        name = rng.choice(names)
        first = self.ledger.first_allowed(name)
        self.ledger.judge(name, first, *session.get(name))
        self.over.wait(0.002)

    def press(self, session, rng, names):
        """Fills the devices with what may not be evicted, until it is refused; then half of it goes."""
        there = [n for n in names if self.ledger.state(n) and self.ledger.state(n).parts]
        free = [n for n in names if n not in there]
        refused = not free
        if free:
            version = self.ledger.put(free[0], PRESS_BYTES)
            answer = session.put(free[0], self.ledger.content(free[0], version))
            refused = answer.status in (503, 507)
            self._acked(free[0], version, answer)
        for name in there[::2] if refused else []:
            self._delete(session, name)

    def scatter(self, names):
        """Writes more than a slab of small records, of which one in SCATTER_KEPT stays: a sparse slab to compact."""
        session, filler, end = Session(self.endpoint), "press/scatter", time.monotonic() + 30
        for i in range(SCATTER_RECORDS):
            while (answer := session.put(filler, bytes(SMALL_BYTES_MAX))).status != 201:
                assert answer.status == 503 and time.monotonic() < end, answer  # what was deleted is being reaped
                self.over.wait(0.1)
            if i % SCATTER_KEPT == 0:
                self._stage(session, names[i // SCATTER_KEPT % len(names)], 100)
        assert session.put(filler, b"").status == 201
        session.close()

    def relieve(self, names):
        """What press wrote goes."""
        session = Session(self.endpoint)
        for name in names:
            if self.ledger.state(name).parts is not None:
                self._delete(session, name)
        session.close()


class Cold:
    """Blobs that were in the cloud before: read through, evicted, read through again."""

    def __init__(self, cloud, count, size):
        session, self.size = Session(cloud.endpoint), size
        self.names = [f"cold/{i}" for i in range(count)]
        session.request("PUT", "/cold?restype=container")
        for name in self.names:
            answer = session.request("PUT", f"/{name}", {"x-ms-blob-type": "BlockBlob"}, self.content(name))
            assert answer.status == 201, answer
        session.close()

    def content(self, name):
        return random.Random(name).randbytes(self.size)

    def read(self, session, rng, names):
        name = rng.choice(names)
        answer = session.request("GET", f"/{name}")
        if answer.status != 503 and (answer.status != 200 or answer.body != self.content(name)):
            raise Wrong(f"{name}: {answer}")


# ---- judging ----

def judge_box(endpoint, ledger):
    """A box just started, no request under way: every name, every block, every chain."""
    session = Session(endpoint)
    for name in list(ledger.versions):
        try:
            data, etag = session.get(name)
        except Gone as e:
            raise Wrong(f"GET {name}: no whole answer; allowed: {ledger.versions[name]}") from e
        if name.startswith("chain"):
            ledger.judge_chain(name, data, etag, settle=True)
        else:
            ledger.settle(name, data, etag)
            ledger.settle_blocks(name, session.uncommitted(name))
    session.close()


def judge_cloud(endpoint, ledger):
    """The drained cloud is the model: its list, and every byte."""
    session = Session(endpoint)
    answer = session.request("GET", f"/{CONTAINER}?restype=container&comp=list")
    rows = xml.fromstring(answer.body.lstrip(b"\xef\xbb\xbf")).iter("Blob")
    listed = {row.find("Name").text: int(row.find("Properties/Content-Length").text) for row in rows}
    model = {name: ledger.state(name) for name in ledger.versions if not name.startswith("press")}
    want = {name: version.size for name, version in model.items() if version.parts is not None}
    if listed != want:
        raise Wrong(f"the cloud lists {listed}; the model is {want}")
    for name in want:
        data, _ = session.get(name)
        if data != ledger.content(name, model[name]):
            raise Wrong(f"in the cloud {explain(name, data)}; the model is {model[name]}")
    session.close()
