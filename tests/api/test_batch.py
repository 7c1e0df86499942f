"""Blob Batch over the wire: what each part answers and does, byte for byte in the form the service uses.

Bodies are written by hand, so that every form of a path, every kind of credentials and every fault can be sent. After
each batch the blobs are asked for one by one: what a part said must be so, and what was refused must still be there."""
import base64
import re
import threading
import uuid

import pytest

from support.azure import account_sas, now, service_sas, shared_key

BOUNDARY = "batch_357de4f7-6d0b-4e02-8cd2-6361411a9525"
MULTIPART = {"Content-Type": f"multipart/mixed; boundary={BOUNDARY}"}


@pytest.fixture(scope="module")
def ctr(api):
    name = "batch-" + uuid.uuid4().hex[:8]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    yield name
    assert api.request("DELETE", f"/{name}?restype=container").status == 202


@pytest.fixture
def blobs(api, ctr):
    """put(names): their paths below the account."""
    def put(*names):
        paths = [f"/{ctr}/{name}" for name in names]
        for path in paths:
            assert api.request("PUT", path, {"x-ms-blob-type": "BlockBlob"}, b"x").status == 201
        return paths
    return put


def there(api, path):
    return api.request("HEAD", path).status == 200


def part(n, request_line, headers=()):
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    lines += [f"Content-ID: {n}"] if n is not None else []
    return "\r\n".join([*lines, "", request_line, *(f"{k}: {v}" for k, v in headers), "", ""])


def signed(api, method, target, headers=()):
    """Headers of a part as Python, JS and object_store sign it: over /ACCOUNT and its path as written."""
    lines = [("x-ms-date", now()), ("Content-Length", "0"), *headers]
    return [*lines, ("Authorization", shared_key(api.account, api.key, method, target, lines))]


def deletes(api, *targets):
    return [part(n, f"DELETE {t} HTTP/1.1", signed(api, "DELETE", t)) for n, t in enumerate(targets)]


def multipart(parts, boundary=BOUNDARY):
    return "".join(f"--{boundary}\r\n{p}\r\n" for p in parts).encode() + f"--{boundary}--\r\n".encode()


class Part:
    def __init__(self, text):
        envelope, _, rest = text.partition("\r\n\r\n")
        self.envelope = envelope.split("\r\n")
        head, _, self.body = rest.partition("\r\n\r\n")
        lines = head.split("\r\n")
        version, status, self.reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        self.status, self.lines = int(status), lines[1:]
        self.headers = dict(line.split(": ", 1) for line in self.lines if line)

    @property
    def code(self):
        return self.headers.get("x-ms-error-code")


def parts_of(answer):
    """The parts of a 202, in order; what frames them is asserted to be the service's."""
    assert (answer.status, answer.code) == (202, None), answer
    boundary = re.fullmatch(r"multipart/mixed; boundary=(batchresponse_[0-9a-f-]{36})", answer.headers["content-type"])[1]
    assert answer.headers["transfer-encoding"] == "chunked"
    text = answer.body.decode()
    assert text.startswith(f"--{boundary}\r\n") and text.endswith(f"\r\n--{boundary}--") and "\n\n" not in text
    return [Part(p) for p in text[:-len(boundary) - 4].split(f"--{boundary}\r\n")[1:]]


def batch(api, parts, path="?comp=batch", headers=None, **options):
    return api.request("POST", path, {**MULTIPART, **(headers or {})}, multipart(parts), **options)


def outcome(answer):
    return [(p.status, p.code) for p in parts_of(answer)]


DONE, GONE = (202, None), (404, "BlobNotFound")
SERVICE, JS_SERVICE = "?comp=batch", "?comp=batch&restype=container"


def test_batch__each_part_is_answered_in_its_place(api, ctr, blobs):
    a, b, c = blobs("a", "b b%C3%A9".replace(" ", "%20"), "kept")
    answer = batch(api, deletes(api, api.base + a, api.base + f"/{ctr}/none", api.base + b),
                   headers={"x-ms-version": "2022-11-02", "x-ms-client-request-id": "one"})
    first, second, third = parts_of(answer)
    assert answer.headers["x-ms-client-request-id"] == "one" and answer.headers["x-ms-version"] == "2022-11-02"
    for n, p in enumerate((first, second, third)):
        assert p.envelope == ["Content-Type: application/http", f"Content-ID: {n}"]
        assert p.headers["x-ms-version"] == "2022-11-02" and p.headers["Server"] == "Windows-Azure-Blob/1.0"
    assert (first.status, first.reason, first.body) == (202, "Accepted", "")
    assert first.headers["x-ms-delete-type-permanent"] == "true" and "Content-Length" not in first.headers
    assert (second.status, second.reason, second.code) == (404, "The specified blob does not exist.", "BlobNotFound")
    body = second.body.removesuffix("\r\n")
    assert len(body.encode()) == int(second.headers["Content-Length"]) and second.headers["Content-Type"] == "application/xml"
    assert f"RequestId:{second.headers['x-ms-request-id']}" in body
    assert third.status == 202
    assert len({p.headers["x-ms-request-id"] for p in (first, second, third)} | {answer.headers["x-ms-request-id"]}) == 4
    assert [there(api, p) for p in (a, b, c)] == [False, False, True]


