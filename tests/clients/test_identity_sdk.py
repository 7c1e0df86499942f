"""The Python SDK with a TokenCredential over https with a private CA, and SAS it signs with a user delegation key."""
import os
import sys
import time
from datetime import datetime, timedelta, timezone

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from azure.core.credentials import AccessToken  # noqa: E402
from azure.storage.blob import (BlobClient, BlobServiceClient, ContainerSasPermissions,  # noqa: E402
                                generate_container_sas)

from support.box import ACCOUNT, Box  # noqa: E402
from support.entra import AUDIENCE, TRAINER, Tenant  # noqa: E402
from test_azcopy_https import openssl  # noqa: E402


class Credential:
    """Asks nobody; notes which scopes the SDK wanted."""

    def __init__(self, tenant):
        self.tenant, self.scopes = tenant, []

    def get_token(self, *scopes, **_):
        self.scopes += scopes
        audience = scopes[0].rpartition("/.default")[0]
        return AccessToken(self.tenant.token(aud=audience), int(time.time()) + 600)


@pytest.fixture(scope="module")
def https(tmp_path_factory):
    tenant, folder = Tenant(tmp_path_factory.mktemp("tenant")), str(tmp_path_factory.mktemp("ca"))
    tenant.replace("revoked", "")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
            "subjectAltName = DNS:localhost,IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.crt", folder=folder)
    os.chmod(f"{folder}/tls.key", 0o600)
    box = Box(tmp_path_factory.mktemp("box"), account=f'grants = {{ "oid:{TRAINER} * contributor" }}',
              top=f'tls {{ cert = "{folder}/tls.crt" key = "{folder}/tls.key" }}\n' + tenant.top()).start()
    yield tenant, f"https://localhost:{box.port}/{ACCOUNT}", f"{folder}/tls.crt"
    assert box.stop() == 0, box.text()[-4000:]


def test_python_sdk__token_credential_and_user_delegation_sas(https):
    tenant, url, ca = https
    credential = Credential(tenant)
    service = BlobServiceClient(url, credential=credential, connection_verify=ca)
    service.create_container("models").upload_blob("b", b"bytes")
    assert credential.scopes[-1] == AUDIENCE + "/.default"    # learned from the challenge
    now = datetime.now(timezone.utc)
    key = service.get_user_delegation_key(now - timedelta(minutes=5), now + timedelta(hours=1))
    assert key.signed_oid == TRAINER
    sas = generate_container_sas(ACCOUNT, "models", user_delegation_key=key, expiry=now + timedelta(minutes=30),
                                 permission=ContainerSasPermissions(read=True, list=True))
    copies = service.get_container_client("models")
    assert copies.get_blob_client("renamed").start_copy_from_url(f"{url}/models/b")["copy_status"] == "success"
    copies.get_blob_client("by-token").upload_blob_from_url(f"{url}/models/b",
                                                            source_authorization=f"Bearer {tenant.token()}")
    copies.get_blob_client("by-sas").upload_blob_from_url(f"{url}/models/b?{sas}")
    for name in ("renamed", "by-token", "by-sas"):
        assert copies.download_blob(name).readall() == b"bytes"
    blob = BlobClient.from_blob_url(f"{url}/models/b?{sas}", connection_verify=ca)
    assert blob.download_blob().readall() == b"bytes"
    with pytest.raises(Exception, match="AuthorizationPermissionMismatch"):
        blob.delete_blob()
