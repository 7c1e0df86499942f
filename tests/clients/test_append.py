"""Append blobs by the clients that have a flow for them: azcopy, the Python and JS SDKs, adlfs's append (its requests).
On the account that stays in the box."""
import os
import random
import subprocess
import threading

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

from support import tree
from support.box import AZCOPY, KEY, NODE, NPM


def payload(n, seed=1):
    return random.Random(seed).randbytes(n)


def sas_of(service):
    from datetime import datetime, timedelta
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas
    return generate_account_sas(service.account_name, KEY, ResourceTypes(service=True, container=True, object=True),
                                AccountSasPermissions(read=True, write=True, list=True, add=True, create=True),
                                datetime.utcnow() + timedelta(days=1))


def test_python__append_and_seal(second):
    service, name = second
    blob = service.get_blob_client(name, "log")
    blob.create_append_blob(metadata={"a": "1"})
    whole = b""
    for n, size in enumerate([1, 70000, 4 << 20]):
        done = blob.append_block(payload(size, n), validate_content=n == 1, appendpos_condition=len(whole))
        assert (done["blob_append_offset"], done["blob_committed_block_count"]) == (str(len(whole)), n + 1)
        whole += payload(size, n)
    for condition in ({"appendpos_condition": 1}, {"maxsize_condition": 10}):
        with pytest.raises(HttpResponseError) as e:
            blob.append_block(b"x", **condition)
        assert e.value.status_code == 412
    with pytest.raises(ResourceModifiedError):
        blob.append_block(b"x", etag='"0x1"', match_condition=MatchConditions.IfNotModified)
    p = blob.get_blob_properties()
    assert (p.blob_type, p.append_blob_committed_block_count, p.size, p.metadata) == ("AppendBlob", 3, len(whole), {"a": "1"})
    assert blob.download_blob().readall() == whole
    blob.append_block_from_url(f"{blob.url}?{sas_of(service)}", source_offset=1, source_length=70000)
    assert blob.download_blob().readall() == whole + payload(70000, 1)
    assert blob.seal_append_blob()["blob_sealed"] is True
    with pytest.raises(ResourceExistsError) as e:
        blob.append_block(b"x")
    assert e.value.error_code == "BlobIsSealed"


def test_python__upload_blob_creates_and_goes_on(second):
    service, name = second
    blob = service.get_blob_client(name, "upload")
    blob.upload_blob(payload(9 << 20), blob_type="AppendBlob", overwrite=True)
    blob.upload_blob(payload(300, 2), blob_type="AppendBlob")
    assert blob.download_blob().readall() == payload(9 << 20) + payload(300, 2)
    blob.upload_blob(b"anew", blob_type="AppendBlob", overwrite=True)
    assert blob.download_blob().readall() == b"anew"


def test_python__two_writers_lose_nothing(second):
    service, name = second
    blob = service.get_blob_client(name, "both")
    blob.create_append_blob()
    threads = [threading.Thread(target=lambda k=k: [blob.append_block(b"%d" % k * 100) for _ in range(50)]) for k in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    data = blob.download_blob().readall()
    pieces = [data[i:i + 100] for i in range(0, len(data), 100)]
    assert sorted(pieces) == sorted([b"0" * 100] * 50 + [b"1" * 100] * 50)


def test_python__as_adlfs_does_open_for_append(second):
    """spec.py, mode ab: properties, create if there is none; each flush one Append Block of the buffer."""
    service, name = second
    blob = service.get_blob_client(name, "adlfs")
    for round in range(2):
        try:
            blob.get_blob_properties()
        except ResourceNotFoundError:
            blob.create_append_blob(metadata={"is_directory": "false"})
        blob.upload_blob(data=b"round %d" % round, length=7, blob_type="AppendBlob", metadata={"is_directory": "false"})
    assert blob.download_blob().readall() == b"round 0round 1"


def test_js__append_blob(box, second):
    service, name = second
    script = os.path.join(os.path.dirname(__file__), "js_append.js")
    done = subprocess.run([NODE, script, service.url.rstrip("/"), service.account_name, KEY, name], capture_output=True, text=True,
                          env={**os.environ, "NPM": NPM}, timeout=120)
    assert (done.stdout, done.returncode) == ("ok\n", 0), done.stdout + done.stderr


def test_azcopy__uploads_append_blobs(second, tmp_path):
    service, name = second
    root = str(tmp_path / "up")
    tree.fill(f"{root}/large.bin", (9 << 20) + 3, "large")
    tree.fill(f"{root}/one", 1, 1)
    tree.fill(f"{root}/empty", 0, 0)
    url = f"{service.url.rstrip('/')}/{name}?{sas_of(service)}"

    def azcopy(*args):
        done = subprocess.run([AZCOPY, *args], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "AZCOPY_LOG_LOCATION": str(tmp_path), "AZCOPY_JOB_PLAN_LOCATION": str(tmp_path)})
        assert done.returncode == 0, done.stdout + done.stderr
    azcopy("copy", root + "/*", url, "--recursive", "--blob-type=AppendBlob", "--block-size-mb=2", "--put-md5", "--from-to=LocalBlob")
    blobs = {b.name: b for b in service.get_container_client(name).list_blobs()}
    assert {n: b.blob_type for n, b in blobs.items()} == dict.fromkeys(["large.bin", "one", "empty"], "AppendBlob")
    assert service.get_blob_client(name, "large.bin").get_blob_properties().append_blob_committed_block_count == 5
    azcopy("copy", url.replace("?", "/*?"), str(tmp_path / "down"), "--recursive", "--from-to=BlobLocal", "--check-md5=FailIfDifferent")
    assert tree.digests(str(tmp_path / "down")) == tree.digests(root)
