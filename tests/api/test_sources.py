"""Copies from elsewhere: what a source may be, what it may do to us, and that nothing half-read is ever visible."""
import base64
import hashlib
import os
import random
import threading
import uuid

import pytest

from support.azure import Client, service_sas
from support.box import ACCOUNT, KEY, Box, wait_until
from support.source import Source

BLOCK = {"x-ms-blob-type": "BlockBlob"}
SIZES = [0, 1, 65536, 65537, (2 << 20) + 11]


def data(n, seed=1):
    return random.Random(seed).randbytes(n)


@pytest.fixture(scope="module")
def source():
    with Source() as s:
        yield s


@pytest.fixture(scope="module")
def box(tmp_path_factory, source):
    box = Box(tmp_path_factory.mktemp("box"), top=f"""
copy_sources = {{ "http://127.0.0.1:{source.port}", "http://localhost:{source.port}", "http://127.0.0.2:{source.port}" }}
copy_source_networks = {{ "127.0.0.1" }}""").start()
    yield box
    assert box.stop() == 0, box.text()[-4000:]


@pytest.fixture(scope="module")
def api(box):
    return Client(box.endpoint, ACCOUNT, KEY)


@pytest.fixture
def ctr(api):
    name = "src-" + uuid.uuid4().hex[:8]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    return name


@pytest.fixture
def path():
    return "/" + uuid.uuid4().hex


FORMS = {"copy": {}, "sync": {"x-ms-requires-sync": "true"}, "put": BLOCK}


def copy(api, ctr, url, form="put", name="b", **headers):
    return api.request("PUT", f"/{ctr}/{name}", {**FORMS[form], "x-ms-copy-source": url, **{k.replace("_", "-"): v for k, v in headers.items()}})


def nothing_there(api, ctr):
    text = api.request("GET", f"/{ctr}?restype=container&comp=list&include=uncommittedblobs").body
    return b"<Blob>" not in text


# ---- what comes over ----

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_source__bytes_and_properties(api, ctr, source, path, form, size):
    source.serve(path, data(size), headers={"Content-Type": "x/y", "Cache-Control": "no-cache", "x-ms-meta-Step": "7"})
    a = copy(api, ctr, source.url(path + "?sig=secret"), form)
    assert a.status == (201 if form == "put" else 202), a
    g = api.request("GET", f"/{ctr}/b")
    assert g.body == data(size)
    assert (g.headers["content-type"], g.headers["cache-control"]) == ("x/y", "no-cache")
    assert ("x-ms-meta-step" in {k.lower() for k in g.headers}) == (form != "put")
    if form != "put":
        assert (a.headers["x-ms-copy-status"], g.headers["x-ms-copy-source"]) == ("success", source.url(path))
    assert "secret" not in str(g.headers)


def test_source__signatures_are_not_logged(api, ctr, box, source, path):
    source.serve(path, status=403)
    copy(api, ctr, source.url(path + "?sig=verysecret"))
    copy(api, ctr, "http://elsewhere.example/x?sig=verysecret")
    assert "verysecret" not in box.text()


@pytest.mark.parametrize("given, want", [("bytes=10-99", (10, 100)), ("bytes=100-", (100, None)), ("bytes=10-99999999", (10, None)),
                                         (None, (0, None))])
def test_source__block_of_a_range(api, ctr, source, path, given, want):
    source.serve(path, data(200000))
    headers = {"x-ms-copy-source": source.url(path), **({"x-ms-source-range": given} if given else {})}
    a = api.request("PUT", f"/{ctr}/b?comp=block&blockid=YWFh", headers)
    assert a.status == 201 and a.headers["x-ms-content-crc64"], a
    assert api.request("PUT", f"/{ctr}/b?comp=blocklist", {}, b"<BlockList><Latest>YWFh</Latest></BlockList>").status == 201
    assert api.request("GET", f"/{ctr}/b").body == data(200000)[want[0]:want[1]]


