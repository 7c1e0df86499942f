"""Good credentials of every kind, on the wire: what they open, what they return, and the headers every answer has.
The bad ones are in test_bad_requests.py; the strings to sign in tests/unit/test_auth.c."""
import uuid

import pytest

from support.azure import VERSION, account_sas, now, service_sas, shared_key, shared_key_lite, stamp

BLOB = {"x-ms-blob-type": "BlockBlob"}


@pytest.fixture(scope="module")
def container(api):
    name = "cred-" + uuid.uuid4().hex[:8]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    headers = {**BLOB, "x-ms-blob-content-type": "text/stored"}
    assert api.request("PUT", f"/{name}/b", headers, b"0123456789").status == 201
    yield name
    assert api.request("DELETE", f"/{name}?restype=container").status == 202


def test_shared_key_lite(api, container):
    assert api.request("GET", f"/{container}/b", auth=shared_key_lite).body == b"0123456789"
    assert api.request("PUT", f"/{container}/lite?comp=blocklist", {"Content-Type": "application/xml"},
                       b"<BlockList/>", auth=shared_key_lite).status == 201


def test_date_header_instead_of_x_ms_date(api, container):
    assert api.request("GET", f"/{container}/b", {"x-ms-date": None, "Date": now()}).status == 200
    assert api.request("GET", f"/{container}/b", {"Date": now()}).status == 200


def test_clocks_may_differ_by_less_than_15_minutes(api, container):
    for minutes in (-14, 14):
        assert api.request("GET", f"/{container}/b", {"x-ms-date": now(60 * minutes)}).status == 200


def test_empty_and_repeated_headers_are_signed(api, container):
    headers = {**BLOB, "x-ms-blob-cache-control": "", "x-ms-meta-a_b": "1", "x-ms-meta-ab": "2", "x-ms-meta-A1": "3"}
    assert api.request("PUT", f"/{container}/empty-headers", headers, b"x").status == 201


@pytest.mark.parametrize("sv", ["2015-04-05", "2018-11-09", "2020-02-10", "2020-12-06", "2022-11-02", "2026-10-06"])
def test_every_generation_of_service_sas(api, container, sv):
    for blob in ("b", None):
        token = service_sas(api.account, api.key, container, blob, sv=sv, st=stamp(minutes=-1), spr="https,http",
                            sip="127.0.0.1")
        assert api.request("GET", f"/{container}/b?{token}", auth=None).body == b"0123456789"


@pytest.mark.parametrize("sv", ["2015-04-05", "2019-12-12", "2020-12-06", "2026-10-06"])
def test_every_generation_of_account_sas(api, container, sv):
    token = account_sas(api.account, api.key, sv=sv)
    assert api.request("GET", f"/{container}/b?{token}", auth=None).body == b"0123456789"
    assert api.request("GET", f"/?comp=list&{token}", auth=None).status == 200


def test_account_sas_does_what_a_key_does(api):
    token = account_sas(api.account, api.key)
    name = "/acc-" + uuid.uuid4().hex[:8]

    def do(method, path, headers=None, body=b""):
        return api.request(method, path + ("&" if "?" in path else "?") + token, headers, body, auth=None).status
    assert do("PUT", name + "?restype=container") == 201
    assert do("PUT", name + "/x", BLOB, b"1") == 201
    assert do("PUT", name + "/y?comp=block&blockid=YWJj", None, b"2") == 201
    assert do("PUT", name + "/y?comp=blocklist", None, b"<BlockList><Latest>YWJj</Latest></BlockList>") == 201
    assert do("PUT", name + "/x?comp=metadata", {"x-ms-meta-a": "1"}) == 200
    assert do("HEAD", name + "/x") == 200
    assert do("GET", name + "?restype=container&comp=list") == 200
    assert do("DELETE", name + "/x") == 202
    assert do("DELETE", name + "?restype=container") == 202