@pytest.mark.parametrize("path", [SERVICE, JS_SERVICE, "/{c}?restype=container&comp=batch"])
@pytest.mark.parametrize("account", [True, False], ids=["account in the path", "without, as Python"])
def test_batch__paths_with_and_without_the_account(api, ctr, blobs, path, account):
    names = blobs("dir/one", "two")
    answer = batch(api, deletes(api, *((api.base if account else "") + n for n in names)), path.replace("{c}", ctr))
    assert outcome(answer) == [DONE, DONE]
    assert not any(there(api, n) for n in names)


def test_batch__a_container_named_as_the_account(api):
    inner = api.base
    api.request("PUT", inner + "?restype=container")
    for path in (SERVICE, inner + "?restype=container&comp=batch"):
        assert api.request("PUT", inner + "/deep/b", {"x-ms-blob-type": "BlockBlob"}, b"x").status == 201
        assert outcome(batch(api, deletes(api, api.base + inner + "/deep/b"), path)) == [DONE]
    assert api.request("PUT", inner + "/deep/b", {"x-ms-blob-type": "BlockBlob"}, b"x").status == 201
    assert outcome(batch(api, deletes(api, inner + "/deep/b"), inner + "?restype=container&comp=batch")) == [DONE]
    assert api.request("DELETE", inner + "?restype=container").status == 202


def test_batch__each_part_has_its_own_credentials(api, ctr, blobs):
    paths = blobs(*"abcdef")
    full = [api.base + p for p in paths]
    stale = [("x-ms-date", now(-3600))]
    wrong = shared_key(api.account, base64.b64encode(b"no").decode(), "DELETE", full[1], stale)
    parts = [
        part(0, f"DELETE {full[0]}?{account_sas(api.account, api.key, sp='d')} HTTP/1.1"),
        part(1, f"DELETE {full[1]} HTTP/1.1", [*stale, ("Authorization", wrong)]),
        part(2, f"DELETE {full[2]} HTTP/1.1"),
        part(3, f"DELETE {full[3]}?{service_sas(api.account, api.key, ctr, 'd', sp='d')} HTTP/1.1"),
        part(4, f"DELETE {full[4]}?{service_sas(api.account, api.key, ctr, sp='r')} HTTP/1.1"),
        part(5, f"DELETE {full[5]}?{service_sas(api.account, api.key, ctr, 'a', sp='d')} HTTP/1.1"),
    ]
    assert outcome(batch(api, parts)) == [DONE, (403, "AuthenticationFailed"), (401, "NoAuthenticationInformation"), DONE,
                                          (403, "AuthorizationPermissionMismatch"), (403, "AuthenticationFailed")]
    assert [there(api, p) for p in paths] == [False, True, True, False, True, True]


def test_batch__parts_without_credentials_go_under_the_sas_of_the_whole(api, ctr, blobs):
    a, b, c = blobs("a", "b", "c")
    bare = [part(0, f"DELETE {api.base}{a} HTTP/1.1"),
            part(1, f"DELETE {api.base}{b}?timeout=30 HTTP/1.1"),
            part(2, f"DELETE {api.base}{c}?{account_sas(api.account, api.key, sp='r')} HTTP/1.1")]
    token = account_sas(api.account, api.key, sp="d")
    assert outcome(batch(api, bare, f"?comp=batch&{token}", auth=None)) == [DONE, DONE,
                                                                            (403, "AuthorizationPermissionMismatch")]
    assert [there(api, p) for p in (a, b, c)] == [False, False, True]
    only_c = service_sas(api.account, api.key, ctr, sp="d")
    path = f"/{ctr}?restype=container&comp=batch&{only_c}"
    assert outcome(batch(api, [part(0, f"DELETE {c} HTTP/1.1")], path, auth=None)) == [DONE]


def test_batch__the_whole_is_authorised_first(api, ctr, blobs):
    kept, = blobs("kept")
    parts = deletes(api, api.base + kept)
    answer = batch(api, parts, auth=None)
    assert (answer.status, answer.code) == (401, "NoAuthenticationInformation")
    answer = batch(api, parts, key=base64.b64encode(b"other").decode())
    assert (answer.status, answer.code) == (403, "AuthenticationFailed")
    answer = batch(api, parts, "/no-such-container?restype=container&comp=batch")
    assert (answer.status, answer.code) == (404, "ContainerNotFound")
    assert there(api, kept)


