"""Append blobs on a local-only box: create, Append Block (and From URL), seal, their conditions, and what other operations
make of one.

Method: a raw signing client against the real binary; what was appended is read back byte for byte, a refused append
changes nothing."""
import base64
import hashlib
import random
import threading
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import Client, account_sas, service_sas
from support.box import ACCOUNT, KEY, Box

APPEND = {"x-ms-blob-type": "AppendBlob"}
BLOCK = {"x-ms-blob-type": "BlockBlob"}


@pytest.fixture
def ctr(api):
    name = "c" + uuid.uuid4().hex[:12]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    return name


def data(n, seed=1):
    return random.Random(seed).randbytes(n)


def create(api, path, headers=None):
    a = api.request("PUT", path, {**APPEND, **(headers or {})}, b"")
    assert a.status == 201, a
    return a


def append(api, path, body, headers=None):
    return api.request("PUT", path + "?comp=appendblock", headers or {}, body)


def told(a):
    return (a.status, a.code)


def state(api, path):
    h = api.request("HEAD", path).headers
    return h["etag"], h["content-length"], h.get("x-ms-blob-committed-block-count"), api.request("GET", path).body


def url(api, path, query=""):
    return f"http://{api.host}:{api.port}{api.base}{path}" + (f"?{query}" if query else "")


# ---- create ----

def test_create__is_empty_and_keeps_what_describes_it(api, ctr):
    a = create(api, f"/{ctr}/log", {"x-ms-meta-Kind": "log", "x-ms-blob-content-type": "text/plain",
                                    "x-ms-blob-content-md5": base64.b64encode(bytes(16)).decode()})
    assert a.headers["x-ms-request-server-encrypted"] == "true" and "content-md5" not in a.headers
    h = api.request("HEAD", f"/{ctr}/log").headers
    assert (h["x-ms-blob-type"], h["x-ms-blob-committed-block-count"], h["content-length"]) == ("AppendBlob", "0", "0")
    assert (h["x-ms-meta-kind"], h["content-type"], h["etag"]) == ("log", "text/plain", a.headers["etag"])
    assert h["content-md5"] == base64.b64encode(bytes(16)).decode()
    assert "x-ms-access-tier" not in h and "x-ms-blob-sealed" not in h
    assert api.request("GET", f"/{ctr}/log", {"x-ms-range": "bytes=0-9"}).status == 416


@pytest.mark.parametrize("headers,body,want", [
    ({}, b"x", (400, "InvalidHeaderValue")),
    ({"x-ms-blob-content-md5": "AAAA"}, b"", (400, "InvalidMd5")),
    ({"If-None-Match": "*"}, b"", (409, "BlobAlreadyExists")),
    ({"If-Match": '"0x1"'}, b"", (412, "ConditionNotMet")),
])
def test_create__refused(api, ctr, headers, body, want):
    create(api, f"/{ctr}/log")
    append(api, f"/{ctr}/log", b"kept")
    assert told(api.request("PUT", f"/{ctr}/log", {**APPEND, **headers}, body)) == want
    assert state(api, f"/{ctr}/log")[3] == b"kept"


def test_create__replaces_any_type_and_is_replaced(api, ctr):
    assert api.request("PUT", f"/{ctr}/b", BLOCK, b"block").status == 201
    create(api, f"/{ctr}/b")
    assert append(api, f"/{ctr}/b", b"one").status == 201
    create(api, f"/{ctr}/b")
    assert state(api, f"/{ctr}/b")[1:] == ("0", "0", b"")
    assert append(api, f"/{ctr}/b", b"two").status == 201
    assert api.request("PUT", f"/{ctr}/b", BLOCK, b"block").status == 201
    h = api.request("HEAD", f"/{ctr}/b").headers
    assert (h["x-ms-blob-type"], h["content-length"]) == ("BlockBlob", "5") and "x-ms-blob-committed-block-count" not in h


# ---- append ----

