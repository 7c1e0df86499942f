"""Container ACL: stored access policies and what SAS make of them, public access and who needs no credentials."""
import itertools

import pytest

from support.azure import Client, account_sas, service_sas, shared_key, stamp
from support.box import ACCOUNT, KEY, Box


@pytest.fixture(scope="module")
def hearth(tmp_path_factory):
    box = Box(tmp_path_factory.mktemp("box"), account="public_access = yes").start()
    yield box
    assert box.stop() == 0, box.text()[-4000:]


@pytest.fixture(scope="module")
def ctr(api):
    assert api.request("PUT", "/acl?restype=container", {"x-ms-meta-kept": "1"}).status == 201
    assert api.request("PUT", "/acl/b", {"x-ms-blob-type": "BlockBlob"}, b"text").status == 201
    return "/acl"


def identifiers(*rows):
    """Each (id, start, expiry, permission), None: no such element."""
    def element(name, text):
        return "" if text is None else f"<{name}>{text}</{name}>"
    return ('<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers>' + "".join(
        f"<SignedIdentifier><Id>{i}</Id><AccessPolicy>{element('Start', s)}{element('Expiry', e)}{element('Permission', p)}"
        "</AccessPolicy></SignedIdentifier>" for i, s, e, p in rows) + "</SignedIdentifiers>").encode()


def put(api, ctr, body=b"", status=200, **headers):
    a = api.request("PUT", ctr + "?restype=container&comp=acl", {k.replace("_", "-"): v for k, v in headers.items()}, body)
    assert a.status == status, a
    return a


def get(api, ctr, method="GET", **headers):
    return api.request(method, ctr + "?restype=container&comp=acl", {k.replace("_", "-"): v for k, v in headers.items()})


