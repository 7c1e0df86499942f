"""Copies whose source is this box: Copy Blob, Copy Blob From URL, Put Blob From URL, Put Block From URL, Abort Copy.

Method: a raw signing client against the real binary with two accounts. What comes of a copy is read back byte for
byte; a refused one changes nothing. External sources are a listening socket of the test that nobody may connect to."""
import base64
import hashlib
import os
import random
import socket
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import Client, account_sas, now, service_sas
from support.box import ACCOUNT, KEY, Box

OTHER, OTHER_KEY = "second", base64.b64encode(b"another account's key, of 64 bytes or so").decode()
BLOCK = {"x-ms-blob-type": "BlockBlob"}
SYNC = {"x-ms-requires-sync": "true"}


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    second = f'account "{OTHER}" {{ key = "{OTHER_KEY}" aliases = {{ "second.example" }} contract "*" {{ write = local }} }}'
    box = Box(tmp_path_factory.mktemp("box"), top=second, account='aliases = { "first.example" }').start()
    yield box
    assert box.stop() == 0, box.text()[-4000:]


@pytest.fixture(scope="module")
def first(box):
    return Client(box.endpoint, ACCOUNT, KEY)


@pytest.fixture(scope="module")
def second(box):
    return Client(box.endpoint.replace(ACCOUNT, OTHER), OTHER, OTHER_KEY)


@pytest.fixture
def ctr(first, second):
    name = "c" + uuid.uuid4().hex[:12]
    for api in (first, second):
        assert api.request("PUT", f"/{name}?restype=container").status == 201
    return name


def data(n, seed=1):
    return random.Random(seed).randbytes(n)


def url(api, path, query=""):
    return f"http://{api.host}:{api.port}{api.base}{path}" + (f"?{query}" if query else "")


def read_sas(api, **more):
    return account_sas(api.account, api.key, **{"sp": "r", **more})


def put(api, path, body, headers=None):
    a = api.request("PUT", path, {**BLOCK, **(headers or {})}, body)
    assert a.status == 201, a
    return a


def put_blocks(api, path, blocks):
    for i, block in enumerate(blocks):
        block_id = base64.b64encode(b"%06d" % i).decode().replace("=", "%3D")
        assert api.request("PUT", f"{path}?comp=block&blockid={block_id}", {}, block).status == 201
    ids = "".join(f"<Latest>{base64.b64encode(b'%06d' % i).decode()}</Latest>" for i in range(len(blocks)))
    a = api.request("PUT", f"{path}?comp=blocklist", {}, f"<BlockList>{ids}</BlockList>".encode())
    assert a.status == 201, a


def body(api, path):
    a = api.request("GET", path)
    return a.body if a.status == 200 else (a.status, a.code)


def copy(api, source, path, headers=None):
    return api.request("PUT", path, {"x-ms-copy-source": source, **(headers or {})})


# ---- Copy Blob ----

@pytest.mark.parametrize("size", [0, 1, 65536, 65537, (5 << 20) + 11])
def test_copy__is_complete_on_its_202(first, ctr, size):
    put(first, f"/{ctr}/a%20b", data(size), {"x-ms-meta-Step": "7", "x-ms-blob-content-type": "x/y",
                                           "x-ms-blob-cache-control": "no-cache"})
    a = copy(first, url(first, f"/{ctr}/a%20b"), f"/{ctr}/d/b")
    assert (a.status, a.headers["x-ms-copy-status"]) == (202, "success"), a
    assert uuid.UUID(a.headers["x-ms-copy-id"])
    h = first.request("HEAD", f"/{ctr}/d/b").headers
    assert h["etag"] == a.headers["etag"] and h["x-ms-copy-id"] == a.headers["x-ms-copy-id"]
    assert h["x-ms-copy-source"] == url(first, f"/{ctr}/a%20b")
    assert (h["x-ms-copy-status"], h["x-ms-copy-progress"]) == ("success", f"{size}/{size}")
    assert h["x-ms-copy-completion-time"].endswith(" GMT")
    assert (h["x-ms-meta-step"], h["content-type"], h["cache-control"]) == ("7", "x/y", "no-cache")
    assert h["content-md5"] == base64.b64encode(hashlib.md5(data(size)).digest()).decode()
    assert body(first, f"/{ctr}/d/b") == data(size)
    assert first.request("DELETE", f"/{ctr}/a%20b").status == 202
    assert body(first, f"/{ctr}/d/b") == data(size)  # the bytes are the copy's too