def test_append__says_where_and_how_many(api, ctr):
    created = create(api, f"/{ctr}/log")
    whole, etags = b"", {created.headers["etag"]}
    for i, size in enumerate([1, 65536, 65537, 100, (5 << 20) + 3, 7]):
        block = data(size, i)
        a = append(api, f"/{ctr}/log", block, {"x-ms-version": "2022-11-02"})
        assert a.status == 201, a
        assert a.headers["x-ms-blob-append-offset"] == str(len(whole))
        assert a.headers["x-ms-blob-committed-block-count"] == str(i + 1)
        assert a.headers["x-ms-request-server-encrypted"] == "true" and a.headers["x-ms-content-crc64"]
        whole += block
        etags.add(a.headers["etag"])
    assert len(etags) == 7  # each is a version
    assert state(api, f"/{ctr}/log") == (a.headers["etag"], str(len(whole)), "6", whole)
    got = api.request("GET", f"/{ctr}/log", {"x-ms-range": "bytes=65530-65540"})
    assert (got.status, got.body) == (206, whole[65530:65541])
    assert got.headers["x-ms-blob-committed-block-count"] == "6" and got.headers["x-ms-blob-type"] == "AppendBlob"


@pytest.mark.parametrize("headers,body,want", [
    ({}, b"", (400, "InvalidHeaderValue")),
    ({"Content-MD5": base64.b64encode(bytes(16)).decode()}, b"x", (400, "Md5Mismatch")),
    ({"x-ms-content-crc64": "AAAAAAAAAAA="}, b"x", (400, "Crc64Mismatch")),
    ({"x-ms-blob-condition-appendpos": "3"}, b"x", (412, "AppendPositionConditionNotMet")),
    ({"x-ms-blob-condition-appendpos": "5"}, b"x", (412, "AppendPositionConditionNotMet")),
    ({"x-ms-blob-condition-appendpos": "-1"}, b"x", (400, "InvalidHeaderValue")),
    ({"x-ms-blob-condition-maxsize": "4"}, b"x", (412, "MaxBlobSizeConditionNotMet")),
    ({"x-ms-blob-condition-maxsize": "3"}, b"x", (412, "MaxBlobSizeConditionNotMet")),
    ({"x-ms-blob-condition-maxsize": "x"}, b"x", (400, "InvalidHeaderValue")),
    ({"If-Match": '"0x1"'}, b"x", (412, "ConditionNotMet")),
    ({"If-None-Match": "*"}, b"x", (412, "ConditionNotMet")),
    ({"x-ms-lease-id": str(uuid.uuid4())}, b"x", (412, "LeaseNotPresentWithBlobOperation")),
    ({"x-ms-version": "2021-12-02"}, bytes((4 << 20) + 1), (413, "RequestBodyTooLarge")),
])
def test_append__refused_changes_nothing(api, ctr, headers, body, want):
    create(api, f"/{ctr}/log")
    assert append(api, f"/{ctr}/log", b"four").status == 201
    before = state(api, f"/{ctr}/log")
    assert told(append(api, f"/{ctr}/log", body, headers)) == want
    assert state(api, f"/{ctr}/log") == before


def test_append__conditions_that_hold(api, ctr):
    etag = create(api, f"/{ctr}/log").headers["etag"]
    a = append(api, f"/{ctr}/log", b"four", {"x-ms-blob-condition-appendpos": "0", "x-ms-blob-condition-maxsize": "4",
                                            "If-Match": etag})
    assert a.status == 201, a
    md5 = base64.b64encode(hashlib.md5(b"five!").digest()).decode()
    a = append(api, f"/{ctr}/log", b"five!", {"x-ms-blob-condition-appendpos": "4", "Content-MD5": md5})
    assert (a.status, a.headers["content-md5"]) == (201, md5) and "x-ms-content-crc64" not in a.headers
    assert append(api, f"/{ctr}/log", bytes(4 << 20), {"x-ms-version": "2021-12-02"}).status == 201


def test_append__of_what_is_no_append_blob(api, ctr):
    assert told(append(api, f"/{ctr}/none", b"x")) == (404, "BlobNotFound")
    assert api.request("PUT", f"/{ctr}/b", BLOCK, b"block").status == 201
    assert told(append(api, f"/{ctr}/b", b"x")) == (409, "InvalidBlobType")
    assert told(api.request("PUT", f"/{ctr}/b?comp=seal", {}, b"")) == (409, "InvalidBlobType")
    assert told(append(api, "/no-such-container/b", b"x")) == (404, "ContainerNotFound")
    assert told(api.request("PUT", f"/{ctr}/b?comp=appendblock", {"Content-Length": None}, b"")) \
        == (411, "MissingContentLengthHeader")


