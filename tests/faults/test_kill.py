"""kill -9 of a box that writes back, under concurrent writers: nothing acknowledged is lost, nothing is torn, and in the
end the cloud has exactly what the model says.

At random instants with the release binary; at every named failpoint (base/failpoint.h) with the asan one. The client,
its ledger and the judge are in tests/support/workload.py and oracle.py."""
import glob
import os
import random
import re
import signal
import time

import pytest

from support.box import HEARTH, ROOT, Box, wait_until
from support.oracle import Ledger
from support.workload import Cold, Session, Workload, judge_box, judge_cloud

LONG = bool(os.environ.get("HEARTH_LONG"))
ASAN = os.path.join(ROOT, "build/asan/hearth")
CONTRACTS = 'contract "here/*" { write = local } contract "*" { write = back }'
MIB = 1 << 20
WRITERS = [[f"w{w}/{i}" for i in range(6)] for w in range(3)]
STAGED, CHAINS = [f"s/{i}" for i in range(4)], ["chain/0", "chain/1"]
PRESS = [f"press/{i}" for i in range(128)]

# Hits up to which a failpoint may strike: one by chance is drawn. Where few come in the time, or in one start or stop.
HITS_MAX = {"epoch_begun": 1, "log_slab_taken": 1, "log_slab_begun": 1, "super_before": 3, "super_written": 3,
            "slab_header_written": 4, "slab_prepared": 4, "index_family_flushed": 12, "index_flushed": 1,
            "log_trimmed": 1, "extent_written": 6, "block_unstaged": 3, "reap_gathered": 10, "reap_committed": 10,
            "stage_dropped": 10, "fill_stored": 4, "upload_answered": 10, "upload_confirmed": 10,
            "upload_recorded": 10, "upload_blocks_sent": 1, "evicted": 3, "record_moved": 1, "compacted": 1}
HITS_MAX_USUAL = 60
AT_STOP = {"index_family_flushed", "index_flushed", "log_trimmed"}  # or at a start with much log
NEEDS_COLD_READS = {"fill_stored"}
NEEDS_FULL_DEVICES = {"evicted", "record_moved", "compacted"}
NEEDS_SPARSE_SLABS = {"record_moved", "compacted"}
IN_FORWARDS = {"forward_marked", "forward_answered"}  # tests/faults/test_forward.py strikes them
REACHED_WITHIN_S, BEFORE_STOP_S = 60, 0.5  # a busy machine may take long to fill devices


def failpoints():
    """Every name in the sources, and that it stands at one place."""
    names = []
    for path in sorted(glob.glob(os.path.join(ROOT, "*/*.c"))):
        with open(path) as f:
            names += re.findall(r'FAILPOINT\("(\w+)"\)', f.read())
    assert len(names) == len(set(names)) and len(names) > 20
    return set(names)


@pytest.fixture
def worlds():
    """Boxes made here are gone after the test."""
    made = []
    yield made
    for world in made:
        world.box.kill()


class World:
    """A box, its cloud, the model of both."""

    def __init__(self, folder, cloud, seed, **options):
        self.box = Box(folder, cloud=cloud.endpoint, contracts=CONTRACTS, **options)
        self.cloud, self.ledger, self.seed, self.round = cloud, Ledger(seed), seed, 0

    def create_containers(self):
        session = Session(self.box.endpoint)
        for name in ("ckpt", "here"):
            assert session.request("PUT", f"/{name}?restype=container").status == 201
        session.close()

    def workload(self):
        self.round += 1
        return Workload(self.box.endpoint, self.ledger, f"{self.seed}/{self.round}")

    def usual(self):
        work = self.workload()
        for names in WRITERS:
            work.run(work.write, *names)
        work.run(work.stage, *STAGED)
        for i in range(2):
            work.run(work.chain, *CHAINS)
        work.run(work.read, *[n for names in WRITERS for n in names])
        return work

    def judge(self):
        """The box comes up and tells no lie."""
        self.box.start()
        judge_box(self.box.endpoint, self.ledger)
        self.nothing_held()

    def nothing_held(self):
        """Nobody else writes to the cloud: no conflict is true."""
        assert "upload is held" not in self.box.text(), re.findall(".*upload is held.*", self.box.text())

    def drain(self):
        wait_until(lambda: self.box.drained() or self.nothing_held(), seconds=120, what="write-back")
        self.nothing_held()

    def end(self):
        """All reaches the cloud, the stopped box is consistent, and no sanitizer had a word."""
        self.drain()
        judge_cloud(self.cloud.endpoint, self.ledger)
        assert self.box.metric("content_damaged_total") == 0
        assert self.box.stop() == 0
        assert self.box.check() == []
        self.sanitized()

    def sanitized(self):
        text = self.box.text()
        assert "AddressSanitizer" not in text and "runtime error" not in text, text[-20000:]


