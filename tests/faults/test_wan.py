"""What the WAN does to reads and write-back: everything comes once, nothing wrong comes whole, nothing is lost.
Real processes: a box, the proxy of tests/support/wan_proxy.py, Azurite."""
import os
import random
import threading
import time
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException

import pytest
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas

from support.box import ACCOUNT, KEY, Box, wait_until

MIB = 1 << 20
COLD_BYTES = (256 if os.environ.get("HEARTH_LONG") else 52) * MIB
SAS = generate_account_sas(ACCOUNT, KEY, ResourceTypes(object=True), AccountSasPermissions(read=True),
                           datetime.utcnow() + timedelta(days=1))


def client(endpoint, **options):
    return BlobServiceClient(endpoint, credential={"account_name": ACCOUNT, "account_key": KEY}, retry_total=0,
                             max_single_get_size=512 * MIB, max_single_put_size=64 * MIB, **options)


def data_of(name, n):
    draw = random.Random(name)
    return b"".join(draw.randbytes(min(n - at, 64 * MIB)) for at in range(0, n, 64 * MIB))  # 256 MiB in one overflow a C int


@pytest.fixture(scope="module")
def cloud(module_cloud):
    return module_cloud


@pytest.fixture
def box(tmp_path, wan):
    box = Box(tmp_path / "box", cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}").start()
    yield box
    box.kill()


@pytest.fixture
def container(cloud, request):
    """A new container in the cloud that the box has not heard of."""
    name = "c" + str(abs(hash(request.node.name)))[:12]
    client(cloud.endpoint).create_container(name)
    return name