def test_copy__metadata_given_is_all_there_is_and_headers_stay_the_sources(first, ctr):
    put(first, f"/{ctr}/a", b"x", {"x-ms-meta-one": "1", "x-ms-blob-content-type": "x/y"})
    assert copy(first, url(first, f"/{ctr}/a"), f"/{ctr}/b", {"x-ms-meta-two": "2"}).status == 202
    h = first.request("HEAD", f"/{ctr}/b").headers
    assert "x-ms-meta-one" not in h and (h["x-ms-meta-two"], h["content-type"]) == ("2", "x/y")


def test_copy__properties_show_in_lists_and_go_with_a_later_write(first, ctr):
    put(first, f"/{ctr}/a", b"x")
    a = copy(first, url(first, f"/{ctr}/a"), f"/{ctr}/b")

    def listed(include=""):
        text = first.request("GET", f"/{ctr}?restype=container&comp=list{include}").body
        return {b.findtext("Name"): b.find("Properties") for b in xml.fromstring(text.lstrip(b"\xef\xbb\xbf")).iter("Blob")}
    b = listed("&include=copy")["b"]
    assert b.findtext("CopyId") == a.headers["x-ms-copy-id"] and b.findtext("CopyStatus") == "success"
    assert b.findtext("CopySource") == url(first, f"/{ctr}/a") and b.findtext("CopyProgress") == "1/1"
    assert b.findtext("CopyCompletionTime") and listed("&include=copy")["a"].find("CopyId") is None
    assert listed()["b"].find("CopyId") is None
    assert first.request("PUT", f"/{ctr}/b?comp=metadata", {"x-ms-meta-k": "v"}).status == 200
    assert "x-ms-copy-id" in first.request("HEAD", f"/{ctr}/b").headers
    assert first.request("PUT", f"/{ctr}/b?comp=properties", {"x-ms-blob-content-type": "a/b"}).status == 200
    assert "x-ms-copy-id" not in first.request("HEAD", f"/{ctr}/b").headers


def test_copy__has_the_sources_block_list_and_the_source_can_go_on(first, ctr):
    blocks = [data(n, n) for n in (100000, 1000, 70000)]
    put_blocks(first, f"/{ctr}/a", blocks)
    assert copy(first, url(first, f"/{ctr}/a"), f"/{ctr}/b").status == 202
    lists = [first.request("GET", f"/{ctr}/{n}?comp=blocklist").body for n in "ab"]
    assert lists[0] == lists[1] and lists[0].count(b"<Block>") == 3
    put(first, f"/{ctr}/a", b"new")
    assert body(first, f"/{ctr}/b") == b"".join(blocks)
    # the copy's committed blocks can be used again
    ids = "".join(f"<Committed>{base64.b64encode(b'%06d' % i).decode()}</Committed>" for i in (2, 0))
    assert first.request("PUT", f"/{ctr}/b?comp=blocklist", {}, f"<BlockList>{ids}</BlockList>".encode()).status == 201
    assert body(first, f"/{ctr}/b") == blocks[2] + blocks[0]


def test_copy__onto_itself_is_a_new_version_of_the_same(first, ctr):
    for size in (10, 100000):
        old = put(first, f"/{ctr}/a", data(size), {"x-ms-meta-k": "1"})
        a = copy(first, url(first, f"/{ctr}/a"), f"/{ctr}/a", {"x-ms-meta-k": "2"})
        assert a.status == 202 and a.headers["etag"] != old.headers["etag"]
        assert first.request("HEAD", f"/{ctr}/a").headers["x-ms-meta-k"] == "2"
        assert body(first, f"/{ctr}/a") == data(size)


