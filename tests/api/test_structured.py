"""Structured bodies (XSM/1.0 with CRC64) both ways: what is stored is the content alone, what comes back is the content
in segments whose checksums are right, and nothing damaged or mislabelled is ever stored."""
import base64
import functools
import operator
import random
import uuid

import pytest

from support.service import crc64, crc64_number

TYPE = "XSM/1.0; properties=crc64"
BLOB = {"x-ms-blob-type": "BlockBlob"}
CHUNK = 1 << 16
SHIFT = [1 << n for n in range(64)]  # what a chunk of zeros makes of each bit of a CRC
for n in range(64):
    for _ in range(8):
        SHIFT[n] = SHIFT[n] >> 1 ^ (0x9A6C9329AC4BC9B5 if SHIFT[n] & 1 else 0)


def applied(columns, v):
    return functools.reduce(operator.xor, (c for n, c in enumerate(columns) if v >> n & 1), 0)


for _ in range(16):
    SHIFT = [applied(SHIFT, c) for c in SHIFT]
chunk_crc = functools.lru_cache(None)(crc64_number)


def crc(data):
    """In chunks; what is tested repeats itself, so few of them have to be looked at."""
    first = len(data) % CHUNK
    v = chunk_crc(data[:first])
    for at in range(first, len(data), CHUNK):
        v = applied(SHIFT, v) ^ chunk_crc(data[at:at + CHUNK])
    return v.to_bytes(8, "little")


def message(*segments):
    data = b"".join(segments)
    out = [b"\x01", (21 + 18 * len(segments) + len(data)).to_bytes(8, "little"), b"\1\0", len(segments).to_bytes(2, "little")]
    for n, s in enumerate(segments, 1):
        out += [n.to_bytes(2, "little"), len(s).to_bytes(8, "little"), s, crc(s)]
    return b"".join(out + [crc(data)])


def content_of(answer):
    """The content of a structured answer, all checksums compared."""
    body, at, out = answer.body, 13, []
    assert answer.headers["x-ms-structured-body"] == TYPE
    assert (body[0], int.from_bytes(body[1:9], "little"), body[9:11]) == (1, len(body), b"\1\0")
    for n in range(1, int.from_bytes(body[11:13], "little") + 1):
        assert int.from_bytes(body[at:at + 2], "little") == n
        size = int.from_bytes(body[at + 2:at + 10], "little")
        out.append(body[at + 10:at + 10 + size])
        assert body[at + 10 + size:at + 18 + size] == crc(out[-1])
        at += 18 + size
    data = b"".join(out)
    assert body[at:] == crc(data) and len(data) == int(answer.headers["x-ms-structured-content-length"])
    return data


def headers(n, **more):
    return {"x-ms-structured-body": TYPE, "x-ms-structured-content-length": n, **more}


@pytest.fixture(scope="module")
def ctr(api):
    name = "sb-" + uuid.uuid4().hex[:8]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    yield name
    assert api.request("DELETE", f"/{name}?restype=container").status == 202


def split(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)] or [b""]


NOISE = (random.Random(5).randbytes(CHUNK) * 81)[:(5 << 20) + 321]
KIB = 1024
SIZES = [(0, 1), (1, 1), (4057, 4096), (4096, 4096), (4097, 4097), (10000, 7), (65536 - 39, 65536), (65536, 65536), (65537, 65537),
         (30000, 100), (512 * KIB - 39, 1 << 22), (512 * KIB, 1 << 22), (512 * KIB + 1, 512 * KIB), (len(NOISE), 1 << 22),
         (len(NOISE), 1 << 20)]


@pytest.mark.parametrize("size, segment", SIZES)
def test_structured__what_is_put_is_got_either_way(api, ctr, size, segment):
    data, path = NOISE[:size], f"/{ctr}/b{size}"
    a = api.request("PUT", path, {**BLOB, **headers(size)}, message(*split(data, segment)))
    assert (a.status, a.headers["x-ms-structured-body"]) == (201, TYPE), a
    assert a.headers["x-ms-content-crc64"] == base64.b64encode(crc(data)).decode()
    plain = api.request("GET", path)
    assert plain.body == data and "x-ms-structured-body" not in plain.headers
    a = api.request("GET", path, {"x-ms-structured-body": TYPE})
    assert a.status == 200 and content_of(a) == data
    assert (a.headers["content-md5"], a.headers["etag"]) == (plain.headers["content-md5"], plain.headers["etag"])
    assert len(a.body) == int(a.headers["content-length"])


@pytest.mark.parametrize("start, end", [(0, 0), (0, 5 << 20), (1, (4 << 20) + 1), (70000, 70009), (100, 1 << 30)])
def test_structured__ranges(api, ctr, start, end):
    path = f"/{ctr}/ranges"
    api.request("PUT", path, BLOB, NOISE)
    a = api.request("GET", path, {"x-ms-structured-body": TYPE, "x-ms-range": f"bytes={start}-{end}"})
    want = NOISE[start:end + 1]
    assert a.status == 206 and content_of(a) == want
    assert a.headers["content-range"] == f"bytes {start}-{start + len(want) - 1}/{len(NOISE)}"
    a = api.request("GET", path, {"x-ms-structured-body": TYPE, "x-ms-range": f"bytes={len(NOISE)}-"})
    assert (a.status, a.code) == (416, "InvalidRange") and "x-ms-structured-body" not in a.headers