def test_append__blocks_are_not_for_an_append_blob(api, ctr):
    create(api, f"/{ctr}/log")
    assert told(api.request("PUT", f"/{ctr}/log?comp=block&blockid=AAAA", {}, b"x")) == (409, "InvalidBlobType")
    listed = b"<BlockList></BlockList>"
    assert told(api.request("PUT", f"/{ctr}/log?comp=blocklist", {}, listed)) == (409, "InvalidBlobType")
    assert told(api.request("GET", f"/{ctr}/log?comp=blocklist")) == (409, "InvalidBlobType")


def test_append__many_at_once_all_land_whole_and_once(api, ctr):
    create(api, f"/{ctr}/log")
    offsets, lock = {}, threading.Lock()

    def work(k):
        own = Client(url(api, ""), api.account, api.key)
        for i in range(40):
            block = f"{k:02}:{i:02}|".encode() * (1 + (k * i) % 50)
            a = append(own, f"/{ctr}/log", block)
            assert a.status == 201, a
            with lock:
                offsets[int(a.headers["x-ms-blob-append-offset"])] = block
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(offsets) == 320
    assert state(api, f"/{ctr}/log")[2:] == ("320", b"".join(offsets[at] for at in sorted(offsets)))


def test_append__positions_make_one_winner(api, ctr):
    create(api, f"/{ctr}/log")
    results = []

    def work(k):
        own = Client(url(api, ""), api.account, api.key)
        results.append(told(append(own, f"/{ctr}/log", b"%d" % k, {"x-ms-blob-condition-appendpos": "0"})))
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(r[0] for r in results) == [201] + [412] * 7, results
    assert {r[1] for r in results if r[0] == 412} == {"AppendPositionConditionNotMet"}
    assert state(api, f"/{ctr}/log")[1:3] == ("1", "1")


def test_append__keeps_headers_and_metadata_and_they_change_without_content(api, ctr):
    create(api, f"/{ctr}/log", {"x-ms-meta-a": "1", "x-ms-blob-content-language": "en"})
    append(api, f"/{ctr}/log", b"one")
    h = api.request("HEAD", f"/{ctr}/log").headers
    assert (h["x-ms-meta-a"], h["content-language"]) == ("1", "en")
    assert api.request("PUT", f"/{ctr}/log?comp=properties", {"x-ms-blob-content-type": "a/b", "x-ms-blob-content-md5": ""}).status == 200
    assert api.request("PUT", f"/{ctr}/log?comp=metadata", {"x-ms-meta-b": "2"}).status == 200
    append(api, f"/{ctr}/log", b"two")
    h = api.request("HEAD", f"/{ctr}/log").headers
    assert (h["content-type"], h["x-ms-meta-b"], h["content-length"]) == ("a/b", "2", "6") and "content-language" not in h
    assert state(api, f"/{ctr}/log")[2:] == ("2", b"onetwo")


def test_append__lists_show_the_type(api, ctr):
    create(api, f"/{ctr}/log")
    append(api, f"/{ctr}/log", b"four")
    create(api, f"/{ctr}/sealed")
    assert api.request("PUT", f"/{ctr}/sealed?comp=seal", {}, b"").status == 200
    text = api.request("GET", f"/{ctr}?restype=container&comp=list").body.lstrip(b"\xef\xbb\xbf")
    rows = {b.findtext("Name"): b.find("Properties") for b in xml.fromstring(text).iter("Blob")}
    assert [rows["log"].findtext(k) for k in ("BlobType", "Content-Length", "AccessTier", "Sealed")] \
        == ["AppendBlob", "4", None, None]
    assert rows["sealed"].findtext("Sealed") == "true"


def test_append__rights(api, ctr):
    create(api, f"/{ctr}/log")
    for sp, want in (("a", 201), ("w", 201), ("r", 403), ("c", 403)):
        for sas in (account_sas(api.account, api.key, sp=sp),
                    service_sas(api.account, api.key, ctr, "log", sp=sp)):
            assert api.request("PUT", f"/{ctr}/log?comp=appendblock&{sas}", {}, b"x", auth=None).status == want, sp


