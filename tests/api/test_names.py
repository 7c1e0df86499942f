"""Names that other servers normalise, by path style, host style and the encoded forms clients send: each is kept
byte for byte, is found again, and is a blob of its own in the listing."""
import urllib.parse
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import Client, service_sas

NAMES = ["plain", "a/b", "a//b", "/lead", "//", "a/", "a/./b", "a/../b", "..", ".", "a%2Fb", "a%252Fb", "%",
         "a b", "a+b", "a&b=c", "a?b", "a#b", "a:b@c", "quote\"'", "<tag>&amp;", "back\\slash", "dot.",
         "~-_.!*'();,", "[x]{y}|^`", "é", "e\u0301", "日本語", "😀", "\u200b", "UPPER", "upper", "n" * 1024,
         "x/" * 253 + "x"]


@pytest.fixture
def container(api):
    name = "names-" + uuid.uuid4().hex[:8]
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    yield name
    assert api.request("DELETE", f"/{name}?restype=container").status == 202


class HostStyle(Client):
    """The same endpoint, told the account by Host."""

    def __init__(self, api):
        super().__init__(f"http://{api.host}:{api.port}", api.account, api.key)

    def headers(self, more=None, body=b""):
        return super().headers({"Host": f"{self.account}.blob.cache.test:{self.port}", **(more or {})}, body)


@pytest.fixture(params=["path style", "host style"], scope="module")
def client(request, api):
    return api if request.param == "path style" else HostStyle(api)


def quoted(name, safe="/"):
    return urllib.parse.quote(name, safe=safe)


@pytest.mark.parametrize("name", NAMES, ids=lambda n: n[:20].encode("unicode_escape").decode())
def test_name_is_kept(client, container, name):
    body = uuid.uuid4().bytes
    path = f"/{container}/{quoted(name)}"
    answer = client.request("PUT", path, {"x-ms-blob-type": "BlockBlob"}, body)
    assert answer.status == 201, answer
    assert client.request("GET", path).body == body
    assert client.request("GET", f"/{container}/{quoted(name, safe='')}").body == body
    assert name in listed(client, container)
    token = service_sas(client.account, client.key, container, name)
    assert client.request("GET", f"{path}?{token}", auth=None).body == body


def listed(client, container, **query):
    """All names of a container, page by page."""
    names, marker = [], ""
    while True:
        text = urllib.parse.urlencode({"restype": "container", "comp": "list", "maxresults": "7", **query},
                                      quote_via=urllib.parse.quote)
        answer = client.request("GET", f"/{container}?{text}" + (f"&marker={quoted(marker, '')}" if marker else ""))
        assert answer.status == 200, answer
        page = xml.fromstring(answer.body.decode("utf-8-sig"))
        names += [e.findtext("Name") for e in page.iter("Blob")]
        marker = page.findtext("NextMarker")
        if not marker:
            return names


def test_every_name_is_a_blob_of_its_own_in_order(api, container):
    for i, name in enumerate(NAMES):
        answer = api.request("PUT", f"/{container}/{quoted(name)}", {"x-ms-blob-type": "BlockBlob"}, b"%d" % i)
        assert answer.status == 201
    assert listed(api, container) == sorted(NAMES, key=lambda n: n.encode())
    for i, name in enumerate(NAMES):
        assert api.request("GET", f"/{container}/{quoted(name)}").body == b"%d" % i
    assert listed(api, container, prefix="a/") == sorted((n for n in NAMES if n.startswith("a/")), key=str.encode)


def test_container_and_blob_split_after_decoding(client, container):
    """azcopy encodes that slash too where it takes the host for host style."""
    assert client.request("PUT", f"/{container}%2Fsplit", {"x-ms-blob-type": "BlockBlob"}, b"1").status == 201
    assert client.request("GET", f"/{container}/split").body == b"1"


def test_a_blob_without_a_container_is_in_root_by_host_style_only(api):
    host = HostStyle(api)
    assert host.request("PUT", "/$root?restype=container").status == 201
    assert host.request("PUT", "/index.html", {"x-ms-blob-type": "BlockBlob"}, b"root").status == 201
    assert host.request("GET", "/$root/index.html").body == b"root"
    assert api.request("GET", "/$root/index.html").body == b"root"
    assert api.request("GET", "/index.html").status == 400
    assert api.request("DELETE", "/$root?restype=container").status == 202


def test_deleted_names_do_not_take_others_along(api, container):
    names = ("d", "d/", "d//", "d/e")
    for name in names:
        answer = api.request("PUT", f"/{container}/{quoted(name)}", {"x-ms-blob-type": "BlockBlob"}, name.encode())
        assert answer.status == 201
    assert api.request("DELETE", f"/{container}/d/").status == 202
    assert [api.request("GET", f"/{container}/{quoted(n)}").status for n in names] == [200, 404, 200, 200]
