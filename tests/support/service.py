"""One account as a test of operations uses it: makes what an operation works on, and asks for it in its shortest form.

    s = Service(client)
    op = s.operation("blockBlob.upload")           # a fresh target, whatever it needs beside it, a valid request
    answer = op.send({"x-ms-access-tier": "Cool"})

The table is tests/support/operations.json: every operation of the service with its parameters and answers."""
import base64
import hashlib
import json
import os
import urllib.parse
import uuid

from support.azure import service_sas, shared_key, stamp

with open(os.path.join(os.path.dirname(__file__), "operations.json")) as f:
    TABLE = {o["op"]: o for o in json.load(f)["operations"]}
NEWEST = "2026-10-06"
BODY, PAGE = b"0123456789" * 100, b"p" * 512
BLOCK_ID = base64.b64encode(b"block-01").decode()
XML = '<?xml version="1.0" encoding="utf-8"?>'
GOOD_FOR = {"block": "BlockBlob", "append": "AppendBlob", "page": "PageBlob"}


def md5(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def crc64_number(data):
    """CRC-64/NVME."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return crc ^ (1 << 64) - 1


def crc64(data):
    return base64.b64encode(crc64_number(data).to_bytes(8, "little")).decode()


def structured(data):
    """data as one segment of XSM/1.0 with CRC64."""
    crc, total = crc64_number(data).to_bytes(8, "little"), 13 + 18 + len(data) + 8
    head = b"\x01" + total.to_bytes(8, "little") + b"\x01\0\x01\0"
    return head + b"\x01\0" + len(data).to_bytes(8, "little") + data + crc + crc


def policies(*ids):
    rows = "".join(f"<SignedIdentifier><Id>{i}</Id><AccessPolicy><Start>{stamp(days=-1)}</Start><Expiry>{stamp(days=1)}"
                   f"</Expiry><Permission>r</Permission></AccessPolicy></SignedIdentifier>" for i in ids)
    return f"{XML}<SignedIdentifiers>{rows}</SignedIdentifiers>".encode()


def tag_set(**tags):
    rows = "".join(f"<Tag><Key>{k}</Key><Value>{v}</Value></Tag>" for k, v in tags.items())
    return f"{XML}<Tags><TagSet>{rows}</TagSet></Tags>".encode()


class Operation:
    """A request that is valid as it stands; send() with more headers, query or another body."""

    def __init__(self, service, name, container=None, blob=None):
        self.s, self.name, self.row = service, name, TABLE[name]
        self.container, self.blob = container, blob
        self.query = {k: v for k, v in self.row["query"].items() if v is not None}
        self.headers = {k: v for k, v in self.row["headers"].items() if v is not None}
        self.headers["x-ms-version"] = NEWEST
        self.body, self.lease, self.source = b"", None, None

    @property
    def path(self):
        out = "/"
        if self.container is not None:
            out += self.container + ("/" + self.blob if self.blob is not None else "")
        return out

    def target(self, query=None):
        pairs = [(k, v) for k, v in {**self.query, **(query or {})}.items() if v is not None]
        return self.path + ("?" + urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote) if pairs else "")

    def send(self, headers=None, query=None, body=None, **options):
        return self.s.api.request(self.row["method"], self.target(query), {**self.headers, **(headers or {})},
                                  self.body if body is None else body, **options)


class Service:
    def __init__(self, api):
        self.api, self.mark = api, uuid.uuid4().hex[:12]
        self.shared = self.new_container()
        self.count = 0

    def must(self, method, path, headers=None, body=b"", status=(200, 201, 202, 204)):
        a = self.api.request(method, path, {"x-ms-version": NEWEST, **(headers or {})}, body)
        assert a.status in status, (method, path, a)
        return a

    def new_container(self):
        name = "ops-" + uuid.uuid4().hex[:20]
        self.must("PUT", f"/{name}?restype=container")
        return name

    def new_blob(self, kind="block", headers=None, container=None):
        self.count += 1
        name = f"{kind}-{self.count}"
        more = {"page": {"x-ms-blob-content-length": 1024}}.get(kind, {})
        self.must("PUT", f"/{container or self.shared}/{name}", {"x-ms-blob-type": GOOD_FOR[kind], **more, **(headers or {})},
                  BODY if kind == "block" else b"")
        if kind == "append":
            self.must("PUT", f"/{container or self.shared}/{name}?comp=appendblock", {}, BODY)
        return name

    def url_of(self, blob):
        """A URL with its own right to be read: what a copy source needs."""
        path = f"/{self.shared}/{blob}"
        sas = service_sas(self.api.account, self.api.key, self.shared, blob, sp="rt")
        return f"{self.api.scheme}://{self.api.authority}{self.api.base}{path}?{sas}"

    def etag(self, op):
        return self.must("HEAD", op.path + ("" if op.blob else "?restype=container")).headers["etag"]

    def lease(self, op, seconds=60):
        """Leases what the operation works on; the id."""
        where = "?comp=lease" + ("" if op.blob else "&restype=container")
        op.lease = self.must("PUT", op.path + where, {"x-ms-lease-action": "acquire", "x-ms-lease-duration": seconds}
                             ).headers["x-ms-lease-id"]
        return op.lease

    def tag(self, op, **tags):
        self.must("PUT", op.path + "?comp=tags", {"x-ms-lease-id": op.lease} if op.lease else {}, tag_set(**tags))

    def tag_source(self, op, **tags):
        self.must("PUT", f"/{self.shared}/{op.source}?comp=tags", {}, tag_set(**tags))

    def snapshot(self, path):
        return self.must("PUT", path + "?comp=snapshot").headers["x-ms-snapshot"]

    # ---- a valid request of each operation ----

    def operation(self, name):
        group = name.split(".")[0]
        if group == "service":
            op = Operation(self, name)
        elif group == "container":
            op = Operation(self, name, container=self.new_container())
        else:
            kind = {"pageBlob": "page", "appendBlob": "append"}.get(group, "block")
            op = Operation(self, name, container=self.shared, blob=self.new_blob(kind))
        getattr(self, "_" + name.replace(".", "_"), lambda op: None)(op)
        return op

    def _service_filterBlobs(self, op):
        op.query["where"] = "\"color\" = 'red'"

    _container_filterBlobs = _service_filterBlobs

    def _service_setProperties(self, op):
        op.body = f"{XML}<StorageServiceProperties><Cors /></StorageServiceProperties>".encode()

    def _service_getUserDelegationKey(self, op):
        op.body = f"{XML}<KeyInfo><Start>{stamp()}</Start><Expiry>{stamp(hours=1)}</Expiry></KeyInfo>".encode()

    def _service_submitBatch(self, op, container=None):
        path = f"{self.api.base}/{container or self.shared}/{self.new_blob(container=container)}"
        lines = [("x-ms-date", dict(self.api.headers())["x-ms-date"])]
        auth = shared_key(self.api.account, self.api.key, "DELETE", path, lines)
        part = (f"--batch_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: 0\r\n\r\n"
                f"DELETE {path} HTTP/1.1\r\nx-ms-date: {lines[0][1]}\r\nAuthorization: {auth}\r\nContent-Length: 0\r\n\r\n\r\n")
        op.body = (part + "--batch_1--\r\n").encode()
        op.headers["Content-Type"] = "multipart/mixed; boundary=batch_1"

    def _container_submitBatch(self, op):
        self._service_submitBatch(op, op.container)

    def _container_create(self, op):
        op.container = "ops-" + uuid.uuid4().hex[:20]

    def _container_rename(self, op):
        op.headers["x-ms-source-container-name"] = op.container
        op.container = "ops-" + uuid.uuid4().hex[:20]

    def _container_restore(self, op):
        self.must("DELETE", op.path + "?restype=container")
        op.headers["x-ms-deleted-container-name"] = op.container
        op.headers["x-ms-deleted-container-version"] = "01D60F8BB59A4652"

    def _container_setAccessPolicy(self, op):
        op.body = policies("one")

    def _container_listBlobHierarchySegment(self, op):
        op.query["delimiter"] = "/"

    _container_listBlobHierarchySegmentApacheArrow = _container_listBlobHierarchySegment

    def _container_acquireLease(self, op):
        op.headers.update({"x-ms-lease-duration": "60"})

    _blob_acquireLease = _container_acquireLease

    def _container_breakLease(self, op):
        self.lease(op)

    _blob_breakLease = _container_breakLease

    def _container_renewLease(self, op):
        op.headers["x-ms-lease-id"] = self.lease(op)

    _blob_renewLease = _container_releaseLease = _blob_releaseLease = _container_renewLease

    def _container_changeLease(self, op):
        self._container_renewLease(op)
        op.headers["x-ms-proposed-lease-id"] = str(uuid.uuid4())

    _blob_changeLease = _container_changeLease

    def _source(self, op, kind="block"):
        op.source = self.new_blob(kind)
        op.headers["x-ms-copy-source"] = self.url_of(op.source)

    _blob_startCopyFromURL = _blob_copyFromURL = _blockBlob_putBlobFromUrl = _source

    def _blob_abortCopyFromURL(self, op):
        op.query["copyid"] = str(uuid.uuid4())

    def _blob_query(self, op):
        op.body = f"{XML}<QueryRequest><QueryType>SQL</QueryType><Expression>SELECT * FROM BlobStorage</Expression></QueryRequest>".encode()

    def _blob_setTags(self, op):
        op.body = tag_set(color="red")

    def _blob_setTier(self, op):
        op.headers["x-ms-access-tier"] = "Cool"

    def _blob_setExpiry(self, op):
        op.headers["x-ms-expiry-option"] = "NeverExpire"

    def _blob_setImmutabilityPolicy(self, op):
        op.headers.update({"x-ms-immutability-policy-until-date": dict(self.api.headers())["x-ms-date"],
                           "x-ms-immutability-policy-mode": "Unlocked"})

    def _blob_setLegalHold(self, op):
        op.headers["x-ms-legal-hold"] = "false"

    def _blockBlob_upload(self, op):
        op.body = BODY

    def _blockBlob_stageBlock(self, op):
        op.query["blockid"], op.body = BLOCK_ID, BODY

    def _blockBlob_stageBlockFromURL(self, op):
        self._source(op)
        op.query["blockid"] = BLOCK_ID

    def _blockBlob_commitBlockList(self, op):
        self.must("PUT", f"{op.path}?comp=block&blockid={urllib.parse.quote(BLOCK_ID)}", {}, BODY)
        op.body = f"{XML}<BlockList><Latest>{BLOCK_ID}</Latest></BlockList>".encode()

    def _blockBlob_getBlockList(self, op):
        op.query["blocklisttype"] = "all"

    def _appendBlob_appendBlock(self, op):
        op.body = BODY

    def _appendBlob_appendBlockFromUrl(self, op):
        self._source(op)

    def _pageBlob_create(self, op):
        op.headers["x-ms-blob-content-length"] = "1024"

    def _pageBlob_uploadPages(self, op):
        op.body, op.headers["x-ms-range"] = PAGE, "bytes=0-511"

    def _pageBlob_clearPages(self, op):
        op.headers["x-ms-range"] = "bytes=0-511"

    def _pageBlob_uploadPagesFromURL(self, op):
        self._source(op, "page")
        op.headers.update({"x-ms-range": "bytes=0-511", "x-ms-source-range": "bytes=0-511"})

    def _pageBlob_resize(self, op):
        op.headers["x-ms-blob-content-length"] = "2048"

    def _pageBlob_updateSequenceNumber(self, op):
        op.headers.update({"x-ms-sequence-number-action": "update", "x-ms-blob-sequence-number": "7"})

    def _pageBlob_getPageRangesDiff(self, op):
        op.query["prevsnapshot"] = self.snapshot(op.path)

    def _pageBlob_copyIncremental(self, op):
        self._source(op, "page")