def test_source__a_token_is_passed_on(api, ctr, source, path):
    source.serve(path, b"x")
    a = copy(api, ctr, source.url(path), x_ms_copy_source_authorization="Bearer abc")
    assert a.status == 201 and source.requests(path)[0]["authorization"] == "Bearer abc"
    a = copy(api, ctr, source.url(path), x_ms_copy_source_authorization="SharedKey a:b")
    assert (a.status, a.code) == (400, "InvalidHeaderValue") and len(source.requests(path)) == 1


def test_source__conditions_are_judged_on_its_head(api, ctr, source, path):
    source.serve(path, b"x")
    for headers, status in (({"x_ms_source_if_match": '"v1"'}, 201), ({"x_ms_source_if_match": '"v2"'}, 412),
                            ({"x_ms_source_if_none_match": '"v1"'}, 412), ({"x_ms_source_if_none_match": '"v2"'}, 201),
                            ({"x_ms_source_if_modified_since": "Wed, 01 Jan 2025 00:00:00 GMT"}, 412),
                            ({"x_ms_source_if_unmodified_since": "Wed, 01 Jan 2025 00:00:00 GMT"}, 201)):
        a = copy(api, ctr, source.url(path), **headers)
        assert (a.status, a.code) == (status, None if status == 201 else "SourceConditionNotMet"), (headers, a)


def test_source__another_hearth(api, ctr, tmp_path):
    other = Box(tmp_path / "other").start()
    there = Client(other.endpoint, ACCOUNT, KEY)
    assert there.request("PUT", "/ccc?restype=container").status == 201
    body = data(9 << 20)
    assert there.request("PUT", "/ccc/a%20b", {**BLOCK, "x-ms-meta-k": "v"}, body).status == 201
    own = Box(tmp_path / "own", top=f'copy_sources = {{ "http://127.0.0.1:{other.port}" }} copy_source_networks = {{ "127.0.0.0/8" }}').start()
    here = Client(own.endpoint, ACCOUNT, KEY)
    assert here.request("PUT", "/ccc?restype=container").status == 201
    sas = service_sas(ACCOUNT, KEY, "ccc", "a b", sp="r")
    a = copy(here, "ccc", f"{other.endpoint}/ccc/a%20b?{sas}", "copy")
    assert a.status == 202, a
    g = here.request("GET", "/ccc/b")
    assert g.body == body and g.headers["x-ms-meta-k"] == "v"
    a = copy(here, "ccc", f"{other.endpoint}/ccc/a%20b?" + sas.replace("sig=", "sig=AAAA"), "copy", name="c")
    assert (a.status, a.code, a.headers["x-ms-copy-source-error-code"]) == (403, "CannotVerifyCopySource", "AuthenticationFailed")
    assert own.stop() == 0 and other.stop() == 0


# ---- sources that misbehave ----

def test_source__a_cut_body_goes_on_where_it_stopped(api, ctr, source, path):
    body = data(3 << 20)
    source.serve(path, body, dict(cut_at=1000000), dict(cut_at=700000))
    assert copy(api, ctr, source.url(path)).status == 201
    assert api.request("GET", f"/{ctr}/b").body == body
    seen = source.requests(path)
    assert len(seen) == 3 and seen[1]["if-match"] == seen[2]["if-match"] == '"v1"'
    assert int(seen[1]["range"][6:].split("-")[0]) <= 1000000


@pytest.mark.parametrize("behaviour", [dict(cut_at=0), dict(cut_at=1000, etag=None), dict(length=3 << 20)])
@pytest.mark.parametrize("form", FORMS)
def test_source__one_that_never_gets_to_the_end(api, ctr, source, path, form, behaviour):
    source.serve(path, data(1 << 20), **behaviour)
    a = copy(api, ctr, source.url(path), form)
    assert (a.status, a.code) == (503, "CannotVerifyCopySource"), a
    assert nothing_there(api, ctr)