def test_batch__conditions_and_faults_of_a_part_are_its_own(api, blobs):
    a, b, c, d = blobs("a", "b", "c", "d")
    line = "DELETE {} HTTP/1.1".format
    cases = [(a, [("If-Match", '"0x8D0000000000000"')], (412, "ConditionNotMet")),
             (b, [("x-ms-delete-snapshots", "include"), ("x-ms-client-request-id", "part-1")], DONE),
             (c, [("If-None-Match", "*")], (412, "ConditionNotMet")), (d, [], DONE), (d, [], GONE)]
    parts = [part(n, line(api.base + p), signed(api, "DELETE", api.base + p, h)) for n, (p, h, _) in enumerate(cases[:4])]
    answer = batch(api, parts)
    assert outcome(answer) == [want for _, _, want in cases[:4]]
    assert parts_of(answer)[1].headers["x-ms-client-request-id"] == "part-1"
    assert outcome(batch(api, deletes(api, api.base + d))) == [cases[4][2]]


def test_batch__set_tier_is_answered_as_alone(api, blobs):
    a, b = blobs("a", "b")
    tier = [("x-ms-access-tier", "Cool")]
    alone = api.request("PUT", a + "?comp=tier", dict(tier))
    targets = [api.base + p + "?comp=tier" for p in (a, b)]
    parts = [part(n, f"PUT {t} HTTP/1.1", signed(api, "PUT", t, tier)) for n, t in enumerate(targets)]
    assert outcome(batch(api, parts)) == [(alone.status, alone.code)] * 2


def test_batch__256_at_once_and_not_one_more(api, ctr, blobs):
    names = blobs(*(f"many/{n:03d}" for n in range(256)))
    parts = deletes(api, *(api.base + n for n in names))
    assert outcome(batch(api, parts + [parts[0].replace("Content-ID: 0", "Content-ID: 256")])) == [
        (400, "ExceedsMaxBatchRequestCount")]
    assert api.request("GET", f"/{ctr}?restype=container&comp=list&prefix=many/").body.count(b"<Blob>") == 256
    answer = batch(api, parts)
    assert outcome(answer) == [DONE] * 256
    assert [p.envelope[1] for p in parts_of(answer)] == [f"Content-ID: {n}" for n in range(256)]
    assert api.request("GET", f"/{ctr}?restype=container&comp=list&prefix=many/").body.count(b"<Blob>") == 0


def line(text):
    return lambda api, c: [part(0, text.format(a=api.base, c=c), signed(api, *text.format(a=api.base, c=c).split(" ")[:2]))]


WHOLE = {
    "empty": lambda api, c: [],
    "a nested batch": line("POST {a}?comp=batch HTTP/1.1"),
    "a read": line("GET {a}/{c}/kept HTTP/1.1"),
    "a write": line("PUT {a}/{c}/kept HTTP/1.1"),
    "a container": line("DELETE {a}/{c}?restype=container HTTP/1.1"),
    "an unknown comp": line("DELETE {a}/{c}/kept?comp=nothing HTTP/1.1"),
    "no version": line("DELETE {a}/{c}/kept"),
    "not a path": line("DELETE kept HTTP/1.1"),
    "a broken escape": line("DELETE {a}/{c}/%zz HTTP/1.1"),
    "no application/http": lambda api, c: [deletes(api, f"{api.base}/{c}/kept")[0].replace("application/http", "text/plain")],
    "a body": lambda api, c: [deletes(api, f"{api.base}/{c}/kept")[0] + "body\r\n"],
}


@pytest.mark.parametrize("what", WHOLE)
@pytest.mark.parametrize("path", [SERVICE, "/{c}?restype=container&comp=batch"], ids=["service", "container"])
def test_batch__nothing_runs_when_one_part_may_not_be_there(api, ctr, blobs, what, path):
    kept, = blobs("kept")
    good = deletes(api, api.base + kept) if what != "empty" else []
    one, = parts_of(batch(api, good + WHOLE[what](api, ctr), path.replace("{c}", ctr)))
    assert (one.status, one.code, one.envelope) == (400, "InvalidInput", ["Content-Type: application/http"])
    assert "<Code>InvalidInput</Code>" in one.body and there(api, kept)


def test_batch__two_kinds_are_refused_together(api, blobs):
    a, b = blobs("a", "b")
    target = api.base + b + "?comp=tier"
    tier = part(1, f"PUT {target} HTTP/1.1", signed(api, "PUT", target, [("x-ms-access-tier", "Cool")]))
    assert outcome(batch(api, deletes(api, api.base + a) + [tier])) == [(400, "AllBatchSubRequestsShouldBeSameApi")]
    assert there(api, a) and there(api, b)