def test_copy__survives_a_kill(first, box, ctr):
    big, small = data(300000), data(3000)
    put(first, f"/{ctr}/big", big)
    put(first, f"/{ctr}/small", small)
    for name in ("big", "small"):
        assert copy(first, url(first, f"/{ctr}/{name}"), f"/{ctr}/{name}2").status == 202
        assert first.request("DELETE", f"/{ctr}/{name}").status == 202
    box.kill()
    box.start()
    assert (body(first, f"/{ctr}/big2"), body(first, f"/{ctr}/small2")) == (big, small)
    assert body(first, f"/{ctr}/big") == (404, "BlobNotFound")
    assert first.request("HEAD", f"/{ctr}/big2").headers["x-ms-copy-status"] == "success"


# ---- whose source ----

NAMES = {
    "path style": lambda api, path: url(api, path),
    "an alias": lambda api, path: f"https://{'first' if api.account == ACCOUNT else 'second'}.example{path}",
    "host style": lambda api, path: f"http://{api.account}.blob.box.test:{api.port}{path}",
    "upper case": lambda api, path: url(api, path).replace("http://", "HTTP://"),
}


@pytest.mark.parametrize("name", NAMES)
def test_source__may_be_named_as_the_box_is(first, second, ctr, name):
    put(second, f"/{ctr}/a", b"bytes")
    put(first, f"/{ctr}/a", b"own")
    sas = "?" + read_sas(second)
    assert copy(first, NAMES[name](second, f"/{ctr}/a") + sas, f"/{ctr}/b").status == 202
    assert body(first, f"/{ctr}/b") == b"bytes"
    assert copy(first, NAMES[name](first, f"/{ctr}/a"), f"/{ctr}/b").status == 202  # within the account: no SAS
    assert body(first, f"/{ctr}/b") == b"own"


def test_source__says_nothing_of_its_signature_afterwards(first, second, ctr):
    put(second, f"/{ctr}/a", b"bytes")
    sas = read_sas(second)
    assert copy(first, url(second, f"/{ctr}/a", sas), f"/{ctr}/b").status == 202
    assert first.request("HEAD", f"/{ctr}/b").headers["x-ms-copy-source"] == url(second, f"/{ctr}/a")
    a = copy(first, url(second, f"/{ctr}/a", sas).replace("http:", "ftp:"), f"/{ctr}/b")
    assert a.code == "InvalidHeaderValue" and b"sig" not in a.body


RIGHTS = [  # query of the source, Copy Blob's own credential, status, source's code
    ("none, other account", lambda s, f, c: ("second", ""), 401, "NoAuthenticationInformation"),
    ("no read", lambda s, f, c: ("second", read_sas(s, sp="wl")), 403, "AuthorizationPermissionMismatch"),
    ("no objects", lambda s, f, c: ("second", read_sas(s, srt="sc")), 403, "AuthorizationResourceTypeMismatch"),
    ("expired", lambda s, f, c: ("second", read_sas(s, se="2001-01-01T00:00:00Z")), 403, "AuthenticationFailed"),
    ("another account's", lambda s, f, c: ("second", read_sas(f)), 403, "AuthenticationFailed"),
    ("another blob's", lambda s, f, c: ("second", service_sas(s.account, s.key, c, "other")), 403, "AuthenticationFailed"),
    ("https only", lambda s, f, c: ("second", read_sas(s, spr="https")), 403, "AuthorizationProtocolMismatch"),
    ("own, wrong", lambda s, f, c: ("first", read_sas(f).rpartition("sig=")[0] + "sig=" + "A" * 43 + "%3D"), 403, "AuthenticationFailed"),
]


@pytest.mark.parametrize("kind", ["copy", "sync", "put", "block"])
@pytest.mark.parametrize("name,query,status,code", RIGHTS, ids=[r[0] for r in RIGHTS])
def test_source__is_read_with_rights_of_its_own(first, second, ctr, kind, name, query, status, code):
    for api in (first, second):
        put(api, f"/{ctr}/a", b"bytes")
    which, sas = query(second, first, ctr)
    source = url(first if which == "first" else second, f"/{ctr}/a", sas)
    headers = {"copy": {}, "sync": SYNC, "put": BLOCK, "block": {}}[kind]
    a = copy(first, source, f"/{ctr}/b" + ("?comp=block&blockid=MDAwMQ%3D%3D" if kind == "block" else ""), headers)
    assert (a.status, a.code) == (status, "CannotVerifyCopySource"), a
    assert a.headers["x-ms-copy-source-status-code"] == str(status)
    assert a.headers["x-ms-copy-source-error-code"] == code
    assert f"<CopySourceErrorCode>{code}</CopySourceErrorCode>".encode() in a.body
    assert body(first, f"/{ctr}/b") == (404, "BlobNotFound")


