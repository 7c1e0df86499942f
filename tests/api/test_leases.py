"""Leases of blobs and containers: every action in every state, every operation in every state with each id, what is
shown, what ends and what keeps a lease, kill -9 and start.

Method: two generated matrices (the tables of the reference, section 5, written out below) against the real binary. A
state that only time brings (expired, broken by time) is tests/unit/test_dialect_leases's, which has the clock."""
import base64
import threading
import uuid
import xml.etree.ElementTree as xml

import pytest

from support.azure import Client, account_sas, service_sas
from support.box import ACCOUNT, KEY, Box

BLOCK = {"x-ms-blob-type": "BlockBlob"}
X, Y, Z = (str(uuid.UUID(int=n)) for n in (0x1F1F, 0x2E2E, 0x3D3D))
STATES = ("available", "fixed", "infinite", "breaking", "broken")
LOCKED = ("fixed", "infinite", "breaking")


@pytest.fixture(scope="module")
def ctr(api):
    assert api.request("PUT", "/leases?restype=container").status == 201
    assert api.request("PUT", "/leases/source", BLOCK, b"source").status == 201
    return "/leases"


def act(api, path, action, lease=None, **headers):
    """headers: duration, break_period, proposed."""
    names = {"duration": "x-ms-lease-duration", "break_period": "x-ms-lease-break-period",
             "proposed": "x-ms-proposed-lease-id"}
    sent = {"x-ms-lease-action": action, **{names[name]: value for name, value in headers.items()}}
    if lease:
        sent["x-ms-lease-id"] = lease
    return api.request("PUT", path + ("&" if "?" in path else "?") + "comp=lease", sent)


def enter(api, path, state):
    """Brings what has no lease into that state, under the id X."""
    if state == "available":
        return
    a = act(api, path, "acquire", duration=60 if state == "fixed" else -1, proposed=X)
    assert a.status == 201 and a.headers["x-ms-lease-id"] == X, a
    if state in ("breaking", "broken"):
        a = act(api, path, "break", break_period=60 if state == "breaking" else 0)
        assert a.status == 202, a


def shown(api, path):
    a = api.request("HEAD", path)
    assert a.status == 200, a
    return tuple(a.headers.get(f"x-ms-lease-{name}") for name in ("status", "state", "duration"))


SHOWN = {"available": ("unlocked", "available", None), "fixed": ("locked", "leased", "fixed"),
         "infinite": ("locked", "leased", "infinite"), "breaking": ("locked", "breaking", None),
         "broken": ("unlocked", "broken", None)}


def make(api, kind):
    """A new blob or container: its path."""
    name = uuid.uuid4().hex
    path, headers = (f"/leases/{name}", BLOCK) if kind == "blob" else (f"/c{name}?restype=container", {})
    assert api.request("PUT", path, headers, b"old" if kind == "blob" else b"").status == 201
    return path


# ---- actions ----

MISMATCH, NOT_PRESENT, PRESENT = (f"409 Lease{code}" for code in (
    "IdMismatchWithLeaseOperation", "NotPresentWithLeaseOperation", "AlreadyPresent"))
NOT_ACQUIRED, NOT_CHANGED, NOT_RENEWED = ("409 LeaseIsBreakingAndCannotBeAcquired",
                                          "409 LeaseIsBreakingAndCannotBeChanged",
                                          "409 LeaseIsBrokenAndCannotBeRenewed")
ACTIONS = [  # name, its headers, then a cell for each of STATES: the state afterwards, or the error
    (("acquire", None, dict(duration=15, proposed=X)), "fixed fixed fixed", NOT_ACQUIRED, "fixed"),
    (("acquire", None, dict(duration=-1, proposed=Y)), "infinite", PRESENT, PRESENT, PRESENT, "infinite"),
    (("acquire", None, dict(duration=-1)), "infinite", PRESENT, PRESENT, PRESENT, "infinite"),
    (("renew", X, {}), MISMATCH, "fixed infinite", NOT_RENEWED, NOT_RENEWED),
    (("renew", Y, {}), *[MISMATCH] * 5),
    (("change", X, dict(proposed=Y)), NOT_PRESENT, "fixed infinite", NOT_CHANGED, NOT_PRESENT),
    (("change", Y, dict(proposed=X)), NOT_PRESENT, "fixed infinite", NOT_CHANGED, NOT_PRESENT),
    (("change", Y, dict(proposed=Z)), NOT_PRESENT, MISMATCH, MISMATCH, MISMATCH, NOT_PRESENT),
    (("release", X, {}), MISMATCH, "available available available available"),
    (("release", Y, {}), *[MISMATCH] * 5),
    (("break", None, {}), NOT_PRESENT, "breaking broken breaking broken"),
    (("break", None, dict(break_period=0)), NOT_PRESENT, "broken broken broken broken"),
    (("break", None, dict(break_period=9)), NOT_PRESENT, "breaking breaking breaking broken"),
]
STATUS = {"acquire": 201, "renew": 200, "change": 200, "release": 200, "break": 202}


