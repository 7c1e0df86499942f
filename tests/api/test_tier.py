"""Access tiers in a local account: set with what creates a blob and by Set Blob Tier, shown, archived and brought back."""
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import Client, service_sas

BLOCK = {"x-ms-blob-type": "BlockBlob"}
ARCHIVED = (409, "BlobArchived")


@pytest.fixture(scope="module")
def ctr(api):
    name = "tier-" + uuid.uuid4().hex[:10]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    return name


def tier(api, path):
    h = api.request("HEAD", path).headers
    return h.get("x-ms-access-tier"), h.get("x-ms-access-tier-inferred"), "x-ms-access-tier-change-time" in h


def set_tier(api, path, name, headers=None):
    a = api.request("PUT", f"{path}?comp=tier", {"x-ms-access-tier": name, **(headers or {})})
    return (a.status, a.code) if a.code else a.status


def listed(api, ctr, name):
    root = xml.fromstring(api.request("GET", f"/{ctr}?restype=container&comp=list&prefix={name}").body.decode("utf-8-sig"))
    p = root.find(".//Properties")
    return p.findtext("AccessTier"), p.findtext("AccessTierInferred"), p.findtext("AccessTierChangeTime") is not None


def test_tiers_are_set_and_shown(hearth, api, ctr):
    path = f"/{ctr}/b"
    put = api.request("PUT", path, BLOCK, b"x")
    assert tier(api, path) == listed(api, ctr, "b") == ("Hot", "true", False)
    for name in ("Hot", "Cool", "cold", "Hot"):
        assert set_tier(api, path, name) == 200
        assert tier(api, path) == listed(api, ctr, "b") == (name.capitalize(), None, True)
    head = api.request("HEAD", path)
    assert (head.headers["etag"], head.headers["last-modified"]) == (put.headers["etag"], put.headers["last-modified"])
    assert set_tier(api, path, "Cool") == 200
    assert api.request("PUT", path + "?comp=metadata", {"x-ms-meta-k": "v"}).status == 200
    hearth.stop()
    hearth.start()
    api = Client(hearth.endpoint, api.account, api.key)
    assert tier(api, path) == ("Cool", None, True)
    assert api.request("PUT", path, BLOCK, b"y").status == 201
    assert tier(api, path) == ("Hot", "true", False)


def test_tiers_come_with_what_creates_a_blob(api, ctr):
    cool = {"x-ms-access-tier": "Cool"}
    url = f"{api.scheme}://{api.authority}{api.base}/{ctr}/from?{service_sas(api.account, api.key, ctr, 'from', sp='r')}"
    assert api.request("PUT", f"/{ctr}/from", BLOCK, b"x").status == 201
    assert api.request("PUT", f"/{ctr}/put", {**BLOCK, **cool}, b"x").status == 201
    assert api.request("PUT", f"/{ctr}/list?comp=blocklist", cool, b"<BlockList/>").status == 201
    assert api.request("PUT", f"/{ctr}/copy", {"x-ms-copy-source": url, **cool}).status == 202
    assert api.request("PUT", f"/{ctr}/sync", {"x-ms-copy-source": url, "x-ms-requires-sync": "true", **cool}).status == 202
    assert api.request("PUT", f"/{ctr}/url", {**BLOCK, "x-ms-copy-source": url, **cool}).status == 201
    for name in ("put", "list", "copy", "sync", "url"):
        assert tier(api, f"/{ctr}/{name}") == ("Cool", None, True), name


def test_archive(api, ctr):
    path, url = f"/{ctr}/a", None
    assert api.request("PUT", path, {**BLOCK, "x-ms-tags": "a=1"}, b"x" * 100000).status == 201
    assert set_tier(api, path, "Archive") == 200
    assert tier(api, path) == ("Archive", None, True)
    url = f"{api.scheme}://{api.authority}{api.base}{path}?{service_sas(api.account, api.key, ctr, 'a', sp='r')}"
    refused = [("GET", path, {}), ("GET", path, {"x-ms-range": "bytes=0-9"}), ("GET", path + "?comp=blocklist", {}),
               ("PUT", path + "?comp=metadata", {}), ("PUT", path + "?comp=properties", {}), ("PUT", path + "?comp=snapshot", {}),
               ("PUT", f"/{ctr}/c", {"x-ms-copy-source": url}), ("PUT", f"/{ctr}/c", {"x-ms-copy-source": url, "x-ms-requires-sync": "true"}),
               ("PUT", f"/{ctr}/c", {**BLOCK, "x-ms-copy-source": url}),
               ("PUT", f"/{ctr}/c?comp=block&blockid=YWFh", {"x-ms-copy-source": url})]
    for method, target, headers in refused:
        a = api.request(method, target, headers)
        assert (a.status, a.code) == ARCHIVED, (method, target, headers, a)
    assert api.request("GET", path + "?comp=tags").status == 200
    assert api.request("GET", path + "?comp=metadata").status == 200
    assert api.request("PUT", path + "?comp=tags", {}, b"<Tags><TagSet></TagSet></Tags>").status == 204
    assert tier(api, path)[0] == "Archive"
    assert api.request("PUT", f"/{ctr}/c", {"x-ms-copy-source": url, "x-ms-access-tier": "Hot", "x-ms-rehydrate-priority": "High"}).status == 202
    assert api.request("GET", f"/{ctr}/c").body == b"x" * 100000
    assert set_tier(api, path, "Archive") == 200
    assert set_tier(api, path, "Cool", {"x-ms-rehydrate-priority": "High"}) == 202
    assert tier(api, path) == ("Cool", None, True) and api.request("GET", path).body == b"x" * 100000
    assert set_tier(api, path, "Archive") == 200
    assert api.request("PUT", path, BLOCK, b"new").status == 201 and api.request("GET", path).body == b"new"


def test_refused(api, ctr):
    path = f"/{ctr}/r"
    assert api.request("PUT", path, {**BLOCK, "x-ms-tags": "a=1"}, b"x").status == 201
    assert set_tier(api, path, "P10") == set_tier(api, path, "warm") == (400, "InvalidBlobTier")
    assert api.request("PUT", path, {**BLOCK, "x-ms-access-tier": "warm"}, b"x").code == "InvalidBlobTier"
    assert set_tier(api, path, "Hot", {"x-ms-rehydrate-priority": "soon"}) == (400, "InvalidHeaderValue")
    assert set_tier(api, path, "Hot", {"x-ms-if-tags": "a = '2'"}) == (412, "ConditionNotMet")
    assert set_tier(api, path, "Hot", {"x-ms-if-tags": "a = '1'"}) == 200
    assert set_tier(api, f"/{ctr}/none", "Hot") == (404, "BlobNotFound")
    assert api.request("PUT", path + "?comp=metadata", {"x-ms-access-tier": "Cool"}).code == "UnsupportedHeader"
    sas = service_sas(api.account, api.key, ctr, "r", sp="r")
    assert api.request("PUT", f"{path}?comp=tier&{sas}", {"x-ms-access-tier": "Cool"}, auth=None).status == 403