def test_source__of_the_same_account_needs_a_sas_where_the_request_has_one(first, ctr):
    put(first, f"/{ctr}/a", b"bytes")
    own = account_sas(ACCOUNT, KEY, "rw")
    source = url(first, f"/{ctr}/a")
    a = first.request("PUT", f"/{ctr}/b?{own}", {"x-ms-copy-source": source}, auth=None)
    assert (a.status, a.code) == (401, "CannotVerifyCopySource")
    a = first.request("PUT", f"/{ctr}/b?{own}", {"x-ms-copy-source": source + "?" + own}, auth=None)
    assert a.status == 202
    for headers in (SYNC, BLOCK):  # only Copy Blob takes the key for the source's
        assert copy(first, source, f"/{ctr}/b", headers).status == 401


def test_source__authorization_header_is_for_tokens_only(first, second, ctr):
    put(second, f"/{ctr}/a", b"bytes")
    for value, status, code in (("Bearer abc.def.ghi", 401, "InvalidAuthenticationInfo"),
                                ("SharedKey second:abcd", 403, "InvalidAuthenticationInfo")):
        a = copy(first, url(second, f"/{ctr}/a"), f"/{ctr}/b", {**SYNC, "x-ms-copy-source-authorization": value})
        assert (a.status, a.code, a.headers["x-ms-copy-source-error-code"]) == (status, "CannotVerifyCopySource", code)


@pytest.mark.parametrize("path,code", [("/{c}/none", "BlobNotFound"), ("/nonesuch/a", "ContainerNotFound")])
@pytest.mark.parametrize("headers", [{}, SYNC, BLOCK], ids=["copy", "sync", "put"])
def test_source__missing_is_404_with_what_it_said(first, ctr, path, code, headers):
    a = copy(first, url(first, path.format(c=ctr), read_sas(first)), f"/{ctr}/b", headers)
    assert (a.status, a.code) == (404, "CannotVerifyCopySource"), a
    assert (a.headers["x-ms-copy-source-status-code"], a.headers["x-ms-copy-source-error-code"]) == ("404", code)


def test_source__elsewhere_is_refused_and_never_asked(first, ctr):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        s.settimeout(0)
        port = s.getsockname()[1]
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", f"user@127.0.0.1:{first.port}",
                     f"{first.host}:{first.port}@127.0.0.1:{port}", "169.254.169.254", "example.org"):
            for headers in ({}, SYNC, BLOCK):
                a = copy(first, f"http://{host}/{ACCOUNT}/{ctr}/a?{read_sas(first)}", f"/{ctr}/b", headers)
                assert (a.status, a.code) == (400, "CannotVerifyCopySource"), (host, a)
        with pytest.raises(BlockingIOError):
            s.accept()
    assert body(first, f"/{ctr}/b") == (404, "BlobNotFound")


@pytest.mark.parametrize("source", ["", "x", "/acct/c/b", "ftp://h/a/c/b", "http:///a/c/b", "http://h", "file:///etc/passwd",
                                    "{u}#f", "{base}", "{base}/", "{base}/{c}", "{base}/{c}/", "{base}/UPPER/b", "{u}%zz",
                                    "{base}/{c}/" + "x" * 1025])
def test_source__that_is_no_blobs_url_is_invalid(first, ctr, source):
    text = source.format(u=url(first, f"/{ctr}/a"), base=url(first, ""), c=ctr)
    a = copy(first, text, f"/{ctr}/b", BLOCK if text else {})
    assert (a.status, a.code) == (400, "InvalidHeaderValue" if text else "MissingRequiredHeader"), a