def cells(row):
    flat = []
    for cell in row[1:]:
        flat += [cell] if cell.startswith("409") else cell.split()
    assert len(flat) == len(STATES), row
    return zip(STATES, flat)


@pytest.mark.parametrize("kind", ["blob", "container"])
@pytest.mark.parametrize("row", ACTIONS, ids=lambda row: "-".join([row[0][0], *map(str, row[0][2].values())])[:40])
def test_lease__action_in_every_state(api, ctr, row, kind):
    (action, lease, headers), _ = row[0], None
    for state, want in cells(row):
        path = make(api, kind)
        enter(api, path, state)
        before = api.request("HEAD", path).headers
        a = act(api, path, action, lease, **headers)
        if want.startswith("409"):
            assert f"{a.status} {a.code}" == want, (state, a)
            assert shown(api, path) == SHOWN[state]
            continue
        assert a.status == STATUS[action], (state, a)
        assert shown(api, path) == SHOWN[want], state
        for name in ("etag", "last-modified"):
            assert a.headers[name] == before[name] == api.request("HEAD", path).headers[name]
        if action == "break":
            most = {"fixed": 60, "infinite": 0, "breaking": 60, "broken": 0}[state]
            most = min(most, headers["break_period"]) if "break_period" in headers and state != "infinite" else \
                headers.get("break_period", most)
            assert max(0, most - 5) <= int(a.headers["x-ms-lease-time"]) <= most
            assert "x-ms-lease-id" not in a.headers
        elif action == "release":
            assert "x-ms-lease-id" not in a.headers
        else:
            now = a.headers["x-ms-lease-id"]
            assert now == headers.get("proposed", lease) or "proposed" not in headers
            assert act(api, path, "renew", now).status == 200  # it is the id now


# ---- operations ----

def block_list(*ids):
    return "".join(["<BlockList>", *(f"<Latest>{i}</Latest>" for i in ids), "</BlockList>"]).encode()


OLD = base64.b64encode(b"old-block").decode()
BLOB_OPERATIONS = [  # method, query, headers, body, what it does with a lease, success
    ("GET", "", {}, b"", "read", 200),
    ("GET", "", {"x-ms-range": "bytes=0-1"}, b"", "read", 206),
    ("HEAD", "", {}, b"", "read", 200),
    ("GET", "?comp=metadata", {}, b"", "read", 200),
    ("GET", "?comp=blocklist", {}, b"", "read", 200),
    ("PUT", "", BLOCK, b"new", "write", 201),
    ("PUT", "", {**BLOCK, "If-None-Match": '"0x1"'}, b"new", "write", 201),
    ("PUT", "", {**BLOCK, "x-ms-copy-source": "SOURCE?SAS"}, b"", "write", 201),
    ("PUT", "", {"x-ms-copy-source": "SOURCE"}, b"", "write", 202),
    ("PUT", "", {"x-ms-copy-source": "SOURCE?SAS", "x-ms-requires-sync": "true"}, b"", "write", 202),
    ("PUT", "?comp=blocklist", {}, block_list(), "write", 201),
    ("PUT", "?comp=properties", {"x-ms-blob-content-type": "a/b"}, b"", "write", 200),
    ("PUT", "?comp=metadata", {"x-ms-meta-a": "b"}, b"", "write", 200),
    ("PUT", f"?comp=block&blockid={OLD}", {}, b"block", "stage", 201),
    ("PUT", f"?comp=block&blockid={OLD}", {"x-ms-copy-source": "SOURCE?SAS"}, b"", "stage", 201),
    ("PUT", "?comp=copy&copyid=1", {"x-ms-copy-action": "abort"}, b"", "stage", 409),
    ("DELETE", "", {}, b"", "delete", 202),
]
CONTAINER_OPERATIONS = [
    ("GET", "", {}, b"", "read", 200),
    ("HEAD", "", {}, b"", "read", 200),
    ("GET", "&comp=metadata", {}, b"", "read", 200),
    ("PUT", "&comp=metadata", {"x-ms-meta-a": "b"}, b"", "read", 200),
    ("GET", "&comp=list", {}, b"", "ignored", 200),
    ("DELETE", "", {}, b"", "delete", 202),
]