def test_append__a_structured_body_is_decoded(api, ctr):
    create(api, f"/{ctr}/log")
    body = bytes.fromhex("012c000000000000000100010001000500000000000000" "68656c6c6f" "5742520670857733" "5742520670857733")
    how = {"x-ms-structured-body": "XSM/1.0; properties=crc64", "x-ms-structured-content-length": "5"}
    a = append(api, f"/{ctr}/log", body, {**how, "x-ms-blob-condition-maxsize": "5"})
    assert (a.status, a.headers["x-ms-structured-body"]) == (201, how["x-ms-structured-body"]), a
    assert told(append(api, f"/{ctr}/log", body[:-1] + b"?", how)) == (400, "Crc64Mismatch")
    assert state(api, f"/{ctr}/log")[1:] == ("5", "1", b"hello")


# ---- seal ----

def test_seal__ends_appends_and_nothing_else(api, ctr):
    create(api, f"/{ctr}/log")
    append(api, f"/{ctr}/log", b"four")
    assert told(api.request("PUT", f"/{ctr}/log?comp=seal", {"x-ms-blob-condition-appendpos": "3"}, b"")) \
        == (412, "AppendPositionConditionNotMet")
    before = state(api, f"/{ctr}/log")[0]
    a = api.request("PUT", f"/{ctr}/log?comp=seal", {"x-ms-blob-condition-appendpos": "4"}, b"")
    assert (a.status, a.headers["x-ms-blob-sealed"]) == (200, "true") and a.headers["etag"] != before
    assert api.request("HEAD", f"/{ctr}/log").headers["x-ms-blob-sealed"] == "true"
    assert told(append(api, f"/{ctr}/log", b"x")) == (409, "BlobIsSealed")
    again = api.request("PUT", f"/{ctr}/log?comp=seal", {}, b"")
    assert (again.status, again.headers["etag"]) == (200, a.headers["etag"])
    assert api.request("PUT", f"/{ctr}/log?comp=metadata", {"x-ms-meta-b": "2"}).status == 200
    assert told(append(api, f"/{ctr}/log", b"x")) == (409, "BlobIsSealed")
    assert state(api, f"/{ctr}/log")[3] == b"four"
    create(api, f"/{ctr}/log")
    assert append(api, f"/{ctr}/log", b"x").status == 201
    assert told(api.request("PUT", f"/{ctr}/none?comp=seal", {}, b"")) == (404, "BlobNotFound")


# ---- from a URL, copies ----

def test_append_from_url__takes_ranges_of_any_blob(api, ctr):
    body = data(300000)
    assert api.request("PUT", f"/{ctr}/src", BLOCK, body).status == 201
    create(api, f"/{ctr}/log")
    sas = account_sas(api.account, api.key, sp="r")
    source = {"x-ms-copy-source": url(api, f"/{ctr}/src", sas)}
    a = append(api, f"/{ctr}/log", b"", {**source, "x-ms-source-range": "bytes=10-99"})
    assert a.status == 201, a
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    a = append(api, f"/{ctr}/log", b"", {**source, "x-ms-source-content-md5": md5, "x-ms-blob-condition-appendpos": "90"})
    assert (a.status, a.headers["content-md5"], a.headers["x-ms-blob-append-offset"],
            a.headers["x-ms-blob-committed-block-count"]) == (201, md5, "90", "2"), a
    own = {"x-ms-copy-source": url(api, f"/{ctr}/log", sas)}
    assert append(api, f"/{ctr}/log", b"", {**own, "x-ms-source-range": "bytes=0-9"}).status == 201
    whole = body[10:100] + body + body[10:20]
    assert state(api, f"/{ctr}/log")[2:] == ("3", whole)
    for headers, want in (
            ({**source, "x-ms-source-content-md5": base64.b64encode(bytes(16)).decode()}, (400, "Md5Mismatch")),
            ({**source, "x-ms-source-if-match": '"0x1"'}, (412, "SourceConditionNotMet")),
            ({**source, "x-ms-source-range": "bytes=300000-"}, (416, "InvalidRange")),
            ({**source, "x-ms-blob-condition-maxsize": "300101"}, (412, "MaxBlobSizeConditionNotMet")),
            ({"x-ms-copy-source": url(api, f"/{ctr}/none", sas)}, (404, "CannotVerifyCopySource")),
            ({"x-ms-copy-source": url(api, f"/{ctr}/src")}, (401, "CannotVerifyCopySource"))):
        a = append(api, f"/{ctr}/log", b"", headers)
        assert a.status == want[0] and (a.code == want[1] or want[0] == 401), (headers, a)
    assert state(api, f"/{ctr}/log")[2:] == ("3", whole)


