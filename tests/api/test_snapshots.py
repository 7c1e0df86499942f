"""Snapshots on a local account: Snapshot Blob, everything that reads, deletes or copies one, what is refused, lists.

Method: a raw signing client against the real binary. The matrix is operation x (the blob itself, a snapshot of it, one
that is not there, what is no time); then what becomes of content under overwrites, deletes, restarts and kills, with
`hearth check` at the end. Bodies of each kind the engine knows: empty, located by its record, shared, of blocks."""
import base64
import random
import re
import signal
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import Client, now, service_sas
from support.box import ACCOUNT, KEY, Box

BLOCK = {"x-ms-blob-type": "BlockBlob"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")
NONE = "2020-01-01T00:00:00.0000000Z"
KINDS = {"empty": [0], "small": [1000], "large": [200000], "blocks": [3000, 70000, 5]}


def data(n, seed):
    return random.Random(seed).randbytes(n)


def write(api, path, kind, seed=1, headers=None):
    """Puts a blob of that kind; its content."""
    blocks = [data(n, seed * 100 + i) for i, n in enumerate(KINDS[kind])]
    if kind != "blocks":
        assert api.request("PUT", path, {**BLOCK, **(headers or {})}, blocks[0]).status == 201
        return blocks[0]
    ids = [base64.b64encode(b"%06d" % i).decode() for i in range(len(blocks))]
    for i, block in zip(ids, blocks):
        assert api.request("PUT", f"{path}?comp=block&blockid={i.replace('=', '%3D')}", {}, block).status == 201
    body = "".join(f"<Latest>{i}</Latest>" for i in ids)
    assert api.request("PUT", f"{path}?comp=blocklist", headers or {}, f"<BlockList>{body}</BlockList>".encode()).status == 201
    return b"".join(blocks)


def snapshot(api, path, headers=None):
    a = api.request("PUT", f"{path}?comp=snapshot", headers or {})
    assert a.status == 201 and TIME.fullmatch(a.headers["x-ms-snapshot"]), a
    return a.headers["x-ms-snapshot"]


def body(api, path, snap=None):
    a = api.request("GET", path + (f"?snapshot={snap}" if snap else ""))
    return a.body if a.status == 200 else (a.status, a.code)


def listed(api, ctr, query="include=snapshots"):
    """Rows of all pages: (name, snapshot or None)."""
    rows, marker, pages = [], "", 0
    while marker is not None:
        a = api.request("GET", f"/{ctr}?restype=container&comp=list&{query}" + (f"&marker={marker}" if marker else ""))
        assert a.status == 200, a
        page = xml.fromstring(a.body)
        rows += [(b.findtext("Name"), b.findtext("Snapshot")) for b in page.iter("Blob")]
        marker, pages = page.findtext("NextMarker") or None, pages + 1
        assert pages < 1000
    return rows


@pytest.fixture
def ctr(api):
    name = "c" + uuid.uuid4().hex[:12]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    return name


# ---- the matrix ----

OK_READ, NOT_FOUND, BAD_TIME = (200, None), (404, "BlobNotFound"), (400, "InvalidQueryParameterValue")
READ = {"itself": OK_READ, "snapshot": OK_READ, "absent": NOT_FOUND, "no time": BAD_TIME}


def written(status):
    return {"itself": (status, None), "snapshot": (400, "InvalidOperation"), "absent": (400, "InvalidOperation"), "no time": BAD_TIME}


LIST = b"<BlockList><Latest>MDAwMDAw</Latest></BlockList>"
MATRIX = {
    "Get Blob": ("GET", "", {}, None, READ),
    "Get Blob of a range": ("GET", "", {"x-ms-range": "bytes=10-19"}, None, {**READ, "itself": (206, None), "snapshot": (206, None)}),
    "Get Blob Properties": ("HEAD", "", {}, None, READ),
    "Get Blob Metadata": ("GET", "comp=metadata", {}, None, READ),
    "Get Block List": ("GET", "comp=blocklist&blocklisttype=all", {}, None, READ),
    "Delete Blob": ("DELETE", "", {}, None, {"itself": (409, "SnapshotsPresent"), "snapshot": (202, None), "absent": NOT_FOUND, "no time": BAD_TIME}),
    "Delete Blob, include": ("DELETE", "", {"x-ms-delete-snapshots": "include"}, None, written(202)),
    "Delete Blob, only": ("DELETE", "", {"x-ms-delete-snapshots": "only"}, None, written(202)),
    "Put Blob": ("PUT", "", BLOCK, b"new", written(201)),
    "Put Block": ("PUT", "comp=block&blockid=MDAwMDAw", {}, b"new", written(201)),
    "Put Block List": ("PUT", "comp=blocklist", {}, b"<BlockList></BlockList>", written(201)),
    "Set Blob Properties": ("PUT", "comp=properties", {"x-ms-blob-content-type": "a/b"}, None, written(200)),
    "Set Blob Metadata": ("PUT", "comp=metadata", {"x-ms-meta-a": "2"}, None, written(200)),
    "Snapshot Blob": ("PUT", "comp=snapshot", {}, None, written(201)),
    "Copy Blob": ("PUT", "", {"x-ms-copy-source": None}, None, written(202)),
}


@pytest.mark.parametrize("target", ["itself", "snapshot", "absent", "no time"])
@pytest.mark.parametrize("operation", MATRIX)
def test_operation(api, ctr, operation, target):
    method, query, headers, sent, expected = MATRIX[operation]
    path = f"/{ctr}/b"
    before = write(api, path, "blocks", headers={"x-ms-meta-a": "1"})
    snap = snapshot(api, path)
    if "x-ms-copy-source" in headers:
        write(api, f"/{ctr}/source", "small")
        headers = {"x-ms-copy-source": f"http://{api.host}:{api.port}{api.base}/{ctr}/source"}
    query += {"itself": "", "snapshot": f"&snapshot={snap}", "absent": f"&snapshot={NONE}", "no time": "&snapshot=yesterday"}[target]
    a = api.request(method, f"{path}?{query.lstrip('&')}" if query else path, headers, sent or b"")
    assert (a.status, a.code) == expected[target], a
    if a.status >= 400 or method in ("GET", "HEAD"):
        assert body(api, path) == before and body(api, path, snap) == before


# ---- taking one ----

def test_snapshot__answers_as_recorded(api, ctr):
    path = f"/{ctr}/b"
    write(api, path, "small", headers={"x-ms-meta-A": "1"})
    base = api.request("HEAD", path)
    a = api.request("PUT", f"{path}?comp=snapshot", {})
    assert (a.status, a.headers["etag"], a.headers["last-modified"]) == (201, base.headers["etag"], base.headers["last-modified"])
    assert a.headers["x-ms-request-server-encrypted"] == "false" and a.headers["content-length"] == "0"
    head = api.request("HEAD", f"{path}?snapshot={a.headers['x-ms-snapshot']}")
    differ = {n for n in set(base.headers) | set(head.headers) if base.headers.get(n) != head.headers.get(n)}
    assert differ - {"date", "x-ms-request-id"} == {"x-ms-lease-status", "x-ms-lease-state"}  # there is no lease on one
    assert api.request("HEAD", path).headers["etag"] == base.headers["etag"]


def test_snapshot__other_metadata_is_another_etag(api, ctr):
    path = f"/{ctr}/b"
    write(api, path, "large", headers={"x-ms-meta-a": "1", "x-ms-meta-b": "2"})
    base = api.request("HEAD", path)
    a = api.request("PUT", f"{path}?comp=snapshot", {"x-ms-meta-c": "3"})
    assert a.status == 201 and a.headers["etag"] != base.headers["etag"]
    head = api.request("HEAD", f"{path}?snapshot={a.headers['x-ms-snapshot']}")
    assert head.headers["etag"] == a.headers["etag"] and head.headers["last-modified"] == a.headers["last-modified"]
    assert {n: v for n, v in head.headers.items() if n.startswith("x-ms-meta-")} == {"x-ms-meta-c": "3"}
    assert api.request("HEAD", path).headers["x-ms-meta-b"] == "2"


def test_snapshot__times_rise_and_never_repeat(api, ctr):
    write(api, f"/{ctr}/b", "small")
    times = [snapshot(api, f"/{ctr}/b") for _ in range(30)]
    assert times == sorted(set(times))
    assert listed(api, ctr) == [("b", t) for t in times] + [("b", None)]


@pytest.mark.parametrize("name,value,status,code", [
    ("If-Match", "etag", 201, None), ("If-Match", '"0x1"', 412, "ConditionNotMet"), ("If-None-Match", "etag", 412, "ConditionNotMet"),
    ("If-Modified-Since", now(-3600), 201, None), ("If-Modified-Since", now(3600), 412, "ConditionNotMet"),
    ("If-Unmodified-Since", now(3600), 201, None), ("If-Unmodified-Since", now(-3600), 412, "ConditionNotMet"),
    ("x-ms-lease-id", str(uuid.UUID(int=1)), 412, "LeaseNotPresentWithBlobOperation"), ("x-ms-meta-9", "1", 400, "InvalidMetadata")])
def test_snapshot__conditions_are_of_the_blob(api, ctr, name, value, status, code):
    path = f"/{ctr}/b"
    write(api, path, "small")
    value = api.request("HEAD", path).headers["etag"] if value == "etag" else value
    a = api.request("PUT", f"{path}?comp=snapshot", {name: value})
    assert (a.status, a.code) == (status, code)
    assert len(listed(api, ctr)) == (2 if status == 201 else 1)


def test_snapshot__of_what_is_not_there(api, ctr):
    a = api.request("PUT", f"/{ctr}/b?comp=snapshot", {})
    assert (a.status, a.code) == (404, "BlobNotFound")
    assert api.request("PUT", f"/{ctr}/b?comp=block&blockid=MDAwMDAw", {}, b"x").status == 201
    a = api.request("PUT", f"/{ctr}/b?comp=snapshot", {})
    assert (a.status, a.code) == (404, "BlobNotFound")
    a = api.request("PUT", "/nocontainer/b?comp=snapshot", {})
    assert (a.status, a.code) == (404, "ContainerNotFound")


def test_snapshot__of_a_leased_blob_needs_no_lease_and_has_none(api, ctr):
    path, held, other = f"/{ctr}/b", str(uuid.UUID(int=1)), {"x-ms-lease-id": str(uuid.UUID(int=2))}
    write(api, path, "large")
    assert api.request("PUT", f"{path}?comp=lease", {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1",
                                                     "x-ms-proposed-lease-id": held}).status == 201
    taken = [snapshot(api, path), snapshot(api, path, {"x-ms-lease-id": held})]
    assert api.request("PUT", f"{path}?comp=snapshot", other).code == "LeaseIdMismatchWithBlobOperation"
    assert "x-ms-lease-state" not in api.request("HEAD", f"{path}?snapshot={taken[0]}").headers
    assert api.request("HEAD", path).headers["x-ms-lease-state"] == "leased"
    a = api.request("PUT", f"{path}?comp=lease&snapshot={taken[0]}", {"x-ms-lease-action": "break"})
    assert (a.status, a.code) == (400, "InvalidOperation")
    assert api.request("DELETE", path, {"x-ms-delete-snapshots": "only"}).code == "LeaseIdMissing"
    assert api.request("DELETE", f"{path}?snapshot={taken[0]}").status == 202
    assert api.request("DELETE", path, {"x-ms-delete-snapshots": "only", "x-ms-lease-id": held}).status == 202
    assert listed(api, ctr) == [("b", None)] and api.request("HEAD", path).headers["x-ms-lease-state"] == "leased"


# ---- what stays, what goes ----

@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_content__is_that_of_its_time(api, ctr, first, second):
    path, texts, times = f"/{ctr}/b", [], []
    for i, kind in enumerate([first, second, first]):
        texts.append(write(api, path, kind, seed=i + 1))
        times += [snapshot(api, path), snapshot(api, path, {"x-ms-meta-n": str(i)})]
    for i, time in enumerate(times):
        assert body(api, path, time) == texts[i // 2], time
    for time in (times[2], times[4]):
        assert api.request("DELETE", f"{path}?snapshot={time}").status == 202
        assert body(api, path, time) == NOT_FOUND
        assert api.request("DELETE", f"{path}?snapshot={time}").code == "BlobNotFound"
    for i in (0, 1, 3, 5):
        assert body(api, path, times[i]) == texts[i // 2]
    assert body(api, path) == texts[2]
    assert listed(api, ctr) == [("b", times[i]) for i in (0, 1, 3, 5)] + [("b", None)]


def test_content__of_an_append_blob_is_its_beginning(api, ctr):
    path, texts, times = f"/{ctr}/a", [b""], []
    assert api.request("PUT", path, {"x-ms-blob-type": "AppendBlob"}).status == 201
    for i in range(4):
        times.append(snapshot(api, path))
        assert api.request("PUT", f"{path}?comp=appendblock", {}, data(70000, i)).status == 201
        texts.append(texts[-1] + data(70000, i))
    assert [body(api, path, t) for t in times] == texts[:-1] and body(api, path) == texts[-1]
    assert api.request("HEAD", f"{path}?snapshot={times[2]}").headers["x-ms-blob-committed-block-count"] == "2"
    assert api.request("PUT", f"{path}?comp=appendblock&snapshot={times[2]}", {}, b"x").code == "InvalidOperation"
    assert api.request("PUT", path, BLOCK, b"x").code == "SnapshotsPresent"  # of another type
    assert api.request("PUT", f"/{ctr}/to", {"x-ms-copy-source": f"http://{api.host}:{api.port}{api.base}{path}?snapshot={times[3]}"}).status == 202
    assert api.request("PUT", path, {"x-ms-blob-type": "AppendBlob"}).status == 201
    assert [body(api, path, t) for t in times] == texts[:-1] and body(api, f"/{ctr}/to") == texts[3]
    assert api.request("DELETE", f"{path}?snapshot={times[1]}").status == 202
    assert body(api, path, times[2]) == texts[2]


@pytest.mark.parametrize("kind", KINDS)
def test_delete__only_and_include(api, ctr, kind):
    path = f"/{ctr}/b"
    text = write(api, path, kind)
    old = [snapshot(api, path) for _ in range(3)]
    assert api.request("DELETE", path).code == "SnapshotsPresent"
    assert api.request("DELETE", path, {"x-ms-delete-snapshots": "only"}).status == 202
    assert body(api, path) == text and [body(api, path, t) for t in old] == [NOT_FOUND] * 3
    assert listed(api, ctr) == [("b", None)]
    assert api.request("DELETE", path, {"x-ms-delete-snapshots": "only"}).status == 202  # there is nothing to delete
    new = snapshot(api, path)
    assert body(api, path, new) == text and body(api, path, old[2]) == NOT_FOUND
    assert api.request("DELETE", path, {"x-ms-delete-snapshots": "include"}).status == 202
    assert body(api, path) == NOT_FOUND and body(api, path, new) == NOT_FOUND and listed(api, ctr) == []
    again = write(api, path, kind, seed=7)
    assert body(api, path, new) == NOT_FOUND and listed(api, ctr) == [("b", None)]
    assert body(api, path, snapshot(api, path)) == again
    assert api.request("DELETE", path).code == "SnapshotsPresent"


def test_delete__headers(api, ctr):
    path = f"/{ctr}/b"
    write(api, path, "small")
    snap = snapshot(api, path)
    for headers, query, status, code in [
            ({"x-ms-delete-snapshots": "all"}, "", 400, "InvalidHeaderValue"),
            ({"x-ms-delete-snapshots": "include"}, f"?snapshot={snap}", 400, "InvalidOperation"),
            ({"If-Match": '"0x1"'}, f"?snapshot={snap}", 412, "ConditionNotMet"),
            ({"If-Match": '"0x1"', "x-ms-delete-snapshots": "only"}, "", 412, "ConditionNotMet"),
            ({"If-None-Match": "*"}, f"?snapshot={snap}", 412, "ConditionNotMet"),
            ({"x-ms-lease-id": str(uuid.UUID(int=1))}, f"?snapshot={snap}", 412, "LeaseNotPresentWithBlobOperation")]:
        a = api.request("DELETE", path + query, headers)
        assert (a.status, a.code) == (status, code), (headers, query)
    a = api.request("DELETE", f"{path}?snapshot={snap}", {"If-Match": api.request("HEAD", path).headers["etag"]})
    assert (a.status, a.headers["x-ms-delete-type-permanent"]) == (202, "true")
    assert api.request("DELETE", path).status == 202


def test_container__takes_them_along(api, ctr):
    write(api, f"/{ctr}/b", "large")
    snap = snapshot(api, f"/{ctr}/b")
    assert api.request("DELETE", f"/{ctr}?restype=container").status == 202
    assert body(api, f"/{ctr}/b", snap)[0] == 404
    assert api.request("PUT", f"/{ctr}?restype=container").status == 201
    assert body(api, f"/{ctr}/b", snap) == NOT_FOUND and listed(api, ctr) == []


# ---- copies ----

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headers", [{}, {"x-ms-requires-sync": "true"}, BLOCK], ids=["async", "sync", "put"])
def test_copy__of_a_snapshot(api, ctr, kind, headers):
    path = f"/{ctr}/b"
    text = write(api, path, kind, headers={"x-ms-meta-a": "1"})
    snap = snapshot(api, path)
    write(api, path, "small", seed=9)
    sas = service_sas(ACCOUNT, KEY, ctr, "b", snapshot=snap, sr="bs", sp="r")
    source = f"http://{api.host}:{api.port}{api.base}{path}?snapshot={snap}" + ("" if headers == {} else f"&{sas}")
    for to in ("other", "b"):  # the second promotes it
        a = api.request("PUT", f"/{ctr}/{to}", {**headers, "x-ms-copy-source": source})
        assert a.status in (201, 202), a
        assert body(api, f"/{ctr}/{to}") == text
        head = api.request("HEAD", f"/{ctr}/{to}").headers
        assert head.get("x-ms-meta-a") == (None if headers == BLOCK else "1")
        if headers != BLOCK:
            assert head["x-ms-copy-source"].endswith(f"{path}?snapshot={snap}")
    assert body(api, path, snap) == text
    a = api.request("PUT", f"/{ctr}/to", {"x-ms-copy-source": f"http://{api.host}:{api.port}{api.base}{path}?snapshot={NONE}"})
    assert (a.status, a.code, a.headers["x-ms-copy-source-error-code"]) == (404, "CannotVerifyCopySource", "BlobNotFound")


def test_put_block_from_url__of_a_snapshot(api, ctr):
    path = f"/{ctr}/b"
    text = write(api, path, "large")
    snap = snapshot(api, path)
    assert api.request("DELETE", path, {"x-ms-delete-snapshots": "bad"}).status == 400
    write(api, path, "small", seed=3)
    sas = service_sas(ACCOUNT, KEY, ctr, None, sr="c", sp="r")
    a = api.request("PUT", f"/{ctr}/to?comp=block&blockid=MDAwMDAw", {
        "x-ms-copy-source": f"http://{api.host}:{api.port}{api.base}{path}?snapshot={snap}&{sas}", "x-ms-source-range": "bytes=5-99"})
    assert a.status == 201, a
    assert api.request("PUT", f"/{ctr}/to?comp=blocklist", {}, LIST).status == 201
    assert body(api, f"/{ctr}/to") == text[5:100]


def test_sas__of_a_snapshot_is_for_that_one(api, ctr):
    path = f"/{ctr}/b"
    text = write(api, path, "small")
    snap, other = snapshot(api, path), snapshot(api, path)
    sas = service_sas(ACCOUNT, KEY, ctr, "b", snapshot=snap, sr="bs", sp="r")
    assert api.request("GET", f"{path}?snapshot={snap}&{sas}", auth=None).body == text
    for query in ("", f"snapshot={other}&"):
        assert api.request("GET", f"{path}?{query}{sas}", auth=None).status == 403


# ---- lists ----

def test_list__pages_may_end_within_a_name(api, ctr):
    expected = []
    for name, n in (("a", 0), ("b", 3), ("b/c", 1), ("b0", 2)):
        write(api, f"/{ctr}/{name}", "small")
        expected += [(name, snapshot(api, f"/{ctr}/{name}")) for _ in range(n)] + [(name, None)]
    for n in range(1, 12):
        assert listed(api, ctr, f"include=snapshots&maxresults={n}") == expected, n
    assert listed(api, ctr, "maxresults=1") == [(name, None) for name, time in expected if not time]
    assert listed(api, ctr, "include=snapshots&prefix=b/") == [row for row in expected if row[0] == "b/c"]
    assert listed(api, ctr, "include=snapshots&startFrom=b/") == [row for row in expected if row[0] >= "b/"]
    a = api.request("GET", f"/{ctr}?restype=container&comp=list&include=snapshots&delimiter=/")
    assert (a.status, a.code) == (400, "InvalidQueryParameterValue")


def test_list__row_as_recorded(api, ctr):
    write(api, f"/{ctr}/b", "small", headers={"x-ms-meta-a": "1"})
    snap = snapshot(api, f"/{ctr}/b", {"x-ms-meta-b": "2"})
    a = api.request("GET", f"/{ctr}?restype=container&comp=list&include=snapshots,metadata")
    rows = [r for r in a.body.decode().split("<Blob>")[1:]]
    assert rows[0].startswith(f"<Name>b</Name><Snapshot>{snap}</Snapshot><Properties><Creation-Time>")
    assert "Lease" not in rows[0] and "<Metadata><b>2</b></Metadata>" in rows[0]
    assert "Snapshot" not in rows[1] and "<LeaseState>available</LeaseState>" in rows[1] and "<Metadata><a>1</a></Metadata>" in rows[1]


# ---- crash, restart, space ----

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL], ids=["stop", "kill"])
def test_restart__nothing_is_lost_and_all_space_comes_back(tmp_path, sig):
    box = Box(tmp_path / "box").start()
    try:
        api = Client(box.endpoint, ACCOUNT, KEY)
        assert api.request("PUT", "/ctr?restype=container").status == 201
        held = {}
        for kind in KINDS:
            for seed in (1, 2):
                text = write(api, f"/ctr/{kind}", kind, seed=seed)
                held[kind, snapshot(api, f"/ctr/{kind}")] = text
            held[kind, None] = text
            write(api, f"/ctr/gone{kind}", kind)
            snapshot(api, f"/ctr/gone{kind}")
            write(api, f"/ctr/gone{kind}", kind, seed=5)
            assert api.request("DELETE", f"/ctr/gone{kind}", {"x-ms-delete-snapshots": "include"}).status == 202
        times = {kind: [t for k, t in held if k == kind and t] for kind in KINDS}
        box.end(sig)
        box.start()
        api = Client(box.endpoint, ACCOUNT, KEY)
        for (kind, time), text in held.items():
            assert body(api, f"/ctr/{kind}", time) == text
        assert sorted(listed(api, "ctr"), key=lambda r: (r[0], r[1] or "z")) == sorted(held, key=lambda r: (r[0], r[1] or "z"))
        for kind in KINDS:
            assert api.request("DELETE", f"/ctr/{kind}").code == "SnapshotsPresent"
            assert api.request("DELETE", f"/ctr/{kind}?snapshot={times[kind][0]}").status == 202
            assert body(api, f"/ctr/{kind}", times[kind][1]) == held[kind, times[kind][1]]
        box.end(sig)
        assert box.check() == []
        box.start()
        api = Client(box.endpoint, ACCOUNT, KEY)
        for kind in KINDS:
            assert api.request("DELETE", f"/ctr/{kind}", {"x-ms-delete-snapshots": "include"}).status == 202
        assert box.stop() == 0 and box.check() == []
    finally:
        box.kill()