def test_create_right_writes_new_blobs_only(api, container):
    path = f"/{container}/fresh-{uuid.uuid4().hex[:8]}"
    token = service_sas(api.account, api.key, container, None, sp="c")
    assert api.request("PUT", f"{path}?{token}", BLOB, b"1", auth=None).status == 201
    again = api.request("PUT", f"{path}?{token}", BLOB, b"2", auth=None)
    assert (again.status, again.code) == (403, "UnauthorizedBlobOverwrite")
    assert api.request("GET", path).body == b"1"


def test_service_sas_overrides_response_headers(api, container):
    more = {"rscc": "no-cache", "rscd": "attachment; filename=a.txt", "rsce": "identity", "rscl": "de",
            "rsct": "text/asked"}
    names = {"rscc": "cache-control", "rscd": "content-disposition", "rsce": "content-encoding",
             "rscl": "content-language", "rsct": "content-type"}
    token = service_sas(api.account, api.key, container, "b", **more)
    for method in ("GET", "HEAD"):
        answer = api.request(method, f"/{container}/b?{token}", auth=None)
        assert {k: answer.headers.get(names[k]) for k in more} == more
    assert api.request("GET", f"/{container}/b").headers["content-type"] == "text/stored"
    plain = account_sas(api.account, api.key, rsct="text/asked")
    assert api.request("GET", f"/{container}/b?{plain}", auth=None).headers["content-type"] == "text/stored"


def test_secondary_reads_and_does_not_write(api, container):
    def at_secondary(method, path, headers=None, body=b""):
        lines = api.headers(headers, body)
        target = f"/{api.account}-secondary{path}"
        lines.append(("Authorization", shared_key(api.account, api.key, method, target, lines)))
        text = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines) + "\r\n"
        return api.raw(text.encode() + body, method)
    assert at_secondary("GET", f"/{container}/b").body == b"0123456789"
    assert at_secondary("PUT", f"/{container}/b", BLOB, b"x").status == 403
    assert api.request("GET", f"/{container}/b").body == b"0123456789"


def test_every_answer_has_the_common_headers(api, container):
    sent = str(uuid.uuid4())
    seen = set()
    for method, path, auth in (("GET", "/b", shared_key), ("HEAD", "/b", shared_key), ("GET", "/absent", shared_key),
                               ("HEAD", "/absent", shared_key), ("GET", "/b", None)):
        answer = api.request(method, f"/{container}{path}", {"x-ms-client-request-id": sent}, auth=auth)
        assert answer.headers["server"] == "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0"
        assert answer.headers["x-ms-version"] == VERSION
        assert answer.headers["x-ms-client-request-id"] == sent
        assert answer.headers["date"].endswith(" GMT")
        seen.add(str(uuid.UUID(answer.headers["x-ms-request-id"])))
    assert len(seen) == 5


def test_version_is_the_requests_or_the_tokens(api, container):
    assert api.request("GET", f"/{container}/b", {"x-ms-version": "2030-01-01"}).headers["x-ms-version"] == "2030-01-01"
    token = service_sas(api.account, api.key, container, "b", sv="2018-11-09")
    answer = api.request("GET", f"/{container}/b?{token}", {"x-ms-version": None}, auth=None)
    assert answer.headers["x-ms-version"] == "2018-11-09"


def test_100_continue_comes_after_authorisation_only(api, container):
    expect = {**BLOB, "Expect": "100-continue", "Content-Length": "4"}
    with api.connect() as on:
        on.send(api.head_bytes("PUT", f"/{container}/expected", expect))
        while b"\r\n\r\n" not in on.rest:
            on._more()
        assert on.rest.startswith(b"HTTP/1.1 100 ")
        on.send(b"body")
        assert on.answer("PUT").status == 201
    with api.connect() as on:
        on.send(api.head_bytes("PUT", f"/{container}/expected", expect, auth=None))
        assert on.answer("PUT").status == 401 and not on.interim


def test_pipelined_requests_are_answered_in_order(api, container):
    with api.connect() as on:
        on.send(b"".join(api.head_bytes("GET", f"/{container}/b", {"x-ms-range": f"bytes={i}-{i}"}) for i in range(10)))
        assert [on.answer().body for _ in range(10)] == [b"%d" % i for i in range(10)]