def readers(count, read):
    """Runs read(i) in that many threads; their results, exceptions included."""
    results = [None] * count

    def run(i):
        try:
            results[i] = read(i)
        except Exception as e:  # pylint: disable=broad-except
            results[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def stream(box, path, want, at=0, headers=None):
    """One raw GET, compared as it comes: True, "cut", or what is wrong with a whole answer. (In one that is cut in the
    end, bytes may be wrong: they leave as they arrive, only the last 64 KiB wait for the check.)"""
    http = HTTPConnection("127.0.0.1", box.port, timeout=300)
    http.request("GET", f"/{ACCOUNT}/{path}?{SAS}", headers=headers or {})
    answer, end, wrong = http.getresponse(), at + len(want), []
    if answer.status not in (200, 206) or int(answer.headers["Content-Length"]) != len(want):
        return f"{answer.status} {answer.headers}"
    done = at
    while done < end:
        try:
            piece = answer.read(min(MIB, end - done))
        except (HTTPException, OSError):
            return "cut"
        if piece != want[done - at:done - at + len(piece)]:
            wrong.append(done)
        if not piece:
            return "cut"
        done += len(piece)
    return f"whole, and wrong at {wrong}" if wrong else True


def test_64_readers_of_a_cold_blob_cost_the_cloud_its_size_once(box, wan, cloud, container):
    want = data_of("cold", COLD_BYTES)
    client(cloud.endpoint).get_blob_client(container, "cold").upload_blob(want, max_concurrency=2)
    assert readers(64, lambda i: stream(box, f"{container}/cold", want)) == [True] * 64
    assert wan.blob_bytes == COLD_BYTES
    assert stream(box, f"{container}/cold", want) is True
    assert wan.blob_bytes == COLD_BYTES


def test_64_readers_of_scattered_ranges_cost_each_unit_once(box, wan, cloud, container):
    want = data_of("ranges", COLD_BYTES)
    client(cloud.endpoint).get_blob_client(container, "ranges").upload_blob(want, max_concurrency=2)
    rng = random.Random(7)
    ranges = [(rng.randrange(COLD_BYTES - 300000), rng.randrange(1, 300000)) for _ in range(64 * 8)]

    def read(i):
        for at, n in ranges[i * 8:i * 8 + 8]:
            right = stream(box, f"{container}/ranges", want[at:at + n], at, {"x-ms-range": f"bytes={at}-{at + n - 1}"})
            if right is not True:
                return right
        return True

    assert readers(64, read) == [True] * 64
    units = {u for at, n in ranges for u in range(at // 65536, (at + n - 1) // 65536 + 1)}
    assert wan.blob_bytes == len(units) * 65536


@pytest.mark.parametrize("skip", range(4))  # the first range or a later one
def test_a_corrupted_byte_never_reaches_a_client_in_a_complete_answer(box, wan, cloud, container, skip):
    want = data_of(f"corrupt{skip}", 18 * MIB)
    client(cloud.endpoint).get_blob_client(container, "b").upload_blob(want)
    wan.match, wan.corrupt, wan.skip = f"GET /{ACCOUNT}/{container}/b", 1, skip

    got = readers(8, lambda i: stream(box, f"{container}/b", want))
    assert wan.corrupt == 0  # it was on the way
    assert set(got) <= {True, "cut"}, got
    assert stream(box, f"{container}/b", want) is True


def test_a_cut_body_goes_on_where_it_was_cut(box, wan, cloud, container):
    want = data_of("cut", 4 * MIB)
    client(cloud.endpoint).get_blob_client(container, "cut").upload_blob(want)
    wan.match, wan.cut_body = f"GET /{ACCOUNT}/{container}/cut", 3
    assert client(box.endpoint).get_blob_client(container, "cut").download_blob().readall() == want
    assert wan.cut_body == 0
    assert wan.blob_bytes == len(want)


def test_warm_reads_do_not_wait_for_a_stalled_wan(tmp_path, wan, cloud, container):
    """What is known is due for revalidation after a second, and the WAN swallows everything: `serve` answers what is
    here, marked stale, before the WAN's own timeouts could end; `fail` waits for them and says 503."""
    box = Box(tmp_path / "bounded", cloud=f"http://127.0.0.1:{wan.port}/{ACCOUNT}", contracts=f"""
        contract "{container}/strict*" {{ write = back fresh = "bounded 1s" offline = fail }}
        contract "*" {{ write = back fresh = "bounded 1s" offline = serve }}""").start()
    want = data_of("warm", MIB)
    for name in ("warm", "strict"):
        client(cloud.endpoint).get_blob_client(container, name).upload_blob(want)
        assert client(box.endpoint).get_blob_client(container, name).download_blob().readall() == want
    wan.stall = True

    def get(name, method="GET"):
        http = HTTPConnection("127.0.0.1", box.port, timeout=5 if name == "warm" else 120)
        http.request(method, f"/{ACCOUNT}/{container}/{name}?{SAS}")
        answer = http.getresponse()
        return answer.status, answer.headers["x-hearth-cache"], answer.read()

    wait_until(lambda: get("warm")[1] == "stale", what="the knowledge to expire")
    for _ in range(20):
        assert get("warm") == (200, "stale", want)
        assert get("warm", "HEAD")[:2] == (200, "stale")
    wait_until(lambda: get("strict")[0] == 503, what="the knowledge to expire")
    wan.stall = False
    wait_until(lambda: get("strict")[0] == 200 and get("warm")[1] == "hit", what="the WAN to be believed again")
    assert box.stop() == 0


def test_lost_answers_are_proved_and_nothing_is_written_twice(box, wan, cloud):
    service, far = client(box.endpoint), client(cloud.endpoint)
    c = service.create_container("lost")
    wait_until(box.drained, what="the container")
    wan.match, wan.lose_answer = f"PUT /{ACCOUNT}/lost/", 5
    for i in range(10):
        c.upload_blob(f"b{i}", data_of(i, 200000), metadata={"i": str(i)})
    c.upload_blob("big", data_of("big", 20 * MIB))
    wait_until(box.drained, seconds=120, what="write-back")
    assert wan.lose_answer == 0
    assert box.metric("upstream_uploads_held_total") == 0
    for i in range(10):
        blob = far.get_blob_client("lost", f"b{i}")
        assert blob.download_blob().readall() == data_of(i, 200000)
        assert blob.get_blob_properties().metadata == {"i": str(i)}
    assert far.get_blob_client("lost", "big").download_blob().readall() == data_of("big", 20 * MIB)


def test_a_lost_commit_is_found_by_our_ids(box, wan, cloud):
    c = client(box.endpoint).create_container("commit")
    c.upload_blob("big", data_of("old", 20 * MIB))
    wait_until(box.drained, seconds=120, what="the version to be overwritten")
    wan.reset()
    wan.match, wan.lose_answer = f"PUT /{ACCOUNT}/commit/big?comp=blocklist", 1
    c.upload_blob("big", data_of("new", 20 * MIB), overwrite=True)
    wait_until(box.drained, seconds=120, what="write-back")
    assert box.metric("upstream_uploads_proved_total") == 1
    assert sum(m == "PUT" and "comp=block&" in t for m, t, _ in wan.requests) == 3
    assert client(cloud.endpoint).get_blob_client("commit", "big").download_blob().readall() == data_of("new", 20 * MIB)


def test_an_upload_that_is_cut_off_sends_no_block_twice(box, wan, cloud):
    c = client(box.endpoint).create_container("blocks")
    wait_until(box.drained, what="the container")
    wan.rate = 40 * MIB
    c.upload_blob("big", data_of("blocks", 60 * MIB))
    wait_until(lambda: sum("comp=block&" in t for _, t, _ in wan.requests) >= 3, what="some blocks")
    wan.outage()
    time.sleep(0.5)
    before = sum("comp=block&" in t and s == 201 for _, t, s in wan.requests)
    wan.rate = 0
    wan.heal()
    wait_until(box.drained, seconds=120, what="write-back")
    sent = sum("comp=block&" in t and s == 201 for _, t, s in wan.requests)
    assert before >= 3 and sent <= 8 + 4  # those in flight at the cut may come twice
    assert client(cloud.endpoint).get_blob_client("blocks", "big").download_blob().readall() == data_of("blocks", 60 * MIB)


def test_busy_answers_are_waited_out(box, wan, cloud):
    c = client(box.endpoint).create_container("busy")
    wait_until(box.drained, what="the container")
    wan.match, wan.fail = f"PUT /{ACCOUNT}/busy/", [503, 4]
    for i in range(4):
        c.upload_blob(f"b{i}", data_of(i, 1000))
    wait_until(box.drained, seconds=60, what="write-back")
    assert wan.fail == [503, 0]
    assert len(list(client(cloud.endpoint).get_container_client("busy").list_blobs())) == 4


def test_a_dead_wan_is_told_within_bounds_and_its_return_is_found(box, wan, cloud, container):
    client(cloud.endpoint).get_blob_client(container, "b").upload_blob(b"x" * 1000)
    blob = client(box.endpoint).get_blob_client(container, "b")
    wan.outage()
    for _ in range(5):
        start = time.monotonic()
        with pytest.raises(AzureError):
            blob.download_blob().readall()
        assert time.monotonic() - start < 10
    wan.heal()

    def reads():
        try:
            return blob.download_blob().readall() == b"x" * 1000
        except AzureError:
            return False

    wait_until(reads, seconds=15, what="the breaker to close")


def test_listings_come_once(box, wan, cloud, container):
    far = client(cloud.endpoint).get_container_client(container)
    names = sorted(f"{d}/{i:03d}" for d in ("a", "b", "ü") for i in range(40)) + ["top"]
    for n in names:
        far.upload_blob(n, b"x")
    near = client(box.endpoint).get_container_client(container)
    for _ in range(2):
        assert [b.name for b in near.list_blobs()] == sorted(names, key=lambda n: n.encode())
        assert [b.name for b in near.list_blobs(results_per_page=7)] == sorted(names, key=lambda n: n.encode())
    flat = sum("comp=list" in t for _, t, _ in wan.requests)
    assert flat <= 2
    for _ in range(2):
        assert sorted(b.name for b in near.walk_blobs()) == ["a/", "b/", "top", "ü/"]
        assert [b.name for b in near.walk_blobs("a/")] == [f"a/{i:03d}" for i in range(40)]
    assert sum("comp=list" in t for _, t, _ in wan.requests) <= flat + 2


def test_a_cold_blob_that_the_cloud_has_replaced_or_lost_is_an_answer(box, wan, cloud, container):
    """Known by its first bytes, the rest cold: what the cloud refuses (412, 404) is not asked for ever."""
    there, here = (client(e).get_container_client(container) for e in (cloud.endpoint, box.endpoint))
    old, new = data_of("old", 12 * MIB), data_of("new", 9 * MIB)
    for name in ("replaced", "lost"):
        there.upload_blob(name, old)
        assert here.get_blob_client(name).download_blob(offset=0, length=100).readall() == old[:100]
    there.upload_blob("replaced", new, overwrite=True)
    there.delete_blob("lost")
    wan.reset()
    blob = here.get_blob_client("replaced")
    assert blob.download_blob(offset=8 * MIB, length=1000).readall() == new[8 * MIB:8 * MIB + 1000]
    assert blob.download_blob().readall() == new
    with pytest.raises(ResourceNotFoundError):
        here.get_blob_client("lost").download_blob(offset=8 * MIB, length=1000).readall()
    assert len(wan.requests) < 40
