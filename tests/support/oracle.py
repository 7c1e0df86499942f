"""Payloads that tell what they are, and a ledger of what was promised.

A payload is 4 KiB pages, each stamped (seed, name, version, offset) and filled from the stamp, so that torn, mixed
and misplaced bytes are told apart. The ledger is kept by the client process, which is never killed: `intent` before
sending, `ack` after the whole answer."""
import hashlib
import threading

PAGE = 4096


def page(seed, name, version, offset):
    stamp = f"{seed}|{name}|{version}|{offset}|".encode()
    filler = hashlib.sha256(stamp).digest()
    return (stamp + filler * (PAGE // len(filler) + 1))[:PAGE]


def payload(seed, name, version, size):
    return b"".join(page(seed, name, version, o) for o in range(0, size, PAGE))[:size]


def explain(seed, name, data):
    """What a wrong payload is made of: the stamps of its first pages."""
    stamps = [bytes(data[o:o + 60]).split(b"|")[:4] for o in range(0, min(len(data), 8 * PAGE), PAGE)]
    return f"{name}: {len(data)} bytes, pages {stamps}"


class Ledger:
    """Per name: versions in the order their intents were logged; None stands for absent (a delete)."""

    def __init__(self, seed):
        self.seed, self.lock, self.next = seed, threading.Lock(), 0
        self.intents = {}  # name -> [(version, size or None)]
        self.acked = {}    # name -> index into intents[name] of the last acknowledged one
        self.etags = {}
        self.blocks = {}   # name -> {block id: size} acknowledged and not yet committed

    def intent(self, name, size):
        with self.lock:
            self.next += 1
            self.intents.setdefault(name, []).append((self.next, size))
            return self.next

    def ack(self, name, version, etag=None):
        with self.lock:
            at = next(i for i, (v, _) in enumerate(self.intents[name]) if v == version)
            self.acked[name] = max(at, self.acked.get(name, -1))
            self.etags[name] = etag

    def allowed(self, name):
        """The states the name may be in: its last acknowledged version or an intent after it."""
        first = self.acked.get(name, -1)
        states = self.intents[name][max(first, 0):]
        return ([(0, None)] if first < 0 else []) + states

    def judge(self, name, data):
        """data: bytes read, or None for absent. Returns None or what is wrong. What was read once stays: from
        now on nothing older is allowed."""
        for version, size in self.allowed(name):
            if (size is None) == (data is None) and (
                    data is None or data == payload(self.seed, name, version, size)):
                if version:
                    self.ack(name, version)
                return None
        return f"{explain(self.seed, name, data) if data is not None else name + ' is absent'}; " \
               f"allowed (version, size): {self.allowed(name)}"
