"""Service properties, container ACL and readers without credentials, by the clients people have. On the local account;
of the one with a cloud they are that cloud's (tests/faults/test_forward.py has more)."""
import os
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.storage.blob import (AccessPolicy, BlobAnalyticsLogging, BlobClient, BlobServiceClient, ContainerClient,
                                ContainerSasPermissions, CorsRule, Metrics, PublicAccess, RetentionPolicy, StaticWebsite,
                                generate_container_sas)

from support import tree
from support.box import KEY, NODE, NPM
from test_azcopy import azcopy


def test_python__service_properties(second):
    service, _ = second
    service.set_service_properties(
        analytics_logging=BlobAnalyticsLogging(delete=True, read=True, write=False, retention_policy=RetentionPolicy(True, 5)),
        hour_metrics=Metrics(enabled=True, include_apis=True, retention_policy=RetentionPolicy(True, 6)),
        minute_metrics=Metrics(), cors=[CorsRule(["http://a", "http://b"], ["GET", "PUT"], allowed_headers=["x-ms-*"],
                                                 exposed_headers=["etag"], max_age_in_seconds=9)],
        target_version="2019-12-12", delete_retention_policy=RetentionPolicy(True, 7),
        static_website=StaticWebsite(enabled=True, index_document="i.html", error_document404_path="e.html"))
    got = service.get_service_properties()
    assert got["analytics_logging"].retention_policy.days == 5 and got["analytics_logging"].read is True
    assert got["hour_metrics"].include_apis is True and got["minute_metrics"].enabled is False
    assert (got["cors"][0].allowed_origins, got["cors"][0].max_age_in_seconds) == ("http://a,http://b", 9)
    assert got["target_version"] == "2019-12-12" and got["delete_retention_policy"].days == 7
    assert got["static_website"].error_document404_path == "e.html"
    service.set_service_properties(cors=[], delete_retention_policy=RetentionPolicy(False))
    got = service.get_service_properties()
    assert got["cors"] == [] and got["delete_retention_policy"].enabled is False and got["target_version"] == "2019-12-12"


def test_python__policies_and_anonymous_readers(second, box):
    service, name = second
    container = service.get_container_client(name)
    container.upload_blob("b", b"text")
    start, expiry = datetime.now(timezone.utc) - timedelta(hours=1), datetime.now(timezone.utc) + timedelta(hours=1)
    container.set_container_access_policy({"py": AccessPolicy(ContainerSasPermissions(read=True, list=True), expiry, start)})
    shown = container.get_container_access_policy()
    assert shown["public_access"] is None
    assert (shown["signed_identifiers"][0].id, shown["signed_identifiers"][0].access_policy.permission) == ("py", "rl")
    sas = generate_container_sas(service.account_name, name, account_key=KEY, policy_id="py")
    by_policy = ContainerClient.from_container_url(f"{service.url}{name}?{sas}")
    assert by_policy.download_blob("b").readall() == b"text" and [b.name for b in by_policy.list_blobs()] == ["b"]
    with pytest.raises(HttpResponseError) as refused:
        by_policy.upload_blob("c", b"x")
    assert refused.value.error_code == "AuthorizationPermissionMismatch"
    url = f"{service.url}{name}"
    anybody = ContainerClient.from_container_url(url)
    with pytest.raises(ClientAuthenticationError):
        anybody.get_container_properties()
    container.set_container_access_policy({}, public_access=PublicAccess.BLOB)
    assert BlobClient.from_blob_url(url + "/b").download_blob().readall() == b"text"
    with pytest.raises(HttpResponseError):
        list(anybody.list_blobs())
    with pytest.raises(ClientAuthenticationError):
        by_policy.download_blob("b")  # its policy is gone
    container.set_container_access_policy({}, public_access=PublicAccess.CONTAINER)
    assert [b.name for b in anybody.list_blobs()] == ["b"]
    assert anybody.get_container_properties().public_access == "container"
    assert [c.public_access for c in service.list_containers(name_starts_with=name)] == ["container"]
    made = service.create_container(name + "-made", public_access="blob")
    assert made.get_container_access_policy()["public_access"] == "blob"


def test_with_a_cloud__are_its_own(service, container, cloud_service):
    service.set_service_properties(cors=[CorsRule(["http://a"], ["GET"])])
    for where in (service, cloud_service):
        assert [c.allowed_origins for c in where.get_service_properties()["cors"]] == ["http://a"]
    service.set_service_properties(cors=[])
    service.get_container_client(container).set_container_access_policy({"r": AccessPolicy("r")}, public_access="container")
    for where in (service, cloud_service):
        acl = where.get_container_client(container).get_container_access_policy()
        assert (acl["public_access"], [i.id for i in acl["signed_identifiers"]]) == ("container", ["r"])
    with pytest.raises(HttpResponseError) as refused:
        list(ContainerClient.from_container_url(f"{service.url}{container}").list_blobs())
    assert refused.value.error_code == "PublicAccessNotPermitted"


def test_js__properties_and_acl(second, box):
    service, name = second
    script = os.path.join(os.path.dirname(__file__), "js_acl_flow.js")
    done = subprocess.run([NODE, script, service.url.rstrip("/"), service.account_name, KEY, name], capture_output=True, text=True,
                          env={**os.environ, "NPM": NPM}, timeout=300)
    assert done.stdout.split("\n")[:-1] == ["ok properties", "ok acl"], done.stdout + done.stderr


@pytest.fixture
def public(second, tmp_path):
    service, name = second
    root = str(tmp_path / "up")
    for i in range(20):
        tree.fill(f"{root}/d{i % 3}/f{i}", 3000 * i, i)
    container = service.get_container_client(name)
    for folder, _, files in os.walk(root):
        for file in files:
            path = os.path.join(folder, file)
            with open(path, "rb") as f:
                container.upload_blob(os.path.relpath(path, root), f)
    container.set_container_access_policy({}, public_access="container")
    return f"{service.url}{name}", root


def test_azcopy__downloads_a_public_container_without_credentials(public, tmp_path):
    url, root = public
    azcopy("copy", url + "/*", str(tmp_path / "down"), "--recursive", "--from-to=BlobLocal", folder=str(tmp_path / "log"))
    assert tree.digests(str(tmp_path / "down")) == tree.digests(root)


def test_rclone__downloads_a_public_container_without_credentials(public, tmp_path):
    url, root = public
    env = {**os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_P_TYPE": "azureblob", "RCLONE_CONFIG_P_SAS_URL": url + "?"}
    done = subprocess.run(["rclone", "copy", "p:" + url.rpartition("/")[2], str(tmp_path / "down"), "--retries", "1",
                           "--low-level-retries", "2"], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert tree.digests(str(tmp_path / "down")) == tree.digests(root)