def test_source__another_version_in_mid_body(api, ctr, source, path):
    old, new = data(2 << 20, 1), data(1 << 20, 2)
    source.serve(path, new, dict(body=old, cut_at=1 << 20), etag='"v2"')
    assert copy(api, ctr, source.url(path)).status == 201
    assert api.request("GET", f"/{ctr}/b").body == new


def test_source__one_that_always_changes(api, ctr, source, path):
    source.serve(path, data(1 << 20), *[dict(cut_at=1000, etag=f'"v{i}"') for i in range(40)])
    a = copy(api, ctr, source.url(path))
    assert a.status == 503 and nothing_there(api, ctr), a


@pytest.mark.parametrize("form", FORMS)
def test_source__its_hash_is_checked(api, ctr, source, path, form):
    good, lie = data(100000), base64.b64encode(b"0" * 16).decode()
    source.serve(path, good, md5=True)
    assert copy(api, ctr, source.url(path), form).status in (201, 202)
    assert base64.b64decode(api.request("HEAD", f"/{ctr}/b").headers["content-md5"]) == hashlib.md5(good).digest()
    source.serve(path, data(100000, 2), headers={"x-ms-blob-content-md5": lie})
    a = copy(api, ctr, source.url(path), form)
    assert (a.status, a.code) == (400, "Md5Mismatch"), a
    assert api.request("GET", f"/{ctr}/b").body == good


@pytest.mark.parametrize("kind", ["md5", "crc64"])
def test_source__the_hash_asked_for_is_checked(api, ctr, source, path, kind):
    source.serve(path, data(100000))
    wrong = base64.b64encode(b"0" * (16 if kind == "md5" else 8)).decode()
    a = copy(api, ctr, source.url(path), **{f"x_ms_source_content_{kind}": wrong})
    assert (a.status, a.code) == (400, "Md5Mismatch" if kind == "md5" else "Crc64Mismatch") and nothing_there(api, ctr)


STATUSES = [(401, 401), (403, 403), (404, 404), (409, 409), (412, 412), (416, 416), (400, 400), (410, 400), (429, 503),
            (500, 503), (503, 503)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("said, told", STATUSES)
def test_source__what_it_says_is_told(api, ctr, source, path, form, said, told):
    source.serve(path, status=said, headers={"x-ms-error-code": "ItsOwnCode"})
    a = copy(api, ctr, source.url(path), form)
    assert a.status == told, a
    assert (a.headers["x-ms-copy-source-status-code"], a.headers["x-ms-copy-source-error-code"]) == (str(said), "ItsOwnCode")
    assert b"<CopySourceErrorCode>ItsOwnCode<" in a.body and nothing_there(api, ctr)


def test_source__without_a_length(api, ctr, source, path):
    source.serve(path, b"x", chunked=True)
    a = copy(api, ctr, source.url(path))
    assert (a.status, a.code) == (400, "CannotVerifyCopySource") and nothing_there(api, ctr), a


def test_source__that_knows_no_ranges(api, ctr, source, path):
    source.serve(path, data(1000), ignore_range=True)
    a = api.request("PUT", f"/{ctr}/b?comp=block&blockid=YWFh", {"x-ms-copy-source": source.url(path), "x-ms-source-range": "bytes=10-20"})
    assert (a.status, a.code) == (400, "CannotVerifyCopySource"), a


def test_source__that_brings_more_than_was_asked(api, ctr, source, path):
    source.serve(path, data(1000), more_than_asked=True)
    a = api.request("PUT", f"/{ctr}/b?comp=block&blockid=YWFh", {"x-ms-copy-source": source.url(path), "x-ms-source-range": "bytes=10-20"})
    assert (a.status, a.code) == (400, "CannotVerifyCopySource"), a
    assert nothing_there(api, ctr)


def test_source__nobody_is_there(api, ctr, source, box, path, tmp_path):
    own = Box(tmp_path / "own", top='copy_sources = { "http://127.0.0.1:1" } copy_source_networks = { "127.0.0.0/8" }').start()
    here = Client(own.endpoint, ACCOUNT, KEY)
    assert here.request("PUT", "/ccc?restype=container").status == 201
    a = copy(here, "ccc", "http://127.0.0.1:1/x")
    assert (a.status, a.code) == (503, "CannotVerifyCopySource"), a
    assert own.stop() == 0


def test_source__the_client_leaves(api, ctr, source, path):
    """The source's connection goes with it, and nothing is left."""
    source.serve(path, data(1 << 20), stop_at=300000)
    before = set(source.open)
    with api.connect() as on:
        on.send(api.head_bytes("PUT", f"/{ctr}/b", {**BLOCK, "x-ms-copy-source": source.url(path)}))
        wait_until(lambda: source.requests(path), what="the source is asked")
    wait_until(lambda: source.open <= before, what="the source's connection is closed")
    assert nothing_there(api, ctr)


def test_source__a_box_that_stops_in_mid_copy(source, path, tmp_path):
    source.serve(path, data(1 << 20), stop_at=300000)
    own = Box(tmp_path / "own", top=f'copy_sources = {{ "http://127.0.0.1:{source.port}" }} copy_source_networks = {{ "127.0.0.0/8" }} '
                                    "drain_timeout = 0s").start()
    here = Client(own.endpoint, ACCOUNT, KEY)
    assert here.request("PUT", "/ccc?restype=container").status == 201
    with here.connect() as on:
        on.send(here.head_bytes("PUT", "/ccc/b", {**BLOCK, "x-ms-copy-source": source.url(path)}))
        wait_until(lambda: source.requests(path), what="the source is asked")
        assert own.stop() == 0


def test_source__many_at_once(api, ctr, source, path):
    source.serve(path, data(1 << 20))
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(copy(api, ctr, source.url(path), name=f"b{i}").status)) for i in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert answers == [201] * 40