# ---- conditions ----

def test_source__conditions(first, ctr):
    etag = put(first, f"/{ctr}/a", b"x").headers["etag"]
    later, before = now(3600), now(-3600)
    good = [{"x-ms-source-if-match": etag}, {"x-ms-source-if-none-match": '"0x1"'},
            {"x-ms-source-if-modified-since": before}, {"x-ms-source-if-unmodified-since": later}]
    bad = [{"x-ms-source-if-match": '"0x1"'}, {"x-ms-source-if-none-match": etag},
           {"x-ms-source-if-modified-since": later}, {"x-ms-source-if-unmodified-since": before}]
    source = url(first, f"/{ctr}/a", read_sas(first))
    for kind, ok in (({}, 202), (SYNC, 202), (BLOCK, 201)):
        for c in good:
            assert copy(first, source, f"/{ctr}/b", {**kind, **c}).status == ok, c
        for c in bad:
            a = copy(first, source, f"/{ctr}/none", {**kind, **c})
            assert (a.status, a.code) == (412, "SourceConditionNotMet"), (c, a)
    assert body(first, f"/{ctr}/none") == (404, "BlobNotFound")
    a = copy(first, source, f"/{ctr}/b", {"x-ms-source-if-match": "*", "x-ms-source-if-none-match": "x"})
    assert (a.status, a.code) == (400, "MultipleConditionHeadersNotSupported")


def test_source__tags(first, ctr):
    put(first, f"/{ctr}/t", b"x" * 100000, {"x-ms-tags": "a=b&c=d"})
    source, blind = url(first, f"/{ctr}/t", read_sas(first, sp="rt")), url(first, f"/{ctr}/t", read_sas(first))
    for kind, ok in (({}, 202), (SYNC, 202), (BLOCK, 201)):
        for given, want in (({"x-ms-copy-source-tag-option": "COPY"}, "2"), ({"x-ms-copy-source-tag-option": "REPLACE"}, None),
                            ({}, None), ({"x-ms-tags": "only=one"}, "1")):
            assert copy(first, source, f"/{ctr}/to", {**kind, **given}).status == ok, given
            assert first.request("HEAD", f"/{ctr}/to").headers.get("x-ms-tag-count") == want
        assert copy(first, source, f"/{ctr}/to", {**kind, "x-ms-source-if-tags": "\"a\" = 'b'"}).status == ok
        refusals = [(source, {"x-ms-source-if-tags": "\"a\" = 'c'"}, (412, "SourceConditionNotMet")),
                    (source, {"x-ms-copy-source-tag-option": "COPY", "x-ms-tags": "a=b"},
                     (400, "BothUserTagsAndSourceTagsCopyPresentException")),
                    (source, {"x-ms-copy-source-tag-option": "SOME"}, (400, "InvalidHeaderValue"))]
        if kind != {}:
            refusals += [(blind, {"x-ms-copy-source-tag-option": "COPY"}, (403, "CannotVerifyCopySource")),
                         (blind, {"x-ms-source-if-tags": "\"a\" = 'b'"}, (403, "CannotVerifyCopySource"))]
        for where, given, want in refusals:
            a = copy(first, where, f"/{ctr}/to", {**kind, **given})
            assert (a.status, a.code) == want, (given, a)


def test_destination__conditions_and_rights(first, ctr):
    put(first, f"/{ctr}/a", b"x")
    put(first, f"/{ctr}/b", b"y")
    source = url(first, f"/{ctr}/a", read_sas(first))
    for kind in ({}, SYNC, BLOCK):
        a = copy(first, source, f"/{ctr}/b", {**kind, "If-None-Match": "*"})
        assert (a.status, a.code) == (409, "BlobAlreadyExists")
        a = copy(first, source, f"/{ctr}/b", {**kind, "If-Match": '"0x1"'})
        assert (a.status, a.code) == (412, "ConditionNotMet")
        create = account_sas(ACCOUNT, KEY, "rc")
        a = first.request("PUT", f"/{ctr}/b?{create}", {"x-ms-copy-source": source, **kind}, auth=None)
        assert (a.status, a.code) == (403, "UnauthorizedBlobOverwrite")
        a = first.request("PUT", f"/{ctr}/b?{read_sas(first)}", {"x-ms-copy-source": source, **kind}, auth=None)
        assert (a.status, a.code) == (403, "AuthorizationPermissionMismatch")
        a = copy(first, source, "/nonesuch/b", kind)
        assert (a.status, a.code) == (404, "ContainerNotFound")
    assert body(first, f"/{ctr}/b") == b"y"


