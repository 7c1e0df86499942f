"""Find Blobs by Tags over an account and over one container: what is found, how it pages, who may ask."""
import urllib.parse
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import account_sas, service_sas

BLOCK = {"x-ms-blob-type": "BlockBlob"}


@pytest.fixture(scope="module")
def found(api):
    """Two containers: i = 0..9, and one blob each without tags."""
    mark = uuid.uuid4().hex[:10]
    names = [f"find-{mark}-{c}" for c in "ab"]
    for c in names:
        assert api.request("PUT", f"/{c}?restype=container").status == 201
        assert api.request("PUT", f"/{c}/bare", BLOCK, b"x").status == 201
        for i in range(10):
            tags = f"mark={mark}&i={i}&parity={'even' if i % 2 == 0 else 'odd'}"
            assert api.request("PUT", f"/{c}/dir/b{i}", {**BLOCK, "x-ms-tags": tags}, b"x").status == 201
    return mark, names


def find(api, where, container=None, **more):
    query = {"comp": "blobs", "where": where, **({"restype": "container"} if container else {}), **more}
    return api.request("GET", f"/{container or ''}?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote))


def page(answer):
    assert answer.status == 200, answer
    root = xml.fromstring(answer.body.decode("utf-8-sig"))
    rows = [(b.findtext("ContainerName"), b.findtext("Name"), {t.findtext("Key"): t.findtext("Value") or "" for t in b.iter("Tag")})
            for b in root.iter("Blob")]
    return rows, root.findtext("NextMarker"), root


def test_over_an_account(api, found):
    mark, (a, b) = found
    rows, marker, root = page(find(api, f"mark = '{mark}' AND parity = 'even'"))
    assert [r[:2] for r in rows] == [(c, f"dir/b{i}") for c in (a, b) for i in range(0, 10, 2)] and not marker
    assert rows[0][2] == {"mark": mark, "parity": "even"}  # those that were asked for
    assert root.findtext("Where") == f"mark = '{mark}' AND parity = 'even'"
    rows, _, _ = page(find(api, f"@container = '{b}' AND \"i\" > '3' AND \"i\" <= '5'"))
    assert [r[:2] for r in rows] == [(b, "dir/b4"), (b, "dir/b5")]
    assert page(find(api, f"mark = '{mark}' AND @container = 'none'"))[0] == []


def test_over_a_container(api, found):
    mark, (a, _) = found
    rows, _, root = page(find(api, "\"i\" >= '8'", a))
    assert [r[:2] for r in rows] == [(a, "dir/b8"), (a, "dir/b9")] and root.attrib["ContainerName"] == a
    api.request("PUT", f"/{a}/dir/b9?comp=tags", {}, b"<Tags><TagSet></TagSet></Tags>")
    assert [r[1] for r in page(find(api, "\"i\" >= '8'", a))[0]] == ["dir/b8"]
    tags = b"<Tags><TagSet><Tag><Key>i</Key><Value>9</Value></Tag></TagSet></Tags>"
    assert api.request("PUT", f"/{a}/dir/b9?comp=tags", {}, tags).status == 204


@pytest.mark.parametrize("max_results", [1, 3, 10, 12])
def test_pages(api, found, max_results):
    mark, (a, b) = found
    for container, want in ((None, [(c, f"dir/b{i}") for c in (a, b) for i in range(9)]), (b, [(b, f"dir/b{i}") for i in range(9)])):
        rows, marker, pages = [], "", 0
        while marker is not None and pages < 30:
            more, marker, _ = page(find(api, "\"i\" < '9'" + ("" if container else f" AND mark = '{mark}'"), container,
                                        maxresults=max_results, **({"marker": marker} if marker else {})))
            assert len(more) <= max_results
            rows, pages = rows + [r[:2] for r in more], pages + 1
            marker = marker or None
        assert rows == want


@pytest.mark.parametrize("where,code", [(None, "MissingRequiredQueryParameter"), ("a", "InvalidQueryParameterValue"),
                                        ("a = '1' OR b = '2'", "InvalidQueryParameterValue"), ("a <> '1'", "InvalidQueryParameterValue")])
def test_refused(api, found, where, code):
    for container in (None, found[1][0]):
        query = "&where=" + urllib.parse.quote(where) if where else ""
        a = api.request("GET", f"/{container}?restype=container&comp=blobs{query}" if container else f"/?comp=blobs{query}")
        assert (a.status, a.code) == (400, code)
    assert find(api, f"@container = '{found[1][0]}'", found[1][0]).code == "InvalidQueryParameterValue"
    assert find(api, "a = '1'", marker="x").code == "InvalidQueryParameterValue"
    assert find(api, "a = '1'", maxresults="0").code == "OutOfRangeQueryParameterValue"


def test_rights(api, found):
    mark, (a, _) = found
    where = urllib.parse.quote(f"mark = '{mark}'")
    for sp, status in (("f", 200), ("rwdlt", 403)):
        sas = account_sas(api.account, api.key, sp=sp, srt="sco")
        assert api.request("GET", f"/?comp=blobs&where={where}&{sas}", auth=None).status == status
        sas = service_sas(api.account, api.key, a, sp=sp, sr="c")
        assert api.request("GET", f"/{a}?restype=container&comp=blobs&where={where}&{sas}", auth=None).status == status
