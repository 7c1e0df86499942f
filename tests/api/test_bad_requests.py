"""Malformed and refused requests: each gets the right status and code, the server lives on, nothing has changed.

A case is what is sent and what must come back. Before and after each one the account's state (containers, blobs
with metadata and ETags, staged blocks) is read and compared. Method, paths and headers are written as they go over
the wire; {c} is the container of the test, {H} the Host. Runs against any endpoint, see conftest.py."""
import base64
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import account_sas, now, service_sas, shared_key, shared_key_lite, stamp

CASES = []
BLOCK = base64.b64encode(b"block-01").decode()
BLOCK_ARG = BLOCK.replace("=", "%3D")
OLD, FUTURE = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 2044 08:49:37 GMT"
BLOB = {"x-ms-blob-type": "BlockBlob"}


def case(name, status, code, send):
    CASES.append(pytest.param(status, code, send, id=name))


def signed(name, status, code, method, path, headers=None, body=b"", **options):
    """A request with a good signature, unless options say otherwise."""
    case(name, status, code, lambda t: t.api.request(
        method, path.format(c=t.container), headers(t) if callable(headers) else headers,
        body.encode() if isinstance(body, str) else body, **{k: v(t) if callable(v) and k in ("account", "key") else v
                                                              for k, v in options.items()}))


def put(name, status, code, headers=None, body=b"x", path="/{c}/new", **options):
    signed(name, status, code, "PUT", path, {**BLOB, **(headers or {})}, body, **options)


def raw(name, status, code, text):
    """Bytes as they are, apart from {H}, {base} (the account's path) and {c}."""
    data = text if isinstance(text, bytes) else text.encode("latin-1")

    def send(t):
        fill = {b"{H}": f"{t.api.host}:{t.api.port}", b"{base}": t.api.base, b"{c}": t.container}
        out = data
        for mark, value in fill.items():
            out = out.replace(mark, value.encode())
        return t.api.raw(out)
    case(name, status, code, send)


def sas(name, status, code, method, path, query, headers=None, body=b""):
    """query(t): the token's text."""
    case(name, status, code, lambda t: t.api.request(
        method, path.format(c=t.container) + ("&" if "?" in path else "?") + query(t), headers, body, auth=None))


# ---- framing: nothing here depends on the service, only on HTTP/1.1 being read in one way ----