def test_kill__at_random_instants_nothing_acknowledged_is_lost_or_torn(tmp_path, cloud, worlds):
    world, draw = World(tmp_path / "box", cloud, 1), random.Random(1)
    worlds.append(world)
    world.box.start()
    world.create_containers()
    for _ in range(200 if LONG else 40):
        work = world.usual()
        work.over.wait(draw.uniform(0.02, 0.5))
        world.box.kill()
        work.stop()
        if draw.random() < 0.15:  # a start is no better time to be killed at
            world.box.launch()
            time.sleep(draw.uniform(0, 0.2))
            world.box.kill()
        world.judge()
    assert world.ledger.counts["acks"] > 1000 and world.ledger.counts["conflicts"] > 0, world.ledger.counts
    world.end()


class FailpointRun:
    """Kills at failpoints, one box over all of them."""

    def __init__(self, world, cold):
        self.world, self.cold, self.times = world, cold, []
        self.sparse = False  # is there a slab to compact?

    def work_for(self, name):
        if name not in NEEDS_FULL_DEVICES:
            work = self.world.usual()
            if name in NEEDS_COLD_READS:
                work.run(self.cold.read, *self.cold.names)
            return work
        work = self.world.workload()  # what lies in small slabs is clean, so that all of a sparse one can leave it
        work.run(self.cold.read, *self.cold.names)
        work.run(work.stage, *STAGED)
        work.run(work.press, *PRESS)
        return work

    def strike(self, name, hit):
        """Was the point reached? A stop in order is the last chance: it writes the index and the superblocks."""
        box = self.world.box
        box.launch(env={"HEARTH_FAILPOINT": f"{name}:{hit}"})
        if box.serves():
            work = self.work_for(name)
            end = time.monotonic() + (BEFORE_STOP_S if name in AT_STOP else REACHED_WITHIN_S)
            while box.alive() and work.alive() and time.monotonic() < end:
                work.over.wait(0.02)
            work.stop()
        code = box.end(signal.SIGTERM)
        assert code in (0, -signal.SIGKILL), box.text()[box.log_at:]
        return code == -signal.SIGKILL

    def relieve(self):
        """What was written only to fill the devices goes; the rest reaches the cloud."""
        self.world.workload().relieve(PRESS)
        self.world.drain()

    def scatter(self):
        """The release binary is faster at it."""
        self.world.box.binary = HEARTH
        self.world.box.start()
        self.world.workload().scatter(STAGED)
        self.world.drain()
        assert self.world.box.stop() == 0
        self.world.box.binary = ASAN

    def kill_at(self, name, hit):
        begun = time.monotonic()
        if name in NEEDS_SPARSE_SLABS and not self.sparse:
            self.scatter()
        reached = self.strike(name, hit)
        self.sparse = reached and name == "record_moved"  # killed before its change: all is where it was
        self.world.judge()
        if name in NEEDS_FULL_DEVICES:
            self.relieve()
        assert self.world.box.stop() == 0
        self.times.append(f"{name}:{hit} {'' if reached else 'NOT '}reached, {time.monotonic() - begun:.1f} s")
        return reached


def test_kill__at_every_failpoint_nothing_acknowledged_is_lost_or_torn(tmp_path, cloud, worlds):
    assert os.path.exists(ASAN), "make FLAVOUR=asan all"
    world = World(tmp_path / "box", cloud, 2, size="640MiB", binary=ASAN)
    worlds.append(world)
    cold, draw = Cold(cloud, 64, MIB), random.Random(2)
    world.box.start()
    world.create_containers()
    assert world.box.stop() == 0
    run, missed = FailpointRun(world, cold), []
    for name in sorted(failpoints() - IN_FORWARDS, key=lambda n: (n in NEEDS_FULL_DEVICES, n)):
        hits = [draw.randint(1, HITS_MAX.get(name, HITS_MAX_USUAL)) for _ in range(5 if LONG else 1)]
        if not any([run.kill_at(name, hit) for hit in hits]) and not run.kill_at(name, 1):
            missed.append(name)
    print("\n".join(run.times))
    assert not missed, f"never reached: {missed}"
    world.box.start()
    world.end()


def test_kill__the_release_binary_has_no_failpoints():
    with open(HEARTH, "rb") as f:
        assert b"HEARTH_FAILPOINT" not in f.read()