def refusal(kind, rule, state, lease):
    """What surface section 5 says of that use; None: it is allowed."""
    of = "WithBlobOperation" if kind == "blob" else "WithContainerOperation"
    if rule == "ignored":
        return None
    if lease is None:
        return "LeaseIdMissing" if rule != "read" and state in LOCKED else None
    if state == "available":
        return "LeaseNotPresent" + of
    if lease == Y:
        return "LeaseIdMismatch" + of
    return None if state in LOCKED else "LeaseLost"


def operations():
    for kind, table in (("blob", BLOB_OPERATIONS), ("container", CONTAINER_OPERATIONS)):
        for operation in table:
            yield pytest.param(kind, operation, id=f"{kind} {operation[0]}{operation[1]} {' '.join(operation[2])}")


def check_after(api, kind, path, rule, state, before):
    """An allowed use: what it leaves of the lease and the version."""
    if rule == "delete":
        assert api.request("HEAD", path).status == 404
        return
    kept = state if rule != "write" or state in LOCKED else "available"
    assert shown(api, path) == SHOWN[kept]
    if rule in ("write", "stage") and kind == "blob":
        assert (api.request("HEAD", path).headers["etag"] == before["etag"]) == (rule == "stage")


@pytest.mark.parametrize("kind,operation", operations())
def test_lease__operation_in_every_state_with_each_id(api, ctr, kind, operation):
    method, query, headers, body, rule, success = operation
    source = f"http://{api.host}:{api.port}{api.base}/leases/source"
    sas = account_sas(api.account, api.key, "r")
    headers = {name: value.replace("SOURCE", source).replace("SAS", sas) for name, value in headers.items()}
    for state in STATES:
        for lease in (None, X, Y):
            path = make(api, kind)
            enter(api, path, state)
            before = api.request("HEAD", path).headers
            a = api.request(method, path + query, {**headers, **({"x-ms-lease-id": lease} if lease else {})}, body)
            code = refusal(kind, rule, state, lease)
            if not code:
                assert a.status == success, (state, lease, a)
                check_after(api, kind, path, rule, state, before)
                continue
            assert (a.status, a.code) == (412, code), (state, lease, a)
            assert shown(api, path) == SHOWN[state]
            assert api.request("HEAD", path).headers["etag"] == before["etag"]


# ---- order of checks ----

def test_lease__comes_before_conditions_and_after_existence(api, ctr):
    path = make(api, "blob")
    enter(api, path, "infinite")
    for headers, status, code in [
            ({"If-None-Match": "*"}, 412, "LeaseIdMissing"),  # Azurite#2637: not 409 BlobAlreadyExists
            ({"If-None-Match": "*", "x-ms-lease-id": X}, 409, "BlobAlreadyExists"),
            ({"If-Match": '"0x1"'}, 412, "LeaseIdMissing"),
            ({"If-Match": '"0x1"', "x-ms-lease-id": X}, 412, "ConditionNotMet")]:
        a = api.request("PUT", path, {**BLOCK, **headers}, b"new")
        assert (a.status, a.code) == (status, code), headers
    etag = api.request("HEAD", path).headers["etag"]
    a = api.request("GET", path, {"If-None-Match": etag, "x-ms-lease-id": Y})
    assert (a.status, a.code) == (412, "LeaseIdMismatchWithBlobOperation")
    missing = "/leases/" + uuid.uuid4().hex
    for method, query, headers, status, code in [
            ("GET", "", {}, 404, "BlobNotFound"), ("DELETE", "", {}, 404, "BlobNotFound"),
            ("PUT", "?comp=metadata", {}, 404, "BlobNotFound"),
            ("PUT", "", BLOCK, 412, "LeaseNotPresentWithBlobOperation"),
            ("PUT", "?comp=block&blockid=" + OLD, {}, 412, "LeaseNotPresentWithBlobOperation"),
            ("PUT", "?comp=blocklist", {}, 412, "LeaseNotPresentWithBlobOperation")]:
        a = api.request(method, missing + query, {**headers, "x-ms-lease-id": X}, b"" if method != "PUT" else b"x"
                        if query != "?comp=blocklist" else block_list())
        assert (a.status, a.code) == (status, code), (method, query, a)
    assert api.request("GET", missing).status == 404
    assert act(api, missing, "acquire", duration=-1).code == "BlobNotFound"
    assert act(api, "/none-such/b", "acquire", duration=-1).code == "ContainerNotFound"
    assert act(api, "/none-such?restype=container", "acquire", duration=-1).code == "ContainerNotFound"