HEAD = "GET {base}/{c}/b HTTP/1.1\r\nHost: {H}\r\n"
raw("framing: TLS on a plain port", 400, "InvalidInput",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40 + b"\r\n\r\n")
raw("framing: method alone", 400, "InvalidInput", "GET\r\n\r\n")
raw("framing: no version", 400, "InvalidInput", "GET {base}/{c}/b\r\nHost: {H}\r\n\r\n")
raw("framing: HTTP/2.0", 505, "InvalidInput", "GET {base}/{c}/b HTTP/2.0\r\nHost: {H}\r\n\r\n")
raw("framing: HTTP/1.2", 505, "InvalidInput", "GET {base}/{c}/b HTTP/1.2\r\nHost: {H}\r\n\r\n")
raw("framing: lower-case http", 400, "InvalidInput", "GET {base}/{c}/b http/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: HTTP/1.10", 400, "InvalidInput", "GET {base}/{c}/b HTTP/1.10\r\nHost: {H}\r\n\r\n")
raw("framing: bare line feeds", 400, "InvalidInput", "GET {base}/{c}/b HTTP/1.1\nHost: {H}\n\n")
raw("framing: a bare line feed in a header", 400, "InvalidInput", HEAD + "x-a: b\nx-c: d\r\n\r\n")
raw("framing: two spaces", 400, "InvalidInput", "GET  {base}/{c}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: leading space", 400, "InvalidInput", " GET {base}/{c}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: space in the target", 400, "InvalidInput", "GET {base}/{c}/a b HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: method with @", 400, "InvalidHttpVerb", "G@T {base}/{c}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: method of 40 letters", 400, "InvalidHttpVerb", "G" * 40 + " {base}/{c}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: control character in the target", 400, "RequestUrlFailedToParse",
    "GET {base}/{c}/\x01 HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: target without a slash", 400, "RequestUrlFailedToParse", "GET b HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: absolute target without a path", 400, "RequestUrlFailedToParse",
    "GET http://{H} HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("framing: header without a colon", 400, "InvalidInput", HEAD + "x-nothing\r\n\r\n")
raw("framing: space before the colon", 400, "InvalidInput", HEAD + "x-a : b\r\n\r\n")
raw("framing: header without a name", 400, "InvalidInput", HEAD + ": b\r\n\r\n")
raw("framing: header name with a slash", 400, "InvalidInput", HEAD + "x/a: b\r\n\r\n")
raw("framing: folded header", 400, "InvalidInput", HEAD + "x-a: b\r\n c\r\n\r\n")
raw("framing: NUL in a value", 400, "InvalidHeaderValue", HEAD + "x-a: b\0c\r\n\r\n")
raw("framing: bare CR in a value", 400, "InvalidHeaderValue", HEAD + "x-a: b\rc\r\n\r\n")
raw("framing: no Host", 400, "MissingRequiredHeader", "GET {base}/{c}/b HTTP/1.1\r\n\r\n")
raw("framing: two Hosts", 400, "InvalidHeaderValue", HEAD + "Host: {H}\r\n\r\n")
raw("framing: Host with a slash", 400, "InvalidHeaderValue", "GET {base}/{c}/b HTTP/1.1\r\nHost: a/b\r\n\r\n")
for value in ("-1", "+5", "5, 5", "0x10", "ten", "", "5 5", "99999999999999999999"):
    raw(f"framing: Content-Length '{value}'", 400, "InvalidHeaderValue", HEAD + f"Content-Length: {value}\r\n\r\n")
raw("framing: two equal Content-Lengths", 400, "InvalidHeaderValue",
    HEAD + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx")
raw("framing: two different Content-Lengths", 400, "InvalidHeaderValue",
    HEAD + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx")
raw("framing: length and chunked", 400, "InvalidHeaderValue",
    HEAD + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
for value in ("gzip", "gzip, chunked", "identity", "chunked, chunked", "xchunked", ""):
    raw(f"framing: Transfer-Encoding '{value}'", 400, "InvalidHeaderValue",
            HEAD + f"Transfer-Encoding: {value}\r\n\r\n0\r\n\r\n")
raw("framing: chunked twice", 400, "InvalidHeaderValue",
    HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
raw("framing: chunked in HTTP/1.0", 400, "InvalidHeaderValue",
    "GET {base}/{c}/b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
raw("framing: strange Expect", 417, "InvalidHeaderValue", HEAD + "Expect: the-worst\r\n\r\n")
raw("framing: head over 64 KiB", 400, "InvalidInput", HEAD + "x-a: " + "a" * 66000 + "\r\n\r\n")
raw("framing: 101 headers", 400, "InvalidInput", HEAD + "".join(f"x-{i}: b\r\n" for i in range(101)) + "\r\n")


def chunked(name, status, code, body):
    """Put Block List over a body of these raw chunks."""
    case("framing: " + name, status, code, lambda t: t.api.request(
        "PUT", f"/{t.container}/new?comp=blocklist", {"Content-Length": None, "Transfer-Encoding": "chunked"}, body))


chunked("chunk size of letters", 400, "InvalidInput", b"zz\r\nx\r\n0\r\n\r\n")
chunked("chunk size missing", 400, "InvalidInput", b"\r\nx\r\n0\r\n\r\n")
chunked("chunk size over 64 bits", 400, "InvalidInput", b"FFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n")
chunked("negative chunk size", 400, "InvalidInput", b"-1\r\nx\r\n0\r\n\r\n")
chunked("chunk longer than its size", 400, "InvalidInput", b"1\r\nxyz\r\n0\r\n\r\n")
chunked("chunk ended by a bare line feed", 400, "InvalidInput", b"1\r\nx\n0\r\n\r\n")

# ---- verbs and addresses ----

signed("verb: unknown", 405, "UnsupportedHttpVerb", "BREW", "/{c}/b")
signed("verb: lower-case", 405, "UnsupportedHttpVerb", "get", "/{c}/b")
signed("verb: PATCH", 405, "UnsupportedHttpVerb", "PATCH", "/{c}/b")
signed("verb: POST on a blob", 405, "UnsupportedHttpVerb", "POST", "/{c}/b")
signed("verb: DELETE of a block list", 405, "UnsupportedHttpVerb", "DELETE", "/{c}/b?comp=blocklist")
signed("verb: PUT of a listing", 405, "UnsupportedHttpVerb", "PUT", "/{c}?restype=container&comp=list")
signed("verb: POST of a container", 405, "UnsupportedHttpVerb", "POST", "/{c}?restype=container")
signed("verb: preflight", 403, "CorsPreflightFailure", "OPTIONS", "/{c}/b", {"Origin": "http://a",
       "Access-Control-Request-Method": "GET"})
raw("path: no account", 400, "InvalidUri", "GET / HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("path: asterisk", 400, "InvalidUri", "OPTIONS * HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("path: unknown account", 404, "ResourceNotFound", "GET /nobody/{c}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
raw("path: account in upper case", 404, "ResourceNotFound",
    "GET /DEVSTOREACCOUNT1/{c}/b HTTP/1.1\r\nHost: {H}\r\n\r\n")
signed("path: empty container", 400, "InvalidUri", "GET", "//b")
for escape in ("%", "%4", "%4g", "%C3", "%FF", "%C0%80", "%ED%A0%80", "%F4%90%80%80"):
    signed(f"path: {escape}", 400, "InvalidUri", "GET", "/{c}/a" + escape)
for escape in ("%00", "%01", "%1F", "%7F", "%0D%0A"):
    signed(f"path: control character {escape}", 400, "InvalidResourceName", "PUT", "/{c}/a" + escape, BLOB, b"x")
for name in ("ab", "a", "c" * 64):
    signed(f"container name: {len(name)} letters", 400, "OutOfRangeInput", "PUT", f"/{name}?restype=container")
for name in ("Upper", "under_score", "double--dash", "-lead", "trail-", "dot.ted", "%C3%A9%C3%A9%C3%A9", "$other",
        "a%20b"):
    signed(f"container name: {name}", 400, "InvalidResourceName", "PUT", f"/{name}?restype=container")
put("blob name: 1025 letters", 400, "OutOfRangeInput", path="/{c}/" + "n" * 1025)
put("blob name: 513 pairs of units", 400, "OutOfRangeInput", path="/{c}/" + "%F0%9F%98%80" * 513)
put("blob name: 255 segments", 400, "OutOfRangeInput", path="/{c}/" + "a/" * 254 + "a")

# ---- query ----

signed("query: broken escape", 400, "RequestUrlFailedToParse", "GET", "/{c}?restype=container&comp=list&prefix=%zz")
signed("query: broken escape in a name", 400, "RequestUrlFailedToParse", "GET",
       "/{c}?restype=container&comp=list&%z=1")
for escape in ("%00", "%0A", "%1F", "%7F"):
    signed(f"query: control character {escape}", 400, "InvalidQueryParameterValue", "GET",
           "/{c}?restype=container&comp=list&prefix=a" + escape)
    signed(f"query: marker with {escape}", 400, "InvalidQueryParameterValue", "GET",
           "/{c}?restype=container&comp=list&marker=a" + escape)
for name in ("prefix", "delimiter"):
    signed(f"query: {name} that is not UTF-8", 400, "InvalidQueryParameterValue", "GET",
           "/{c}?restype=container&comp=list&" + name + "=%FF")
signed("query: 65 parameters", 400, "RequestUrlFailedToParse", "GET",
       "/{c}/b?" + "&".join(f"a{i}=1" for i in range(65)))
for path in ("/{c}/b?comp=nonsense", "/{c}?restype=container&comp=nonsense", "/?comp=nonsense", "/{c}/b?comp=list",
             "/{c}?restype=nonsense", "/{c}/b?restype=container", "/{c}?comp=list", "/{c}", "/?restype=container"):
    signed(f"query: GET {path}", 400, "InvalidQueryParameterValue", "GET", path)
for value, code in (("0", "OutOfRangeQueryParameterValue"), ("-1", "OutOfRangeQueryParameterValue"),
                    ("many", "InvalidQueryParameterValue"), ("5x", "InvalidQueryParameterValue")):
    signed(f"query: maxresults={value}", 400, code, "GET", "/{c}?restype=container&comp=list&maxresults=" + value)
signed("query: maxresults=0 of containers", 400, "OutOfRangeQueryParameterValue", "GET", "/?comp=list&maxresults=0")
signed("query: unknown include", 400, "InvalidQueryParameterValue", "GET",
       "/{c}?restype=container&comp=list&include=everything")
signed("query: include=permissions on a flat account", 400, None, "GET",
       "/{c}?restype=container&comp=list&include=permissions")
signed("query: unknown include of containers", 400, "InvalidQueryParameterValue", "GET",
       "/?comp=list&include=everything")
signed("query: marker that is none", 400, "InvalidQueryParameterValue", "GET",
       "/{c}?restype=container&comp=list&marker=!!!")
signed("query: blocklisttype", 400, "InvalidQueryParameterValue", "GET", "/{c}/b?comp=blocklist&blocklisttype=some")
signed("query: Put Block without blockid", 400, "MissingRequiredQueryParameter", "PUT", "/{c}/new?comp=block", None,
       b"x")
signed("query: empty blockid", 400, None, "PUT", "/{c}/new?comp=block&blockid=", None, b"x")
for value in ("***", "YWJj=", "YWJ", "YWJj%0A", "%20", "YW%20Jj"):
    signed(f"query: blockid {value}", 400, "InvalidQueryParameterValue", "PUT",
            f"/{{c}}/new?comp=block&blockid={value}", None, b"x")
signed("query: blockid of 65 bytes", 400, "InvalidQueryParameterValue", "PUT",
       "/{c}/new?comp=block&blockid=" + base64.b64encode(b"i" * 65).decode().replace("+", "%2B"), None, b"x")
signed("query: blockid of another length", 400, "InvalidBlobOrBlock", "PUT",
       "/{c}/staged?comp=block&blockid=" + base64.b64encode(b"longer-block-id").decode().replace("=", "%3D"), None, b"x")
signed("query: snapshot that is none", 400, None, "GET", "/{c}/b?snapshot=yesterday")
signed("query: version that is none", 400, None, "GET", "/{c}/b?versionid=yesterday")

# ---- headers ----

for value in ("yesterday", "2021-10", "2021/10/04", "20211004", "2021-10-04x"):
    signed(f"header: x-ms-version {value}", 400, "InvalidHeaderValue", "GET", "/{c}/b", {"x-ms-version": value})
signed("header: no x-ms-blob-type", 400, "MissingRequiredHeader", "PUT", "/{c}/new", None, b"x")
put("header: unknown x-ms-blob-type", 400, "InvalidHeaderValue", {"x-ms-blob-type": "RoundBlob"})
put("header: no Content-Length", 411, "MissingContentLengthHeader", {"Content-Length": None}, b"")
put("header: chunked Put Blob", 411, "MissingContentLengthHeader", {"Content-Length": None,
    "Transfer-Encoding": "chunked"}, b"1\r\nx\r\n0\r\n\r\n")
signed("header: chunked Put Block", 411, "MissingContentLengthHeader", "PUT",
       f"/{{c}}/new?comp=block&blockid={BLOCK_ARG}",
       {"Content-Length": None, "Transfer-Encoding": "chunked"}, b"1\r\nx\r\n0\r\n\r\n")
signed("header: Put Block of nothing", 400, "InvalidHeaderValue", "PUT", f"/{{c}}/new?comp=block&blockid={BLOCK_ARG}")
put("header: metadata name with a dash", 400, "InvalidMetadata", {"x-ms-meta-a-b": "1"})
put("header: metadata name with a digit first", 400, "InvalidMetadata", {"x-ms-meta-1a": "1"})
put("header: metadata name with a dot", 400, "InvalidMetadata", {"x-ms-meta-a.b": "1"})
put("header: metadata without a name", 400, "EmptyMetadataKey", {"x-ms-meta-": "1"})
put("header: metadata over 8 KiB", 400, "MetadataTooLarge", {f"x-ms-meta-a{i}": "v" * 1000 for i in range(9)})
signed("header: Set Metadata with a bad name", 400, "InvalidMetadata", "PUT", "/{c}/b?comp=metadata",
       {"x-ms-meta-a-b": "1"})
signed("header: container metadata with a bad name", 400, "InvalidMetadata", "PUT",
       "/{c}?restype=container&comp=metadata", {"x-ms-meta-a-b": "1"})
signed("header: container with a bad metadata name", 400, "InvalidMetadata", "PUT", "/{c}-2?restype=container",
       {"x-ms-meta-a-b": "1"})
MD5_OF_X = "nd1uRYJ2w8MtL5QpLKpsuQ=="
for value in ("***", "YWJj", MD5_OF_X[:-1], MD5_OF_X + "AAAA"):
    put(f"hash: Content-MD5 {value}", 400, "InvalidMd5", {"Content-MD5": value})
    put(f"hash: x-ms-blob-content-md5 {value}", 400, "InvalidMd5", {"x-ms-blob-content-md5": value})
put("hash: wrong Content-MD5", 400, "Md5Mismatch", {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
put("hash: wrong x-ms-blob-content-md5", 400, "Md5Mismatch", {"x-ms-blob-content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="})
put("hash: wrong crc64", 400, "Crc64Mismatch", {"x-ms-content-crc64": "AAAAAAAAAAE="})
put("hash: crc64 of 7 bytes", 400, "InvalidHeaderValue", {"x-ms-content-crc64": "AAAAAAAAAA=="})
put("hash: both", 400, "BothCrc64AndMd5HeaderPresent", {"x-ms-content-crc64": "AAAAAAAAAAE=",
    "Content-MD5": MD5_OF_X})
signed("hash: block with wrong Content-MD5", 400, "Md5Mismatch", "PUT", f"/{{c}}/new?comp=block&blockid={BLOCK_ARG}",
       {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, b"x")
signed("hash: block with wrong crc64", 400, "Crc64Mismatch", "PUT", f"/{{c}}/new?comp=block&blockid={BLOCK_ARG}",
       {"x-ms-content-crc64": "AAAAAAAAAAE="}, b"x")
signed("hash: block list with wrong Content-MD5", 400, "Md5Mismatch", "PUT", "/{c}/new?comp=blocklist",
       {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, b"<BlockList/>")
signed("header: lease id where there is no lease", 412, "LeaseNotPresentWithBlobOperation", "PUT",
       "/{c}/b?comp=metadata", {"x-ms-lease-id": str(uuid.uuid4())})
signed("header: structured body on an operation that has none", 400, "UnsupportedHeader", "PUT", "/{c}/b?comp=blocklist",
       {"x-ms-structured-body": "XSM/1.0; properties=crc64", "x-ms-structured-content-length": "12"}, b"<BlockList/>")
signed("header: customer key", 400, "UnsupportedHeader", "PUT", "/{c}/new", {**BLOB, "x-ms-encryption-key": "a",
       "x-ms-encryption-algorithm": "AES256"}, b"x")


def too_large(name, path, headers, length):
    """Only the head is sent: the answer must not wait for the body."""
    case(f"length: {name}", 413, "RequestBodyTooLarge", lambda t: t.api.request(
        "PUT", path.format(c=t.container), {**headers, "Content-Length": length}))


too_large("Put Blob over 5000 MiB", "/{c}/new", BLOB, (5000 << 20) + 1)
too_large("Put Block over 4000 MiB", f"/{{c}}/new?comp=block&blockid={BLOCK_ARG}", {}, (4000 << 20) + 1)
too_large("Put Block List of 1 GiB", "/{c}/new?comp=blocklist", {}, 1 << 30)

# ---- conditions and ranges ----

signed("condition: If-None-Match: * on a read", 400, "UnsatisfiableCondition", "GET", "/{c}/b",
       {"If-None-Match": "*"})
for pair in (("If-Match", "If-None-Match"), ("If-Match", "If-Modified-Since"), ("If-None-Match",
        "If-Unmodified-Since"),
             ("If-Modified-Since", "If-Unmodified-Since")):
    put(f"condition: {' and '.join(pair)} on a write", 400, "MultipleConditionHeadersNotSupported",
        {name: '"0x1"' if name.endswith("Match") else OLD for name in pair})
for name in ("If-Modified-Since", "If-Unmodified-Since"):
    for value in ("yesterday", "2026-01-01T00:00:00Z", "Sun, 31 Nov 1994 08:49:37 GMT", "784111777"):
        signed(f"condition: {name}: {value}", 400, "InvalidHeaderValue", "GET", "/{c}/b", {name: value})
signed("condition: 65 ETags", 400, "InvalidHeaderValue", "GET", "/{c}/b", {"If-Match": ", ".join(['"0x1"'] * 65)})
signed("condition: If-Match on delete of a container", 400, "ConditionHeadersNotSupported", "DELETE",
       "/{c}?restype=container", {"If-Match": "*"})
signed("condition: If-Unmodified-Since on container metadata", 400, "ConditionHeadersNotSupported", "PUT",
       "/{c}?restype=container&comp=metadata", {"If-Unmodified-Since": FUTURE})
put("condition: If-Match of another ETag", 412, "ConditionNotMet", {"If-Match": '"0x1"'}, path="/{c}/b")
put("condition: weak ETag", 412, "ConditionNotMet", {"If-Match": 'W/"0x1"'}, path="/{c}/b")
put("condition: If-Match on an absent blob", 412, "ConditionNotMet", {"If-Match": "*"})
put("condition: If-None-Match: * on a blob", 409, "BlobAlreadyExists", {"If-None-Match": "*"}, path="/{c}/b")
put("condition: If-Unmodified-Since long ago", 412, "ConditionNotMet", {"If-Unmodified-Since": OLD}, path="/{c}/b")
put("condition: If-Modified-Since in future", 412, "ConditionNotMet", {"If-Modified-Since": FUTURE}, path="/{c}/b")
signed("condition: block list, If-None-Match: * on a blob", 409, "BlobAlreadyExists", "PUT",
       "/{c}/b?comp=blocklist", {"If-None-Match": "*"}, b"<BlockList/>")
signed("condition: metadata, If-None-Match: *", 412, "ConditionNotMet", "PUT", "/{c}/b?comp=metadata",
       {"If-None-Match": "*"})
signed("condition: delete with another ETag", 412, "ConditionNotMet", "DELETE", "/{c}/b", {"If-Match": '"0x1"'})
signed("condition: read with another ETag", 412, "ConditionNotMet", "GET", "/{c}/b", {"If-Match": '"0x1"'})
signed("condition: HEAD with another ETag", 412, "ConditionNotMet", "HEAD", "/{c}/b", {"If-Match": '"0x1"'})
signed("condition: not modified since now", 304, "ConditionNotMet", "GET", "/{c}/b", {"If-Modified-Since": FUTURE})
signed("condition: If-Match on an absent blob's read", 404, "BlobNotFound", "GET", "/{c}/absent", {"If-Match": "*"})
for name in ("Range", "x-ms-range"):
    signed(f"range: {name} from the end", 416, "InvalidRange", "GET", "/{c}/b", {name: "bytes=10-"})
    signed(f"range: {name} of an empty blob", 416, "InvalidRange", "GET", "/{c}/empty", {name: "bytes=0-"})
signed("range: far beyond", 416, "InvalidRange", "GET", "/{c}/b",
       {"x-ms-range": "bytes=18446744073709551614-18446744073709551615"})
for kind in ("md5", "crc64"):
    name = f"x-ms-range-get-content-{kind}"
    signed(f"range: {kind} without a range", 400, "InvalidHeaderValue", "GET", "/{c}/b", {name: "true"})
    signed(f"range: {kind} 'maybe'", 400, "InvalidHeaderValue", "GET", "/{c}/b", {name: "maybe",
            "x-ms-range": "bytes=0-1"})
    signed(f"range: {kind} of more than 4 MiB", 400, "OutOfRangeInput", "GET", "/{c}/b", {name: "true",
            "x-ms-range": "bytes=0-4194304"})
signed("range: both hashes", 400, "InvalidHeaderValue", "GET", "/{c}/b",
       {"x-ms-range-get-content-md5": "true", "x-ms-range-get-content-crc64": "true", "x-ms-range": "bytes=0-1"})

# ---- XML ----


def blocks(name, code, body, path="/{c}/staged?comp=blocklist"):
    signed(f"xml: {name}", 400, code, "PUT", path, None, body)


blocks("no body", "InvalidXmlDocument", "")
blocks("not XML", "InvalidXmlDocument", "block list")
blocks("JSON", "InvalidXmlDocument", '{"BlockList": []}')
blocks("cut short", "InvalidXmlDocument", f"<BlockList><Latest>{BLOCK}</Latest>")
blocks("tags crossed", "InvalidXmlDocument", f"<BlockList><Latest>{BLOCK}</BlockList></Latest>")
blocks("another root", "InvalidXmlDocument", f"<Blocks><Latest>{BLOCK}</Latest></Blocks>")
blocks("unknown element", "InvalidXmlDocument", f"<BlockList><Newest>{BLOCK}</Newest></BlockList>")
blocks("element in element", "InvalidXmlDocument",
       f"<BlockList><Latest><Latest>{BLOCK}</Latest></Latest></BlockList>")
blocks("two roots", "InvalidXmlDocument", "<BlockList/><BlockList/>")
blocks("text beside elements", "InvalidXmlDocument", f"<BlockList>text<Latest>{BLOCK}</Latest></BlockList>")
blocks("a document type", "InvalidXmlDocument",
       f'<?xml version="1.0"?><!DOCTYPE BlockList><BlockList><Latest>{BLOCK}</Latest></BlockList>')
blocks("an entity", "InvalidXmlDocument", '<!DOCTYPE b [<!ENTITY e "x">]><BlockList><Latest>&e;</Latest></BlockList>')
blocks("an outside entity", "InvalidXmlDocument",
       '<!DOCTYPE b [<!ENTITY e SYSTEM "file:///etc/passwd">]><BlockList><Latest>&e;</Latest></BlockList>')
LAUGHS = "".join(f'<!ENTITY {chr(98 + i)} "{("&" + chr(97 + i) + ";") * 10}">' for i in range(9))
blocks("a billion laughs", "InvalidXmlDocument",
       f'<!DOCTYPE b [<!ENTITY a "ha">{LAUGHS}]><BlockList><Latest>&j;</Latest></BlockList>')
blocks("broken UTF-8", "InvalidXmlDocument", b"<BlockList><Latest>\xff\xfe\xff</Latest></BlockList>")
blocks("unknown encoding", "InvalidXmlDocument", '<?xml version="1.0" encoding="klingon"?><BlockList/>')
blocks("NUL", "InvalidXmlDocument", b"<BlockList>\0</BlockList>")
blocks("id that is not base64", "InvalidBlockList", "<BlockList><Latest>***</Latest></BlockList>")
blocks("empty id", "InvalidBlockList", "<BlockList><Latest></Latest></BlockList>")
blocks("id of 65 bytes", "InvalidBlockList",
       f"<BlockList><Latest>{base64.b64encode(b'i' * 65).decode()}</Latest></BlockList>")
blocks("unknown block", "InvalidBlockList",
       f"<BlockList><Latest>{base64.b64encode(b'block-99').decode()}</Latest></BlockList>")
blocks("block in the wrong list", "InvalidBlockList", f"<BlockList><Committed>{BLOCK}</Committed></BlockList>")
blocks("one unknown among known", "InvalidBlockList",
       f"<BlockList><Latest>{BLOCK}</Latest>"
       f"<Uncommitted>{base64.b64encode(b'block-99').decode()}</Uncommitted></BlockList>")
blocks("block of another blob", "InvalidBlockList", f"<BlockList><Latest>{BLOCK}</Latest></BlockList>",
       "/{c}/new?comp=blocklist")
blocks("50 001 blocks", "BlockListTooLong", "<BlockList>" + f"<Latest>{BLOCK}</Latest>" * 50001 + "</BlockList>")

# ---- what is not there, or is already ----

signed("state: blob absent", 404, "BlobNotFound", "GET", "/{c}/absent")
signed("state: HEAD of an absent blob", 404, "BlobNotFound", "HEAD", "/{c}/absent")
signed("state: staged blocks are no blob", 404, "BlobNotFound", "GET", "/{c}/staged")
signed("state: delete of an absent blob", 404, "BlobNotFound", "DELETE", "/{c}/absent")
signed("state: metadata of an absent blob", 404, "BlobNotFound", "PUT", "/{c}/absent?comp=metadata")
signed("state: properties of an absent blob", 404, "BlobNotFound", "PUT", "/{c}/absent?comp=properties")
signed("state: block list of an absent blob", 404, "BlobNotFound", "GET", "/{c}/absent?comp=blocklist")
signed("state: blob in an absent container", 404, "ContainerNotFound", "GET", "/no-such-container/b")
put("state: Put Blob into an absent container", 404, "ContainerNotFound", path="/no-such-container/b")
signed("state: Put Block into an absent container", 404, "ContainerNotFound", "PUT",
       f"/no-such-container/b?comp=block&blockid={BLOCK_ARG}", None, b"x")
signed("state: listing of an absent container", 404, "ContainerNotFound", "GET",
       "/no-such-container?restype=container&comp=list")
signed("state: delete of an absent container", 404, "ContainerNotFound", "DELETE",
       "/no-such-container?restype=container")
signed("state: container that is there", 409, "ContainerAlreadyExists", "PUT", "/{c}?restype=container")

# ---- signatures ----

READ = ("GET", "/{c}/b")
signed("key: no credentials", 409, "PublicAccessNotPermitted", *READ, auth=None)
signed("key: no credentials for a write", 401, "NoAuthenticationInformation", "PUT", "/{c}/b?comp=metadata", auth=None)
for value in ("", "SharedKey", "SharedKey nobody", "SharedKey :abc", "SharedKey devstoreaccount1:", "Basic YTpi",
        "Digest a=b"):
    signed(f"key: Authorization '{value}'", 400, "InvalidAuthenticationInfo", *READ, {"Authorization": value},
            auth=None)
signed("key: bearer token", 401, "InvalidAuthenticationInfo", *READ, {"Authorization": "Bearer e30.e30.e30"},
       auth=None)
WRONG = base64.b64encode(b"w" * 64).decode()
signed("key: another key", 403, "AuthenticationFailed", *READ, key=WRONG)
signed("key: another key, lite", 403, "AuthenticationFailed", *READ, key=WRONG, auth=shared_key_lite)
signed("key: another account's name", 403, "AuthenticationFailed", *READ, account="nobody")
signed("key: signature that is not base64", 403, "AuthenticationFailed", *READ,
       lambda t: {"Authorization": f"SharedKey {t.api.account}:" + "*" * 44}, auth=None)
signed("key: signature cut short", 403, "AuthenticationFailed", *READ,
       lambda t: {"Authorization": f"SharedKey {t.api.account}:YWJj"}, auth=None)
signed("key: no date", 403, "AuthenticationFailed", *READ, {"x-ms-date": None})
signed("key: date that is none", 403, "AuthenticationFailed", *READ, {"x-ms-date": "today"})
signed("key: ISO date", 403, "AuthenticationFailed", *READ, {"x-ms-date": "2026-11-22T10:00:00Z"})
for minutes in (-16, 16, -600):
    case(f"key: {minutes} minutes off", 403, "AuthenticationFailed", lambda t, m=minutes: t.api.request(
        "GET", f"/{t.container}/b", {"x-ms-date": now(60 * m)}))


def tampered(name, headers=None, other_method=None, other_tail="", header=None, value=None):
    """A read whose signature was made over a request with one thing other than what is sent."""
    def auth(account, key, method, target, lines):
        lines = [(n, value if n == header else v) for n, v in lines]
        return shared_key(account, key, other_method or method, target + other_tail, lines)
    signed(f"key: signed with {name}", 403, "AuthenticationFailed", "GET", "/{c}/b", headers, auth=auth)


tampered("another method", other_method="HEAD")
tampered("another path", other_tail="c")
tampered("another query", other_tail="?timeout=1")
tampered("another x-ms-range", {"x-ms-range": "bytes=0-1"}, header="x-ms-range", value="bytes=0-2")
tampered("another If-Match", {"If-Match": "*"}, header="If-Match", value="x")
tampered("another version", header="x-ms-version", value="2020-02-10")

# ---- shared access signatures ----


def account_token(**fields):
    return lambda t: account_sas(t.api.account, t.api.key, **fields)


def token(blob="b", **fields):
    return lambda t: service_sas(t.api.account, t.api.key, fields.get("container", t.container), blob,
                                 **{k: v for k, v in fields.items() if k != "container"})


def without(make, name):
    """The token without one of its parameters."""
    return lambda t: "&".join(p for p in make(t).split("&") if not p.startswith(name + "="))


def edited(make, name, value):
    return lambda t: "&".join(f"{name}={value}" if p.startswith(name + "=") else p for p in make(t).split("&"))


FAILED = (403, "AuthenticationFailed")
sas("sas: expired", *FAILED, *READ, token(se=stamp(minutes=-1)))
sas("sas: expired account token", *FAILED, *READ, account_token(se=stamp(minutes=-1)))
sas("sas: not yet valid", *FAILED, *READ, token(st=stamp(hours=1)))
sas("sas: expiry that is no date", *FAILED, *READ, token(se="later"))
sas("sas: expiry without seconds or zone", *FAILED, *READ, token(se="2044-01-01T00:00"))
sas("sas: start that is no date", *FAILED, *READ, token(st="earlier"))
sas("sas: no expiry", *FAILED, *READ, without(token(), "se"))
sas("sas: no version", *FAILED, *READ, without(token(), "sv"))
sas("sas: no resource", *FAILED, *READ, without(token(), "sr"))
sas("sas: no permissions", *FAILED, *READ, without(token(), "sp"))
sas("sas: no signature", 409, "PublicAccessNotPermitted", *READ, without(token(), "sig"))
sas("sas: empty signature", *FAILED, *READ, edited(token(), "sig", ""))
sas("sas: signature of 3 bytes", *FAILED, *READ, edited(token(), "sig", "YWJj"))
sas("sas: signature that is not base64", *FAILED, *READ, edited(token(), "sig", "*" * 44))
sas("sas: signature of another key", *FAILED, *READ, lambda t: service_sas(t.api.account, WRONG, t.container, "b"))
sas("sas: version before 2015-04-05", *FAILED, *READ, token(sv="2014-02-14"))
sas("sas: version that is none", *FAILED, *READ, token(sv="tomorrow"))
sas("sas: permissions raised afterwards", *FAILED, *READ, edited(token(), "sp", "rwd"))
sas("sas: expiry raised afterwards", *FAILED, *READ, edited(token(), "se", "2044-01-01"))
sas("sas: resource raised to the container", *FAILED, *READ, edited(token(), "sr", "c"))
sas("sas: unknown resource", *FAILED, *READ, token(sr="x"))
sas("sas: blob token on another blob", *FAILED, "GET", "/{c}/empty", token())
sas("sas: blob token on its container", *FAILED, "GET", "/{c}?restype=container&comp=list", token(sp="rl"))
sas("sas: container token on another container", *FAILED, *READ, token(None, container="another"))
sas("sas: snapshot token without a snapshot", *FAILED, *READ, token(sr="bs", snapshot="2026-01-01T00:00:00.0000000Z"))
sas("sas: stored policy nobody stored", *FAILED, *READ, token(si="policy"))
sas("sas: user delegation", *FAILED, *READ,
    lambda t: token()(t) + "&skoid=a&sktid=b&skt=2026-01-01&ske=2044-01-01&sks=b&skv=2020-12-06")
PERMISSION = (403, "AuthorizationPermissionMismatch")
sas("sas: read with w", *PERMISSION, *READ, token(sp="w"))
sas("sas: write with r", *PERMISSION, "PUT", "/{c}/b", token(sp="r"), BLOB, b"x")
sas("sas: delete with rw", *PERMISSION, "DELETE", "/{c}/b", token(sp="rw"))
sas("sas: list with r", *PERMISSION, "GET", "/{c}?restype=container&comp=list", token(None, sp="r"))
sas("sas: block with c of a service token", *PERMISSION, "PUT", f"/{{c}}/b?comp=block&blockid={BLOCK_ARG}",
    token(sp="c"), None, b"x")
sas("sas: metadata with r", *PERMISSION, "PUT", "/{c}/b?comp=metadata", token(sp="r"))
sas("sas: commit with r", *PERMISSION, "PUT", "/{c}/b?comp=blocklist", token(sp="r"), None, b"<BlockList/>")
sas("sas: overwrite with c", 403, "UnauthorizedBlobOverwrite", "PUT", "/{c}/b", token(sp="c"), BLOB, b"x")
sas("sas: overwriting commit with c", 403, "UnauthorizedBlobOverwrite", "PUT", "/{c}/b?comp=blocklist",
    token(sp="c"), None, b"<BlockList/>")
sas("sas: container made with a container token", 403, "AuthorizationFailure", "PUT", "/{c}?restype=container",
    token(None, sp="racwdl"))
sas("sas: container deleted with a container token", 403, "AuthorizationFailure", "DELETE",
    "/{c}?restype=container", token(None, sp="racwdl"))
sas("sas: account token to read, write asked", *PERMISSION, "PUT", "/{c}/b", account_token(sp="rl"), BLOB, b"x")
sas("sas: account token for queues", 403, "AuthorizationServiceMismatch", *READ, account_token(ss="q"))
for srt, path in (("sc", "/{c}/b"), ("so", "/{c}?restype=container&comp=list"), ("co", "/?comp=list")):
    sas(f"sas: account token for {srt} on {path}", 403, "AuthorizationResourceTypeMismatch", "GET", path,
            account_token(srt=srt))
sas("sas: https only, over http", 403, "AuthorizationProtocolMismatch", *READ, token(spr="https"))
sas("sas: unknown protocol", *FAILED, *READ, token(spr="gopher"))
sas("sas: another address", 403, "AuthorizationSourceIPMismatch", *READ, token(sip="192.0.2.1"))
sas("sas: another range of addresses", 403, "AuthorizationSourceIPMismatch", *READ, token(sip="192.0.2.1-192.0.2.99"))
sas("sas: address that is none", *FAILED, *READ, token(sip="localhost"))
sas("sas: header override that splits the answer", 400, "InvalidQueryParameterValue", *READ,
    token(rsct="a\r\nx-evil: 1"))


# ---- the test ----

class Target:
    """The endpoint with the container of this file and the state it must keep."""

    def __init__(self, api):
        self.api = api
        self.make()

    def make(self):
        self.container = "bad-" + uuid.uuid4().hex[:8]
        c = "/" + self.container
        self.do(201, "PUT", c + "?restype=container")
        self.do(201, "PUT", c + "/b", {**BLOB, "x-ms-meta-kept": "1"}, b"0123456789")
        self.do(201, "PUT", c + "/empty", BLOB)
        self.do(201, "PUT", c + f"/staged?comp=block&blockid={BLOCK_ARG}", None, b"staged")
        self.right = self.state()

    def do(self, status, *request):
        answer = self.api.request(*request)
        assert answer.status == status, (request, answer)
        return answer.body

    def state(self):
        c = "/" + self.container
        with self.api.connect() as on:
            def read(path):
                answer = self.api.request("GET", path, on=on)
                assert answer.status == 200, (path, answer)
                return answer.body
            return (read(f"/?comp=list&include=metadata&prefix={self.container}"),
                    read(c + "?restype=container&comp=list&include=metadata,uncommittedblobs"),
                    read(c + "/staged?comp=blocklist&blocklisttype=all"), read(c + "/b"))


@pytest.fixture(scope="module")
def target(api):
    target = Target(api)
    yield target
    target.do(202, "DELETE", f"/{target.container}?restype=container")


@pytest.fixture(autouse=True)
def unchanged(target):
    """What a wrong server changed fails the test that did it, not those after it."""
    yield
    try:
        same = target.state() == target.right
    except AssertionError:
        same = False
    if not same:
        target.make()
    assert same, "the request has changed something"


@pytest.mark.parametrize("status, code, send", CASES)
def test_bad_request(target, status, code, send):
    answer = send(target)
    assert (answer.status, answer.code) == (status, code or answer.code), answer
    assert answer.headers["x-ms-request-id"]
    if answer.body:
        assert answer.headers["content-type"] == "application/xml"
        error = xml.fromstring(answer.body.decode("utf-8-sig"))
        assert error.tag == "Error" and error.findtext("Code") == answer.code
        assert error.findtext("Message").splitlines()[0] == answer.reason


def test_there_are_at_least_150_cases():
    assert len(CASES) >= 150


def test_error_answers_echo_the_clients_request_id(target):
    sent = str(uuid.uuid4())
    for method, path, auth in (("GET", "/absent", shared_key), ("HEAD", "/absent", shared_key), ("GET", "/b", None)):
        answer = target.api.request(method, f"/{target.container}{path}", {"x-ms-client-request-id": sent}, auth=auth)
        assert answer.status in (404, 409)
        assert answer.headers["x-ms-client-request-id"] == sent


def test_challenge_names_authority_and_resource(target):
    answer = target.api.request("GET", f"/{target.container}/b", {"Authorization": "Bearer x"}, auth=None)
    assert answer.headers["www-authenticate"].startswith("Bearer authorization_uri=https://")
    assert "resource_id=https://storage.azure.com" in answer.headers["www-authenticate"]


def test_range_errors_tell_the_size(target):
    for blob, size in (("b", 10), ("empty", 0)):
        answer = target.api.request("GET", f"/{target.container}/{blob}", {"Range": "bytes=10-"})
        assert answer.status == 416 and answer.headers["content-range"] == f"bytes */{size}"


def test_malformed_ranges_count_as_absent(target):
    for value in ("bytes=-5", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b"):
        answer = target.api.request("GET", f"/{target.container}/b", {"x-ms-range": value})
        assert (answer.status, answer.body) == (200, b"0123456789")


def test_half_a_body_changes_nothing(target):
    with target.api.connect() as on:
        on.send(target.api.head_bytes("PUT", f"/{target.container}/b", {**BLOB, "Content-Length": 1000}) + b"half")
        on.end_sending()
        assert on.closed()


def test_garbage_after_a_good_request_ends_the_connection(target):
    with target.api.connect() as on:
        on.send(target.api.head_bytes("GET", f"/{target.container}/b") + b"\x00garbage\r\n\r\n")
        assert on.answer().body == b"0123456789"
        assert on.answer().status == 400
        assert on.closed()


def test_a_refused_body_does_not_become_the_next_request(target):
    """The body of a refused Put Blob looks like a request; the connection must not serve it as one."""
    inner = target.api.head_bytes("DELETE", f"/{target.container}/b")
    with target.api.connect() as on:
        answer = target.api.request("PUT", f"/{target.container}/b", BLOB, inner, on=on, auth=None)
        assert answer.status == 401
        answer = target.api.request("GET", f"/{target.container}/b", on=on)
        assert answer.body == b"0123456789"