# ---- where nobody is asked ----

@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "https://127.0.0.1:{port}/x", "http://127.1:{port}/x", "http://2130706433:{port}/x",
                                 "http://[::1]:{port}/x", "http://127.0.0.1.nip.io:{port}/x", "http://169.254.169.254/x"])
def test_source__an_origin_that_is_not_listed(api, ctr, source, form, url):
    before = source.connections
    a = copy(api, ctr, url.format(port=source.port), form)
    assert (a.status, a.code) == (400, "CannotVerifyCopySource"), a
    assert source.connections == before


@pytest.mark.parametrize("url", ["http://a@127.0.0.1:{port}/x", "http://127.0.0.1:{port}", "ftp://127.0.0.1:{port}/x", "http://127.0.0.1:{port}#/x",
                                 "http://127.0.0.1\\@evil:{port}/x"])
def test_source__what_is_no_url(api, ctr, source, url):
    a = copy(api, ctr, url.format(port=source.port))
    assert a.status == 400 and a.code in ("InvalidHeaderValue", "CannotVerifyCopySource"), a


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_source__a_listed_name_at_an_address_that_is_not(api, ctr, tmp_path, host):
    """Its address is judged when it is known: nobody is connected to."""
    with Source() as source:
        source.serve("/x", b"x")
        own = Box(tmp_path / "own", top=f'copy_sources = {{ "http://{host}:{source.port}" }}').start()
        here = Client(own.endpoint, ACCOUNT, KEY)
        assert here.request("PUT", "/ccc?restype=container").status == 201
        a = copy(here, "ccc", source.url("/x", host))
        assert (a.status, a.code) == (400, "CannotVerifyCopySource"), a
        assert source.connections == 0 and "its address" in own.text()
        assert own.stop() == 0


def test_source__a_redirect_is_not_followed(api, ctr, source, path):
    source.serve(path + "2", b"inside")
    source.serve(path, status=302, headers={"Location": source.url(path + "2")})
    a = copy(api, ctr, source.url(path))
    assert (a.status, a.headers["x-ms-copy-source-status-code"]) == (400, "302"), a
    assert not source.requests(path + "2")