def test_structured__blocks(api, ctr):
    path, ids = f"/{ctr}/blocks", [base64.b64encode(b"%04d" % n).decode() for n in range(3)]
    parts = [NOISE[:3 << 20], NOISE[3 << 20:(3 << 20) + 5], NOISE[(3 << 20) + 5:]]
    for id, data in zip(ids, parts):
        a = api.request("PUT", f"{path}?comp=block&blockid={id.replace('=', '%3D')}", headers(len(data)),
                        message(*split(data, 1 << 20)))
        assert (a.status, a.headers["x-ms-structured-body"]) == (201, TYPE), a
        assert a.headers["x-ms-content-crc64"] == base64.b64encode(crc(data)).decode()
    a = api.request("PUT", f"{path}?comp=block&blockid={ids[0].replace('=', '%3D')}", headers(0), message())
    assert (a.status, a.code) == (400, "InvalidHeaderValue")
    rows = "".join(f"<Latest>{i}</Latest>" for i in ids)
    assert api.request("PUT", path + "?comp=blocklist", {}, f"<BlockList>{rows}</BlockList>".encode()).status == 201
    assert api.request("GET", path).body == NOISE


HELLO = message(b"hel", b"lo")
INVALID = (400, "InvalidHeaderValue")
BAD = {
    "data": (headers(5), HELLO.replace(b"hel", b"hal"), (400, "Crc64Mismatch")),
    "a segment's crc": (headers(5), HELLO[:26] + b"\0" + HELLO[27:], (400, "Crc64Mismatch")),
    "the crc of all": (headers(5), HELLO[:-1] + b"\0", (400, "Crc64Mismatch")),
    "version": (headers(5), b"\2" + HELLO[1:], (400, "InvalidInput")),
    "flags": (headers(5), HELLO[:9] + b"\0\0" + HELLO[11:], (400, "InvalidInput")),
    "segment number": (headers(5), HELLO[:13] + b"\2" + HELLO[14:], (400, "InvalidInput")),
    "its own length": (headers(5), HELLO[:1] + b"\0" + HELLO[2:], (400, "InvalidInput")),
    "a segment too long": (headers(5), HELLO[:15] + b"\6" + HELLO[16:], (400, "InvalidInput")),
    "a segment too short": (headers(5), HELLO[:15] + b"\2" + HELLO[16:], (400, "Crc64Mismatch")),
    "not structured at all": (headers(5), b"x" * len(HELLO), (400, "InvalidInput")),
    "content length one less": (headers(4), HELLO, INVALID),
    "content length of the body": (headers(len(HELLO)), HELLO, INVALID),
    "content length in words": (headers("five"), HELLO, INVALID),
    "no content length": ({"x-ms-structured-body": TYPE}, HELLO, (400, "MissingRequiredHeader")),
    "another version": (headers(5, **{"x-ms-structured-body": "XSM/2.0; properties=crc64"}), HELLO, INVALID),
    "other properties": (headers(5, **{"x-ms-structured-body": "XSM/1.0; properties=md5"}), HELLO, INVALID),
    "no properties": (headers(5, **{"x-ms-structured-body": "XSM/1.0"}), HELLO, INVALID),
    "an MD5 beside it": (headers(5, **{"Content-MD5": "XUFAKrxLKna5cZ2REBfFkg=="}), HELLO, (400, "UnsupportedHeader")),
    "a CRC64 beside it": (headers(5, **{"x-ms-content-crc64": crc64(b"hello")}), HELLO, (400, "UnsupportedHeader")),
    "the MD5 of something else": (headers(5, **{"x-ms-blob-content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}), HELLO, (400, "Md5Mismatch")),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("query", ["", "?comp=block&blockid=MDAwMQ%3D%3D"], ids=["blob", "block"])
def test_structured__what_is_wrong_is_not_stored(api, ctr, what, query):
    more, body, want = BAD[what]
    if query and "x-ms-blob-content-md5" in more:
        pytest.skip("blocks have none")
    path = f"/{ctr}/bad-{uuid.uuid4().hex[:8]}"
    a = api.request("PUT", path + query, {**BLOB, **more} if not query else more, body)
    assert (a.status, a.code) == want, a
    assert "x-ms-structured-body" not in a.headers
    assert api.request("GET", path + "?comp=blocklist&blocklisttype=all").status == 404


def test_structured__damage_at_the_end_of_a_large_body(api, ctr):
    path, body = f"/{ctr}/large", bytearray(message(*split(NOISE, 1 << 20)))
    body[-60] ^= 1  # in the last segment's data
    a = api.request("PUT", path, {**BLOB, **headers(len(NOISE))}, bytes(body))
    assert (a.status, a.code) == (400, "Crc64Mismatch")
    assert api.request("HEAD", path).status == 404


def test_structured__the_crc_here_is_the_services():
    for data in (b"", b"a", b"123456789", NOISE[:300], NOISE[:2 * CHUNK + 5]):
        assert int.from_bytes(crc(data), "little") == crc64_number(data)