def test_copy__keeps_the_type_and_both_grow_apart(api, ctr):
    create(api, f"/{ctr}/log")
    append(api, f"/{ctr}/log", b"one,")
    append(api, f"/{ctr}/log", b"two,")
    assert api.request("PUT", f"/{ctr}/log?comp=seal", {}, b"").status == 200
    copied = api.request("PUT", f"/{ctr}/copy", {"x-ms-copy-source": url(api, f"/{ctr}/log")})
    assert copied.status == 202, copied
    h = api.request("HEAD", f"/{ctr}/copy").headers
    assert (h["x-ms-blob-type"], h["x-ms-blob-committed-block-count"], h["x-ms-copy-status"]) == ("AppendBlob", "2", "success")
    assert "x-ms-blob-sealed" not in h
    a = append(api, f"/{ctr}/copy", b"three")
    assert (a.status, a.headers["x-ms-blob-append-offset"], a.headers["x-ms-blob-committed-block-count"]) == (201, "8", "3")
    assert "x-ms-copy-id" not in api.request("HEAD", f"/{ctr}/copy").headers
    assert state(api, f"/{ctr}/copy")[3] == b"one,two,three" and state(api, f"/{ctr}/log")[3] == b"one,two,"
    assert api.request("DELETE", f"/{ctr}/log").status == 202
    assert state(api, f"/{ctr}/copy")[3] == b"one,two,three"


def test_copy__of_another_type_does_not_replace_it(api, ctr):
    create(api, f"/{ctr}/log")
    append(api, f"/{ctr}/log", b"one")
    assert api.request("PUT", f"/{ctr}/b", BLOCK, b"block").status == 201
    for source, path in (("log", "b"), ("b", "log")):
        a = api.request("PUT", f"/{ctr}/{path}", {"x-ms-copy-source": url(api, f"/{ctr}/{source}")})
        assert told(a) == (409, "InvalidBlobType")
    sas = account_sas(api.account, api.key, sp="r")
    source = {"x-ms-copy-source": url(api, f"/{ctr}/log", sas)}
    assert told(api.request("PUT", f"/{ctr}/n", {**source, "x-ms-requires-sync": "true"})) == (409, "InvalidSourceBlobType")
    assert api.request("PUT", f"/{ctr}/n", {**source, **BLOCK}, b"").status == 201
    assert api.request("HEAD", f"/{ctr}/n").headers["x-ms-blob-type"] == "BlockBlob"
    assert api.request("PUT", f"/{ctr}/m?comp=block&blockid=AAAA", source, b"").status == 201
    assert api.request("PUT", f"/{ctr}/m?comp=blocklist", {}, b"<BlockList><Latest>AAAA</Latest></BlockList>").status == 201
    assert api.request("GET", f"/{ctr}/n").body == api.request("GET", f"/{ctr}/m").body == b"one"


def test_append__what_was_put_from_it_lives_on_without_it(tmp_path):
    """A small object that two blobs are made of goes with the last of them, after a restart too."""
    box = Box(tmp_path / "own").start()
    api = Client(box.endpoint, ACCOUNT, KEY)
    assert api.request("PUT", "/ccc?restype=container").status == 201
    for first in ("a", "b"):
        assert api.request("PUT", f"/ccc/{first}", {"x-ms-blob-type": "AppendBlob"}).status == 201
        assert api.request("PUT", f"/ccc/{first}?comp=appendblock", {}, b"ten bytes!").status == 201
        url = f"{box.endpoint}/ccc/{first}?{service_sas(ACCOUNT, KEY, 'ccc', first, sp='rt')}"
        a = api.request("PUT", f"/ccc/{first}-copy", {"x-ms-blob-type": "BlockBlob", "x-ms-copy-source": url})
        assert a.status == 201, a
    assert box.stop() == 0
    box.start()
    api = Client(box.endpoint, ACCOUNT, KEY)
    assert api.request("DELETE", "/ccc/a").status == 202 and api.request("DELETE", "/ccc/b-copy").status == 202
    for i in range(200):  # what is freed is used again
        assert api.request("PUT", f"/ccc/other{i}", {"x-ms-blob-type": "BlockBlob"}, b"other one!").status == 201
    assert box.stop() == 0
    box.start()
    api = Client(box.endpoint, ACCOUNT, KEY)
    assert api.request("GET", "/ccc/a-copy").body == api.request("GET", "/ccc/b").body == b"ten bytes!"
    assert box.stop() == 0 and box.check() == []