def test_batch__of_a_container_speaks_of_no_other(api, ctr, blobs):
    a, = blobs("a")
    other = ctr + "2"
    api.request("PUT", f"/{other}?restype=container")
    api.request("PUT", f"/{other}/a", {"x-ms-blob-type": "BlockBlob"}, b"x")
    parts = deletes(api, api.base + a, f"{api.base}/{other}/a")
    assert outcome(batch(api, parts, f"/{ctr}?restype=container&comp=batch")) == [(400, "InvalidInput")]
    assert there(api, a) and there(api, f"/{other}/a")
    assert outcome(batch(api, parts)) == [DONE, DONE]
    api.request("DELETE", f"/{other}?restype=container")


@pytest.mark.parametrize("headers, status, code", [
    ({"Content-Type": None}, 400, "MissingRequiredHeader"),
    ({"Content-Type": "application/xml"}, 400, "InvalidHeaderValue"),
    ({"Content-Type": "multipart/mixed"}, 400, "InvalidHeaderValue"),
    ({"Content-Length": (4 << 20) + 1}, 413, "RequestBodyTooLarge"),
    ({"x-ms-version": "new"}, 400, "InvalidHeaderValue"),
])
def test_batch__what_is_wrong_at_the_head_needs_no_body(api, headers, status, code):
    with api.connect() as c:
        c.send(api.head_bytes("POST", SERVICE, {**MULTIPART, "Content-Length": 100, "Expect": "100-continue", **headers}))
        answer = c.answer("POST")
    assert (answer.status, answer.code) == (status, code)


def test_batch__a_body_that_ends_early_runs_nothing(api, blobs):
    kept, = blobs("kept")
    body = multipart(deletes(api, api.base + kept))
    for cut in (len(body) // 2, len(body) - 8):  # also just before the last delimiter is whole
        answer = api.request("POST", SERVICE, MULTIPART, body[:cut])
        assert outcome(answer) == [(400, "InvalidInput")]
    with api.connect() as c:
        c.send(api.head_bytes("POST", SERVICE, MULTIPART, body) + body[:-30])
    assert there(api, kept)


@pytest.mark.parametrize("boundary, written", [
    ("batch_1d3f/7Gc+A1", "batch_1d3f/7Gc+A1"), ('"quo ted"', "quo ted"), ("opendal-7a", "opendal-7a")])
def test_batch__boundaries_as_clients_write_them(api, blobs, boundary, written):
    a, = blobs("a")
    body = multipart(deletes(api, api.base + a), written)
    answer = api.request("POST", SERVICE, {"Content-Type": f"multipart/mixed; boundary={boundary}"}, body)
    assert outcome(answer) == [DONE]


def test_batch__chunked_and_large(api, blobs):
    """4 MiB of headers, sent in chunks: read whole, one part of it deletes."""
    a, = blobs("a")
    filler = "x" * 15000
    parts = [part(n, f"DELETE {api.base}{a} HTTP/1.1", [("x-filler", filler)]) for n in range(255)]
    body = multipart(deletes(api, api.base + a) + parts)
    assert (3 << 20) < len(body) < (4 << 20)
    with api.connect() as c:
        c.send(api.head_bytes("POST", SERVICE, {**MULTIPART, "Content-Length": None, "Transfer-Encoding": "chunked"}))
        for at in range(0, len(body), 1 << 18):
            piece = body[at:at + (1 << 18)]
            c.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        c.send(b"0\r\n\r\n")
        answer = c.answer("POST")
    assert outcome(answer) == [DONE] + [(401, "NoAuthenticationInformation")] * 255


def test_batch__many_at_once_delete_each_blob_once(api, ctr, blobs):
    names = blobs(*(f"race/{n}" for n in range(40)))
    body = deletes(api, *(api.base + n for n in names))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(batch(api, body))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    columns = list(zip(*map(outcome, answers)))
    assert all(sorted(c, key=str) == [DONE] + [GONE] * 3 for c in columns), columns


def test_batch__a_client_that_leaves_takes_nothing_along(api, ctr, blobs):
    """What it left undone the next batch does; the box's clean stop (conftest.py) shows that nothing hangs."""
    names = blobs(*(f"left/{n}" for n in range(40)))
    body = multipart(deletes(api, *(api.base + n for n in names)))
    for _ in range(5):
        with api.connect() as c:
            c.send(api.head_bytes("POST", SERVICE, MULTIPART, body) + body)
    answers = outcome(api.request("POST", SERVICE, MULTIPART, body))
    assert set(answers) <= {DONE, GONE} and not any(there(api, n) for n in names)