# ---- the synchronous ones ----

@pytest.mark.parametrize("size", [0, 5, 65536, 3 << 20])
@pytest.mark.parametrize("hashed", ["", "md5", "crc64"])
def test_sync_copy_and_put_from_url__check_and_tell_hashes(first, ctr, size, hashed):
    text, seen = data(size), put(first, f"/{ctr}/a", data(size), {"x-ms-meta-k": "v"}).headers
    md5 = base64.b64encode(hashlib.md5(text).digest()).decode()
    source = url(first, f"/{ctr}/a", read_sas(first))
    right = {"": {}, "md5": {"x-ms-source-content-md5": md5}, "crc64": {"x-ms-source-content-crc64": seen["x-ms-content-crc64"]}}
    wrong = {"": {}, "md5": {"x-ms-source-content-md5": base64.b64encode(b"x" * 16).decode()},
             "crc64": {"x-ms-source-content-crc64": base64.b64encode(b"x" * 8).decode()}}
    for kind, status in ((SYNC, 202), (BLOCK, 201)):
        a = copy(first, source, f"/{ctr}/b", {**kind, **right[hashed]})
        assert a.status == status, a
        assert (a.headers["content-md5"], a.headers["x-ms-content-crc64"]) == (md5, seen["x-ms-content-crc64"])
        assert ("x-ms-copy-id" in a.headers) == (kind is SYNC)
        assert body(first, f"/{ctr}/b") == text
        h = first.request("HEAD", f"/{ctr}/b").headers
        assert ("x-ms-copy-id" in h, h["content-md5"]) == (kind is SYNC, md5)
        assert h.get("x-ms-meta-k") == ("v" if kind is SYNC else None)  # a Put has what it is given
        if hashed:
            a = copy(first, source, f"/{ctr}/none", {**kind, **wrong[hashed]})
            assert (a.status, a.code) == (400, "Md5Mismatch" if hashed == "md5" else "Crc64Mismatch")
    assert body(first, f"/{ctr}/none") == (404, "BlobNotFound")


def test_put_from_url__properties(first, ctr):
    put(first, f"/{ctr}/a", b"x", {"x-ms-blob-content-type": "x/y", "x-ms-blob-cache-control": "no-cache"})
    source = url(first, f"/{ctr}/a", read_sas(first))

    def after(**headers):
        a = copy(first, source, f"/{ctr}/b", {**BLOCK, **{k.replace("_", "-"): v for k, v in headers.items()}})
        assert a.status == 201, a
        h = first.request("HEAD", f"/{ctr}/b").headers
        return h["content-type"], h.get("cache-control")
    assert after() == ("x/y", "no-cache")
    assert after(x_ms_blob_content_type="a/b") == ("a/b", "no-cache")
    assert after(x_ms_copy_source_blob_properties="true") == ("x/y", "no-cache")
    assert after(x_ms_copy_source_blob_properties="false") == ("application/octet-stream", None)
    assert copy(first, source, f"/{ctr}/b", {**BLOCK, "x-ms-copy-source-blob-properties": "x"}).code == "InvalidHeaderValue"
    assert copy(first, source, f"/{ctr}/b", {"x-ms-blob-type": "PageBlob"}).code == "InvalidHeaderValue"