def test_acl__is_replaced_whole_and_shown_exactly(api, ctr):
    before = get(api, ctr)
    assert before.body == b'<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers />'
    rows = [("a", "2026-01-02", "2030-01-01T10:20Z", "rl"), ("b&amp;c", None, None, "racwdl"), ("x" * 64, None, "9999-12-31", None)]
    a = put(api, ctr, identifiers(*rows), x_ms_blob_public_access="blob")
    assert a.headers["etag"] != before.headers["etag"] and a.headers["content-length"] == "0"
    shown = get(api, ctr)
    assert shown.body == identifiers(("a", "2026-01-02T00:00:00.0000000Z", "2030-01-01T10:20:00.0000000Z", "rl"),
                                     rows[1], (rows[2][0], None, "9999-12-31", None))
    assert shown.headers["etag"] == a.headers["etag"] and shown.headers["last-modified"] == a.headers["last-modified"]
    assert shown.headers["x-ms-blob-public-access"] == "blob"
    head = get(api, ctr, "HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(shown.body)), b"")
    properties = api.request("HEAD", ctr + "?restype=container")
    assert (properties.headers["x-ms-blob-public-access"], properties.headers["x-ms-meta-kept"]) == ("blob", "1")
    assert b"<PublicAccess>blob</PublicAccess>" in api.request("GET", "/?comp=list&prefix=acl").body
    assert api.request("PUT", ctr + "?restype=container&comp=metadata", {"x-ms-meta-kept": "1"}).status == 200
    assert get(api, ctr).body == shown.body  # metadata changes leave it
    put(api, ctr)
    cleared = get(api, ctr)
    assert cleared.body == before.body and "x-ms-blob-public-access" not in cleared.headers
    assert b"PublicAccess" not in api.request("GET", "/?comp=list&prefix=acl").body


LAST_YEAR, TOMORROW = stamp(days=-365), stamp(days=1)
BAD = {
    "not xml": (b"<SignedIdentifiers>", "InvalidXmlDocument", None),
    "other root": (b"<Identifiers />", "InvalidXmlDocument", None),
    "six": (identifiers(*[(str(i), None, None, "r") for i in range(6)]), "InvalidXmlDocument", "SignedIdentifier"),
    "no id": (b"<SignedIdentifiers><SignedIdentifier /></SignedIdentifiers>", "MissingRequiredXmlNode", "Id"),
    "empty id": (identifiers(("", None, None, "r")), "InvalidXmlNodeValue", "Id"),
    "long id": (identifiers(("x" * 65, None, None, "r")), "InvalidXmlNodeValue", "Id"),
    "same id": (identifiers(("a", None, None, "r"), ("a", None, None, "r")), "InvalidXmlNodeValue", "Id"),
    "date": (identifiers(("a", "yesterday", None, "r")), "InvalidXmlNodeValue", "Start"),
    "permission": (identifiers(("a", None, None, "rz")), "InvalidXmlNodeValue", "Permission"),
    "unknown": (b"<SignedIdentifiers><Other /></SignedIdentifiers>", "UnsupportedXmlNode", "Other"),
    "twice": (b"<SignedIdentifiers><SignedIdentifier><Id>a</Id><Id>b</Id></SignedIdentifier></SignedIdentifiers>",
              "InvalidXmlDocument", "Id"),
}


@pytest.mark.parametrize("case", BAD)
def test_acl__a_wrong_document_changes_nothing(api, ctr, case):
    body, code, node = BAD[case]
    put(api, ctr, identifiers(("a", None, None, "r")))
    a = put(api, ctr, body, 400)
    assert a.code == code and (node is None or f"<XmlNodeName>{node}</XmlNodeName>".encode() in a.body), a.body
    assert get(api, ctr).body == identifiers(("a", None, None, "r"))


def test_acl__other_refusals(api, ctr):
    assert put(api, ctr, status=400, x_ms_blob_public_access="all").code == "InvalidHeaderValue"
    assert put(api, "/absent", status=404).code == "ContainerNotFound"
    assert get(api, "/absent").code == "ContainerNotFound"
    modified = get(api, ctr).headers["last-modified"]
    assert put(api, ctr, status=412, if_modified_since=modified).code == "ConditionNotMet"
    assert put(api, ctr, status=400, if_match='"0x1"').code == "ConditionHeadersNotSupported"
    put(api, ctr, if_unmodified_since=modified)
    for method in ("GET", "PUT"):  # the owner's alone, whatever a SAS allows
        a = api.request(method, ctr + "?restype=container&comp=acl&" + account_sas(ACCOUNT, KEY, "rwdlacup"), auth=None)
        assert (a.status, a.code) == (403, "AuthorizationFailure")


def test_create__with_public_access(api):
    for access in ("blob", "container"):
        assert api.request("PUT", f"/made-{access}?restype=container", {"x-ms-blob-public-access": access}).status == 201
        assert api.request("GET", f"/made-{access}?restype=container").headers["x-ms-blob-public-access"] == access
    a = api.request("PUT", "/made-all?restype=container", {"x-ms-blob-public-access": "all"})
    assert (a.status, a.code) == (400, "InvalidHeaderValue")
    assert api.request("DELETE", "/made-blob?restype=container").status == 202
    assert api.request("PUT", "/made-blob?restype=container").status == 201
    assert "x-ms-blob-public-access" not in api.request("GET", "/made-blob?restype=container").headers


# ---- policies ----

WHERE = ["token", "policy", "both", "neither"]


@pytest.mark.parametrize("st, se, sp", itertools.product(WHERE, WHERE, WHERE))
def test_policy__each_field_from_one_of_both(api, ctr, st, se, sp):
    value = {"st": LAST_YEAR, "se": TOMORROW, "sp": "r"}
    where = {"st": st, "se": se, "sp": sp}
    policy = {f: value[f] if where[f] in ("policy", "both") else None for f in value}
    token = {f: value[f] if where[f] in ("token", "both") else "" for f in value}
    put(api, ctr, identifiers(("p", policy["st"], policy["se"], policy["sp"])))
    a = api.request("GET", ctr + "/b?" + service_sas(ACCOUNT, KEY, "acl", si="p", **token), auth=None)
    if "both" in (st, se, sp) or "neither" in (se, sp):
        assert (a.status, a.code) == (403, "AuthenticationFailed") and b"<AuthenticationErrorDetail>" in a.body, a
    else:
        assert a.status == 200, a


def test_policy__is_judged_and_ends_with_it(api, ctr):
    def read(path="/b", method="GET", **more):
        return api.request(method, ctr + path + service_sas(ACCOUNT, KEY, "acl", **{"sp": "", "se": "", "si": "p", **more}),
                           auth=None)
    cases = [((None, TOMORROW, "r"), (200, None)), ((None, LAST_YEAR, "r"), (403, "AuthenticationFailed")),
             ((TOMORROW, stamp(days=2), "r"), (403, "AuthenticationFailed")),
             ((None, TOMORROW, "l"), (403, "AuthorizationPermissionMismatch"))]
    for policy, want in cases:
        put(api, ctr, identifiers(("p", *policy)))
        a = read("/b?")
        assert (a.status, a.code) == want, policy
    assert read("?restype=container&comp=list&").status == 200
    assert read("/b?", si="other").code == "AuthenticationFailed"
    assert read("/b?", si="P").code == "AuthenticationFailed"
    put(api, ctr)
    assert (read("/b?").status, read("/b?").code) == (403, "AuthenticationFailed")
    # of another container, and a signature that is not one: nothing about policies is told
    put(api, ctr, identifiers(("p", None, TOMORROW, "r")))
    a = api.request("GET", "/made-container/b?" + service_sas(ACCOUNT, KEY, "made-container", sp="", se="", si="p"), auth=None)
    assert (a.status, a.code) == (403, "AuthenticationFailed")
    a = api.request("GET", ctr + "/b?" + service_sas(ACCOUNT, "AAAA" + KEY[4:], "acl", sp="", se="", si="nobody"), auth=None)
    assert b"Signature did not match" in a.body


def test_policy__of_a_copy_source(api, ctr):
    put(api, ctr, identifiers(("p", None, TOMORROW, "r")))
    url = f"http://{api.host}:{api.port}{api.base}{ctr}/b?"
    for policy, status in (("p", 202), ("q", 403)):
        a = api.request("PUT", ctr + "/copy", {"x-ms-copy-source": url + service_sas(ACCOUNT, KEY, "acl", sp="", se="", si=policy),
                                               "x-ms-requires-sync": "true"})
        assert a.status == status, a


# ---- no credentials ----

READS = {"get": ("GET", "/b"), "head": ("HEAD", "/b"), "metadata": ("GET", "/b?comp=metadata"), "blocks": ("GET", "/b?comp=blocklist")}
CONTAINER_READS = {"properties": ("GET", "?restype=container"), "container metadata": ("HEAD", "?restype=container&comp=metadata"),
                   "list": ("GET", "?restype=container&comp=list")}
NEVER = {"put": ("PUT", "/b"), "delete": ("DELETE", "/b"), "tags": ("GET", "/b?comp=tags"), "acl": ("GET", "?restype=container&comp=acl"),
         "staged": ("GET", "/b?comp=blocklist&blocklisttype=all"), "info": ("GET", "?restype=account&comp=properties"),
         "drop": ("DELETE", "?restype=container"), "set acl": ("PUT", "?restype=container&comp=acl")}


@pytest.mark.parametrize("version", [None, "2019-07-07", "2021-12-02"])
@pytest.mark.parametrize("access", [None, "blob", "container"])
@pytest.mark.parametrize("name", [*READS, *CONTAINER_READS, *NEVER])
def test_anonymous__public_access_decides(api, ctr, name, access, version):
    put(api, ctr, **({"x_ms_blob_public_access": access} if access else {}))
    method, path = {**READS, **CONTAINER_READS, **NEVER}[name]
    a = api.request(method, ctr + path, {"x-ms-version": version, "x-ms-blob-type": "BlockBlob" if method == "PUT" else None},
                    auth=None)
    challenged = version == "2021-12-02"
    if name in NEVER:
        want = (401, "NoAuthenticationInformation")
    elif access == "container" or (access == "blob" and name in READS):
        want = (200, None)
    else:
        want = (401, "NoAuthenticationInformation") if challenged else (404, "ResourceNotFound")
    assert (a.status, a.code) == want, a
    assert ("www-authenticate" in a.headers) == (a.status == 401)
    if name == "get" and a.status == 200:
        assert a.body == b"text"


def test_anonymous__what_is_not_there(api, ctr):
    put(api, ctr, x_ms_blob_public_access="container")
    a = api.request("GET", ctr + "/absent", auth=None)
    assert (a.status, a.code) == (404, "BlobNotFound")
    a = api.request("GET", "/nocontainer/absent", {"x-ms-version": None}, auth=None)
    assert (a.status, a.code) == (404, "ResourceNotFound")
    a = api.request("GET", "/?comp=list", auth=None)
    assert (a.status, a.code) == (401, "NoAuthenticationInformation")


def test_anonymous__a_public_copy_source(api, ctr):
    api.request("PUT", "/other?restype=container")
    headers = {"x-ms-copy-source": f"http://{api.host}:{api.port}{api.base}{ctr}/b", "x-ms-requires-sync": "true"}
    for access, status in (("blob", 202), (None, 401)):
        put(api, ctr, **({"x_ms_blob_public_access": access} if access else {}))
        a = api.request("PUT", "/other/copy", headers)
        assert a.status == status, a


def test_public_access__survives_kill_and_ends_with_the_switch(tmp_path):
    box = Box(tmp_path / "box", account="public_access = yes").start()
    api = Client(box.endpoint, ACCOUNT, KEY)
    api.request("PUT", "/pub?restype=container", {"x-ms-blob-public-access": "container"})
    api.request("PUT", "/pub/b", {"x-ms-blob-type": "BlockBlob"}, b"text")
    put(api, "/pub", identifiers(("p", None, TOMORROW, "r")), x_ms_blob_public_access="container")
    box.kill()
    box.start()
    assert api.request("GET", "/pub/b", auth=None).body == b"text"
    assert get(api, "/pub").body.count(b"<Id>p</Id>") == 1
    box.stop()
    box.account = ""
    box.write_conf()
    box.start()
    for path in ("/pub/b", "/pub?restype=container&comp=list", "/absent/b"):
        a = api.request("GET", path, auth=None)
        assert (a.status, a.code) == (409, "PublicAccessNotPermitted")
    assert put(api, "/pub", status=409, x_ms_blob_public_access="blob").code == "PublicAccessNotPermitted"
    a = api.request("PUT", "/pub2?restype=container", {"x-ms-blob-public-access": "blob"})
    assert (a.status, a.code) == (409, "PublicAccessNotPermitted")
    assert get(api, "/pub").headers["x-ms-blob-public-access"] == "container"  # shown, not honoured
    assert box.stop() == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/?", "/acl?", "/acl/b?", "/acl/absent?", "/absent?"])
def test_account_info__on_every_level(api, ctr, path, method):
    tokens = ["", account_sas(ACCOUNT, KEY, "r")] + ([service_sas(ACCOUNT, KEY, "acl")] if "acl" in path else [])
    for sas in tokens:
        a = api.request(method, path + "restype=account&comp=properties&" + sas, auth=None if sas else shared_key)
        assert a.status == 200, a
        assert (a.headers["x-ms-sku-name"], a.headers["x-ms-account-kind"], a.headers["x-ms-is-hns-enabled"]) == \
            ("Standard_LRS", "StorageV2", "false")
