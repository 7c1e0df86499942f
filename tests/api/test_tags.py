"""Blob tags in a local account: set, get, counted, listed, judged on, kept over a restart, gone with an overwrite."""
from support.azure import Client

BODY = b"<Tags><TagSet><Tag><Key>step</Key><Value>12</Value></Tag></TagSet></Tags>"
BLOCK = {"x-ms-blob-type": "BlockBlob"}


def test_tags(hearth, api):
    assert api.request("PUT", "/tags?restype=container").status == 201
    put = api.request("PUT", "/tags/b", {**BLOCK, "x-ms-tags": "a=1&b=2"}, b"x")
    assert put.status == 201
    head = api.request("HEAD", "/tags/b")
    assert head.headers["x-ms-tag-count"] == "2"
    assert api.request("PUT", "/tags/b?comp=tags", {"x-ms-if-tags": "a = '2'"}, BODY).status == 412
    assert api.request("PUT", "/tags/b?comp=tags", {"x-ms-if-tags": "a = '1'"}, BODY).status == 204
    after = api.request("HEAD", "/tags/b")
    assert after.headers["x-ms-tag-count"] == "1"
    assert (after.headers["etag"], after.headers["last-modified"]) == (head.headers["etag"], head.headers["last-modified"])
    listed = api.request("GET", "/tags?restype=container&comp=list&include=tags").body
    assert b"<TagCount>1</TagCount>" in listed and BODY in listed
    hearth.stop()
    hearth.start()
    api = Client(hearth.endpoint, api.account, api.key)
    got = api.request("GET", "/tags/b?comp=tags")
    assert got.status == 200 and BODY in got.body
    assert api.request("GET", "/tags/b", {"x-ms-if-tags": "step <> '12'"}).status == 412
    assert api.request("GET", "/tags/b", {"x-ms-if-tags": "step >= '12'"}).body == b"x"
    assert api.request("GET", "/tags/b?comp=blocklist", {"x-ms-if-tags": "step = '1'"}).status == 412
    assert api.request("PUT", "/tags/b?comp=metadata", {"x-ms-meta-k": "v"}).status == 200
    assert api.request("HEAD", "/tags/b").headers["x-ms-tag-count"] == "1"
    assert api.request("PUT", "/tags/b", BLOCK, b"y").status == 201
    assert "x-ms-tag-count" not in api.request("HEAD", "/tags/b").headers
