"""Payloads that tell what they are, and a ledger of what was promised.

A payload is 4 KiB pages, each stamped (seed, name, version, offset) and filled from the stamp, so that torn, mixed
and misplaced bytes are told apart. The ledger is kept by the client process, which is never killed: an intent before
sending, an ack with the ETag after the whole answer.

A version's content is a row of parts, each a payload of its own: one for Put Blob, one per block for Put Block List.
`judge*` compare what the box says with what is allowed: the last acknowledged version or an intent after it. What was
found in a box that was just started and has no request under way is from then on the only truth (`settle`)."""
import hashlib
import threading

PAGE = 4096


def page(seed, name, number, offset):
    stamp = f"{seed}|{name}|{number}|{offset}|".encode()
    filler = hashlib.sha256(stamp).digest()
    return (stamp + filler * (PAGE // len(filler) + 1))[:PAGE]


def payload(seed, name, number, size):
    return b"".join(page(seed, name, number, o) for o in range(0, size, PAGE))[:size]


def explain(name, data):
    """What a wrong payload is made of: the stamps of its first pages."""
    if data is None:
        return f"{name} is absent"
    stamps = [bytes(data[o:o + 60]).split(b"|")[:4] for o in range(0, min(len(data), 8 * PAGE), PAGE)]
    return f"{name}: {len(data)} bytes, pages {stamps}"


class Block:
    def __init__(self, number, block_id, size):
        self.number, self.id, self.size, self.acked = number, block_id, size, False


class Version:
    """parts: ((number, size), ...), or None: absent. base: the ETag it was conditional on."""

    def __init__(self, number, parts, base=None):
        self.number, self.parts, self.base, self.etag, self.acked = number, parts, base, None, False

    @property
    def size(self):
        return None if self.parts is None else sum(size for _, size in self.parts)

    def __repr__(self):
        return f"v{self.number}{'+' if self.acked else '?'} {self.size} {self.etag or ''}"


def absent():
    version = Version(0, None)
    version.acked = True
    return version


class Wrong(AssertionError):
    """A promise was broken."""


class Ledger:
    """Per name: versions in the order of their intents (the first one is what it was before), and blocks staged
    since. All requests of a name come one after another, except those of a chain (`judge_chain`)."""

    def __init__(self, seed):
        self.seed, self.lock, self.next = seed, threading.RLock(), 0
        self.versions = {}  # name -> [Version]
        self.events = {}    # name -> [Block or Version]: what made and took uncommitted blocks, in order
        self.minted = {}    # (name, ETag) -> number: an ETag is never given to a second version
        self.counts = {"intents": 0, "acks": 0, "reads": 0, "conflicts": 0}

    def _number(self):
        self.next += 1
        self.counts["intents"] += 1
        return self.next

    # ---- intents and acks ----

    def _begin(self, name, version):
        self.versions.setdefault(name, [absent()]).append(version)
        self.events.setdefault(name, []).append(version)
        return version

    def put(self, name, size, base=None):
        with self.lock:
            number = self._number()
            return self._begin(name, Version(number, ((number, size),), base))

    def commit(self, name, blocks):
        with self.lock:
            return self._begin(name, Version(self._number(), tuple((b.number, b.size) for b in blocks)))

    def delete(self, name):
        with self.lock:
            return self._begin(name, Version(self._number(), None))

    def block(self, name, block_id, size):
        with self.lock:
            block = Block(self._number(), block_id, size)
            self.versions.setdefault(name, [absent()])
            self.events.setdefault(name, []).append(block)
            return block

    def ack(self, name, what, etag=None):
        with self.lock:
            what.acked = True
            self.counts["acks"] += 1
            if isinstance(what, Version) and what.parts is not None:
                self._mint(name, what, etag)

    def _mint(self, name, version, etag):
        if version.etag not in (None, etag):
            raise Wrong(f"{name}: version {version.number} had ETag {version.etag}, now {etag}")
        other = self.minted.setdefault((name, etag), version.number)
        if other != version.number or not etag:
            raise Wrong(f"{name}: ETag {etag} of version {version.number} was given to version {other} before")
        version.etag = etag

    # ---- what it must be ----

    def content(self, name, version):
        return b"".join(payload(self.seed, name, number, size) for number, size in version.parts)

    def _is(self, name, version, data):
        if data is None or version.parts is None:
            return data is None and version.parts is None
        return len(data) == version.size and data == self.content(name, version)

    def _find(self, name, candidates, data, etag):
        """Empty ones and single bytes look alike: then the ETag says which, else the first."""
        found = [v for v in candidates if self._is(name, v, data)]
        if not found:
            raise Wrong(f"{explain(name, data)}; allowed: {candidates}")
        return min(found, key=lambda v: 0 if v.etag == etag else 1 if v.etag is None else 2)

    def first_allowed(self, name):
        """Index of the last acknowledged version: nothing older may be seen by a read that begins now."""
        with self.lock:
            return max(i for i, v in enumerate(self.versions.setdefault(name, [absent()])) if v.acked)

    def state(self, name):
        """The one version the name must have; None while an unacknowledged one may have taken its place."""
        with self.lock:
            versions = self.versions.get(name, [absent()])
            return versions[-1] if versions[-1].acked else None

    def judge(self, name, first, data, etag):
        """What a read that began when first_allowed was `first` has found (data None: absent). It stays."""
        with self.lock:
            candidates = self.versions[name][first:]
        found = self._find(name, candidates, data, etag)
        with self.lock:
            found.acked = True
            self.counts["reads"] += 1
            if found.parts is not None:
                self._mint(name, found, etag)
        return found

    def settle(self, name, data, etag):
        """Of a box just started: what it says is from now on the only truth."""
        found = self.judge(name, self.first_allowed(name), data, etag)
        self.versions[name] = [found]
        # What did not come to pass took no blocks either; of a delete that is not told apart.
        self.events[name] = [e for e in self.events.get(name, [])
                             if isinstance(e, Block) or e.acked or e.parts is None]
        return found

    # ---- uncommitted blocks ----

    def staged(self, name):
        """Acknowledged blocks that must be there: no later intent of the name may have taken them."""
        with self.lock:
            blocks = {}
            for event in self.events.get(name, []):
                if isinstance(event, Version):
                    blocks = {}
                elif event.acked:
                    blocks[event.id] = event
            return blocks

    def settle_blocks(self, name, listed):
        """listed: {id: size} of a box that was just started."""
        must, may = self.staged(name), {}
        events = self.events.get(name, [])
        for event in events:
            if isinstance(event, Version):
                may = {} if event.acked and event.parts is not None else may
            else:
                may.setdefault(event.id, []).append(event)
        for block_id, block in must.items():  # put again: the later one may have come to pass
            may[block_id] = may[block_id][may[block_id].index(block):]
        missing = [i for i in must if i not in listed]
        strange = [(i, size) for i, size in listed.items() if size not in [b.size for b in may.get(i, [])]]
        if missing or strange:
            raise Wrong(f"{name}: blocks listed {listed}; missing {missing}, not allowed {strange}; "
                        f"acknowledged {[(b.id, b.size) for b in must.values()]}")
        truth = [next(b for b in may[i] if b.size == size) for i, size in listed.items()]
        for block in truth:
            block.acked = True
        self.events[name] = truth

    # ---- chains: several writers of one name, each If-Match what it read ----

    def judge_chain(self, name, data, etag, settle=False):
        """Whoever reads a chain learns which version has the ETag. settle: of a box just started, the versions
        acknowledged since the last time must be one row of ETags, and this is its end or an intent on top of it."""
        with self.lock:
            found = self._find(name, self.versions.setdefault(name, [absent()]), data, etag)
            if found.parts is not None:
                self._mint(name, found, etag)
            found.acked = True
            if settle:
                self._settle_chain(name, found)
            return found

    def _settle_chain(self, name, found):
        versions, path = self.versions[name], [found]
        by_etag = {v.etag: v for v in versions}  # that of an absent one is None, as is the base of a first version
        while path[-1] is not versions[0]:
            before = by_etag.get(path[-1].base) if path[-1].base else versions[0]
            if not before or before in path or before.etag != path[-1].base:
                raise Wrong(f"{name}: {path} does not lead back to {versions[0]}: {versions}")
            path.append(before)
        lost = [v for v in versions if v.acked and v not in path]
        if lost:
            raise Wrong(f"{name}: acknowledged but not in the chain of {found}: {lost}; chain {path}")
        self.versions[name] = [found]
        self.events[name] = []