def test_put_block_from_url__ranges(first, second, ctr):
    blocks = [data(n, n) for n in (300000, 5 << 20, 17)]
    whole = b"".join(blocks)
    put_blocks(second, f"/{ctr}/a", blocks)
    source, target = url(second, f"/{ctr}/a", read_sas(second)), f"/{ctr}/b?comp=block&blockid="
    want, ids = b"", ""
    for i, (start, end) in enumerate([(0, 0), (299999, 300000), (100, 4 << 20), (len(whole) - 5, len(whole) + 99), (0, len(whole) - 1)]):
        block = base64.b64encode(b"%06d" % i).decode()
        part = whole[start:end + 1]
        md5 = base64.b64encode(hashlib.md5(part).digest()).decode()
        hashes = {"x-ms-source-content-md5": md5} if i % 2 else {}
        a = copy(first, source, target + block, {"x-ms-source-range": f"bytes={start}-{end}", **hashes})
        assert a.status == 201 and a.headers.get("content-md5") == hashes.get("x-ms-source-content-md5"), a
        assert "etag" not in a.headers and ("x-ms-content-crc64" in a.headers) == (not hashes)
        want, ids = want + part, ids + f"<Uncommitted>{block}</Uncommitted>"
    assert copy(first, source, target + "bGFzdC4uLg==").code == "InvalidBlobOrBlock"  # ids of one length
    assert copy(first, source, target + base64.b64encode(b"000009").decode()).status == 201  # all of it
    assert first.request("PUT", f"/{ctr}/b?comp=blocklist", {}, f"<BlockList>{ids}</BlockList>".encode()).status == 201
    assert body(first, f"/{ctr}/b") == want


def test_put_block_from_url__refusals(first, ctr):
    put(first, f"/{ctr}/a", b"0123456789")
    put(first, f"/{ctr}/empty", b"")
    sas, target = read_sas(first), f"/{ctr}/b?comp=block&blockid=MDAwMQ%3D%3D"
    for name, headers, status, code in [
            ("a", {"x-ms-source-range": "bytes=10-"}, 416, "InvalidRange"),
            ("a", {"x-ms-source-range": "bytes=-5"}, 400, "InvalidHeaderValue"),
            ("a", {"x-ms-source-range": "bytes=5-4"}, 400, "InvalidHeaderValue"),
            ("a", {"x-ms-source-content-md5": base64.b64encode(b"x" * 16).decode()}, 400, "Md5Mismatch"),
            ("a", {"x-ms-source-content-crc64": base64.b64encode(b"x" * 8).decode()}, 400, "Crc64Mismatch"),
            ("a", {"x-ms-source-content-md5": "AAAA"}, 400, "InvalidMd5"),
            ("a", {"x-ms-source-if-match": '"0x1"'}, 412, "SourceConditionNotMet"),
            ("empty", {}, 400, "InvalidHeaderValue")]:
        a = copy(first, url(first, f"/{ctr}/{name}", sas), target, headers)
        assert (a.status, a.code) == (status, code), (headers, a)
    assert b"sig" not in a.body
    assert copy(first, url(first, f"/{ctr}/a", sas), f"/{ctr}/b?comp=block").code == "MissingRequiredQueryParameter"
    a = first.request("PUT", target, {"x-ms-copy-source": url(first, f"/{ctr}/a", sas)}, b"body")
    assert (a.status, a.code) == (400, "InvalidHeaderValue")
    assert first.request("GET", f"/{ctr}/b?comp=blocklist&blocklisttype=all").status == 404


def test_abort__finds_nothing_pending(first, ctr):
    put(first, f"/{ctr}/a", b"x")
    copied = copy(first, url(first, f"/{ctr}/a"), f"/{ctr}/b").headers["x-ms-copy-id"]
    abort = {"x-ms-copy-action": "abort"}
    for name, headers, query, status, code in [
            ("b", abort, f"&copyid={copied}", 409, "NoPendingCopyOperation"),
            ("a", abort, f"&copyid={uuid.uuid4()}", 409, "NoPendingCopyOperation"),
            ("none", abort, f"&copyid={copied}", 404, "BlobNotFound"),
            ("b", abort, "", 400, "MissingRequiredQueryParameter"),
            ("b", {}, f"&copyid={copied}", 400, "MissingRequiredHeader"),
            ("b", {"x-ms-copy-action": "go on"}, f"&copyid={copied}", 400, "InvalidHeaderValue")]:
        a = first.request("PUT", f"/{ctr}/{name}?comp=copy{query}", headers)
        assert (a.status, a.code) == (status, code), a