@pytest.mark.parametrize("kind", ["blob", "container"])
def test_lease__conditions_of_the_action_itself(api, ctr, kind):
    path = make(api, kind)
    future = "Fri, 01 Jan 2100 00:00:00 GMT"
    a = api.request("PUT", path + ("?" if kind == "blob" else "&") + "comp=lease",
                    {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1", "If-Modified-Since": future})
    assert (a.status, a.code) == (412, "ConditionNotMet")
    assert shown(api, path) == SHOWN["available"]


# ---- inputs ----

@pytest.mark.parametrize("headers,code,name", [
    ({}, "MissingRequiredHeader", "x-ms-lease-action"),
    ({"action": "take"}, "InvalidHeaderValue", "x-ms-lease-action"),
    ({"action": "acquire"}, "MissingRequiredHeader", "x-ms-lease-duration"),
    *(({"action": "acquire", "duration": n}, "InvalidHeaderValue", "x-ms-lease-duration")
      for n in ("14", "61", "0", "-2", "x", "15.5", "99999999999999999999")),
    ({"action": "acquire", "duration": "15", "proposed": "1"}, "InvalidHeaderValue", "x-ms-proposed-lease-id"),
    ({"action": "renew"}, "MissingRequiredHeader", "x-ms-lease-id"),
    ({"action": "release", "id": "1"}, "InvalidHeaderValue", "x-ms-lease-id"),
    ({"action": "change", "id": X}, "MissingRequiredHeader", "x-ms-proposed-lease-id"),
    ({"action": "change", "id": X, "proposed": "1"}, "InvalidHeaderValue", "x-ms-proposed-lease-id"),
    *(({"action": "break", "break": n}, "InvalidHeaderValue", "x-ms-lease-break-period") for n in ("61", "-1", "x")),
], ids=str)
def test_lease__inputs(api, ctr, headers, code, name):
    names = {"action": "x-ms-lease-action", "duration": "x-ms-lease-duration", "id": "x-ms-lease-id",
             "proposed": "x-ms-proposed-lease-id", "break": "x-ms-lease-break-period"}
    for path in ("/leases/source?comp=lease", "/leases?restype=container&comp=lease"):
        a = api.request("PUT", path, {names[key]: value for key, value in headers.items()})
        assert (a.status, a.code) == (400, code)
        assert f"<HeaderName>{name}</HeaderName>".encode() in a.body
        assert shown(api, path.replace("comp=lease", "").rstrip("?&")) == SHOWN["available"]


def test_lease__ids_are_guids_whatever_their_spelling(api, ctr):
    path, u = make(api, "blob"), uuid.uuid4()
    a = act(api, path, "acquire", duration=60, proposed=u.hex.upper())
    assert (a.status, a.headers["x-ms-lease-id"]) == (201, u.hex.upper())
    for text in (str(u), f"{{{u}}}", f"({str(u).upper()})", u.hex):
        assert api.request("PUT", path + "?comp=metadata", {"x-ms-lease-id": text}).status == 200
    made = act(api, make(api, "blob"), "acquire", duration=60).headers["x-ms-lease-id"]
    assert str(uuid.UUID(made)) == made


def test_lease__rights_of_a_sas(api, ctr):
    path = make(api, "blob")

    def under(sas, action, **headers):
        return api.request("PUT", f"{path}?comp=lease&{sas}", {"x-ms-lease-action": action, **headers}, auth=None)

    name = path.rpartition("/")[2]
    for sas_of in (lambda sp: account_sas(api.account, api.key, sp),
                   lambda sp: service_sas(api.account, api.key, "leases", name, sp=sp)):
        a = under(sas_of("d"), "acquire", **{"x-ms-lease-duration": "-1"})
        assert (a.status, a.code) == (403, "AuthorizationPermissionMismatch")
        a = under(sas_of("rac"), "acquire", **{"x-ms-lease-duration": "-1"})
        assert (a.status, a.code) == (403, "AuthorizationPermissionMismatch")
        assert under(sas_of("w"), "acquire", **{"x-ms-lease-duration": "-1"}).status == 201
        assert under(sas_of("d"), "break").status == 202


# ---- what keeps and what ends one ----

def test_lease__ends_with_the_blob(api, ctr):
    path = make(api, "blob")
    enter(api, path, "infinite")
    assert api.request("DELETE", path, {"x-ms-lease-id": X}).status == 202
    assert api.request("PUT", path, BLOCK, b"another").status == 201
    assert shown(api, path) == SHOWN["available"]


def test_lease__is_not_copied(api, ctr):
    path, copy = make(api, "blob"), make(api, "blob")
    enter(api, path, "infinite")
    source = f"http://{api.host}:{api.port}{api.base}{path}"
    for lease, status in ((None, 202), (X, 202), (Y, 412)):
        a = api.request("PUT", copy, {"x-ms-copy-source": source, **({"x-ms-source-lease-id": lease} if lease else {})})
        assert a.status == status, a
    assert a.code == "LeaseIdMismatchWithBlobOperation"
    assert shown(api, copy) == SHOWN["available"]
    assert shown(api, path) == SHOWN["infinite"]


def test_lease__of_a_blob_does_not_hold_its_container(api):
    name = "c" + uuid.uuid4().hex
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    assert api.request("PUT", f"/{name}/b", BLOCK, b"x").status == 201
    enter(api, f"/{name}/b", "infinite")
    assert api.request("DELETE", f"/{name}?restype=container").status == 202


def test_lease__blocks_are_the_holders(api, ctr):
    path = make(api, "blob")
    enter(api, path, "fixed")
    ours = {"x-ms-lease-id": X}
    assert api.request("PUT", f"{path}?comp=block&blockid={OLD}", ours, b"ours").status == 201
    assert api.request("PUT", f"{path}?comp=block&blockid={OLD}", {}, b"theirs").code == "LeaseIdMissing"
    assert api.request("PUT", f"{path}?comp=blocklist", {}, block_list(OLD)).code == "LeaseIdMissing"
    assert api.request("PUT", f"{path}?comp=blocklist", ours, block_list(OLD)).status == 201
    assert api.request("GET", path).body == b"ours"
    assert shown(api, path) == SHOWN["fixed"]


def test_lease__one_of_many_gets_it(api, ctr):
    for path in (make(api, "blob"), make(api, "container")):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(act(api, path, "acquire", duration=60)))
                   for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        got = sorted((a.status, a.code) for a in answers)
        assert got == [(201, None)] + [(409, "LeaseAlreadyPresent")] * 15


def test_lease__is_in_lists(api):
    name = "l" + uuid.uuid4().hex
    assert api.request("PUT", f"/{name}?restype=container").status == 201
    for state in STATES:
        assert api.request("PUT", f"/{name}/{state}", BLOCK, b"x").status == 201
        enter(api, f"/{name}/{state}", state)
    enter(api, f"/{name}?restype=container", "fixed")

    def listed(row):
        at = row.find("Properties")
        return tuple(at.findtext(f"Lease{element}") for element in ("Status", "State", "Duration"))

    page = xml.fromstring(api.request("GET", f"/{name}?restype=container&comp=list").body.decode("utf-8-sig"))
    rows = {row.findtext("Name"): listed(row) for row in page.iter("Blob")}
    assert rows == {state: SHOWN[state] for state in STATES}
    page = xml.fromstring(api.request("GET", f"/?comp=list&prefix={name}").body.decode("utf-8-sig"))
    assert [listed(row) for row in page.iter("Container")] == [SHOWN["fixed"]]


# ---- kill -9 ----

def test_lease__survives_a_kill(tmp_path):
    box = Box(tmp_path / "box").start()
    try:
        api = Client(box.endpoint, ACCOUNT, KEY)
        assert api.request("PUT", "/leases?restype=container").status == 201
        paths = {state: make(api, kind) for kind in ("blob",) for state in STATES}
        paths.update({f"{state} container": make(api, "container") for state in STATES})
        for state, path in paths.items():
            enter(api, path, state.split()[0])
        etags = {path: api.request("HEAD", path).headers["etag"] for path in paths.values()}
        assert act(api, paths["fixed"], "renew", X).status == 200  # in memory only: lost, as a whole period is gained
        assert act(api, paths["infinite"], "change", X, proposed=Y).status == 200
        for restart in (box.kill, box.stop):
            restart()
            box.start()
            for state, path in paths.items():
                assert shown(api, path) == SHOWN[state.split()[0]], state
                assert api.request("HEAD", path).headers["etag"] == etags[path]
        assert api.request("PUT", paths["fixed"], BLOCK, b"new").code == "LeaseIdMissing"
        assert api.request("PUT", paths["fixed"], {**BLOCK, "x-ms-lease-id": X}, b"new").status == 201
        assert act(api, paths["fixed"], "renew", X).status == 200
        assert act(api, paths["infinite"], "release", X).code == "LeaseIdMismatchWithLeaseOperation"
        assert act(api, paths["infinite"], "release", Y).status == 200
        left = int(act(api, paths["breaking"], "break").headers["x-ms-lease-time"])
        assert 0 < left <= 60
        assert api.request("DELETE", paths["infinite container"]).code == "LeaseIdMissing"
    finally:
        assert box.stop() == 0
    assert not box.check()
