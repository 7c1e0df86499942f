"""Which right opens which operation: (row of operations.def) x (kind of credentials) x (letter), every cell.

Method: a row is asked for in its shortest form with credentials that carry one letter only, all letters in one
connection's pipeline; a cell is right when it is let in or refused as NEEDS says, written from the service's
documents (reference, section 2), not from the table under test. What is let in may then fail as it likes (404, what
is not served): only refusals of the credentials count, so no cell depends on what another left behind. Rows that NEEDS
does not know are judged by their own letters: enforcement is tested, the letters are not."""
import os
import re
import uuid

import pytest

from support.azure import Client, account_sas, service_sas
from support.box import ACCOUNT, KEY, ROOT, Box
from support.entra import TENANT, Tenant
from test_identity import AZURES, user_sas

LETTERS = "racwdxyltfmeiup"
GOOD_FOR_TOKENS = "racwdxyltfmei"
READ, WRITE, CREATE, ANY = ("r", "r"), ("w", "w"), ("cw", "cw"), "rwdlacuptfixy"
# Letters of an account SAS, of a service or delegation SAS; any is enough. Tokens need the first.
NEEDS = {
    "GET_SERVICE_PROPERTIES": ("r", ""), "SET_SERVICE_PROPERTIES": ("w", ""), "GET_SERVICE_STATS": ("r", ""),
    "LIST_CONTAINERS": ("l", ""), "FIND_BLOBS_BY_TAGS": ("f", ""), "FIND_CONTAINER_BLOBS_BY_TAGS": ("f", "f"),
    "ACCOUNT_INFO": (ANY, ANY), "GET_USER_DELEGATION_KEY": ("", ""),
    "CREATE_CONTAINER": ("cw", ""), "GET_CONTAINER_PROPERTIES": ("r", ""), "DELETE_CONTAINER": ("d", ""),
    "SET_CONTAINER_METADATA": ("w", ""), "GET_CONTAINER_METADATA": ("r", ""), "GET_CONTAINER_ACL": ("", ""),
    "SET_CONTAINER_ACL": ("", ""), "LIST_BLOBS": ("l", "l"),
    "GET_BLOB": READ, "GET_BLOB_PROPERTIES": READ, "GET_BLOB_METADATA": READ, "GET_BLOCK_LIST": READ, "QUERY_BLOB": READ,
    "GET_PAGE_RANGES": READ, "DELETE_BLOB": ("d", "d"), "SET_BLOB_TAGS": ("t", "t"), "GET_BLOB_TAGS": ("t", "t"),
    "PUT_BLOB": CREATE, "PUT_APPEND_BLOB": CREATE, "PUT_PAGE_BLOB": CREATE, "PUT_BLOB_FROM_URL": CREATE,
    "COPY_BLOB_FROM_URL": CREATE, "COPY_BLOB": CREATE, "PUT_BLOCK_LIST": CREATE, "SNAPSHOT_BLOB": CREATE,
    "PUT_BLOCK": ("cw", "w"), "PUT_BLOCK_FROM_URL": ("cw", "w"), "SET_BLOB_PROPERTIES": WRITE, "SET_BLOB_METADATA": WRITE,
    "SET_BLOB_TIER": WRITE, "ABORT_COPY_BLOB": WRITE, "PUT_PAGE": WRITE, "SET_IMMUTABILITY_POLICY": ("i", "i"),
    "SET_LEGAL_HOLD": ("i", "i"), "LEASE_BLOB": ("wd", "wd"), "LEASE_CONTAINER": ("wd", ""),
    "APPEND_BLOCK": ("aw", "aw"), "APPEND_BLOCK_FROM_URL": ("aw", "aw"), "SEAL_BLOB": WRITE,
}
# What says that the credentials were not enough.
REFUSED = {"AuthorizationPermissionMismatch", "AuthorizationFailure", "AuthorizationResourceTypeMismatch",
           "AuthorizationServiceMismatch", "AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"}
KEYSET = ("owner", TENANT, "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "b", "2022-11-02")
WHEN = {"WHEN_PUT_FROM_URL": {"x-ms-blob-type": "BlockBlob", "x-ms-copy-source": "http://here/c/b"},
        "WHEN_COPY_SYNC": {"x-ms-copy-source": "http://here/c/b", "x-ms-requires-sync": "true"},
        "WHEN_COPY_SOURCE": {"x-ms-copy-source": "http://here/c/b"}, "WHEN_BLOCK_BLOB": {"x-ms-blob-type": "BlockBlob"},
        "WHEN_APPEND_BLOB": {"x-ms-blob-type": "AppendBlob"},
        "WHEN_PAGE_BLOB": {"x-ms-blob-type": "PageBlob", "x-ms-blob-content-length": "512"}}
PATHS = {"SERVICE": "/", "CONTAINER": "/matrix-{n}", "BLOB": "/matrix-{n}/b"}
SRT = {"SERVICE": "s", "CONTAINER": "c", "BLOB": "o"}


def table():
    """(id, method, level, query, headers, account letters, service letters) of each row, once a method and level."""
    with open(os.path.join(ROOT, "blobapi/operations.def")) as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    text = re.sub(r'^NOT_SERVED\((\w+), ("\w+"), ([^"]*), ("\w+"), ("\w+")\)',
                  r'OPERATION(\1, \2, \3, LEVEL_BLOB, "", \4, WHEN_ALWAYS, \5, \5,', text, flags=re.M)
    rows = re.findall(r'^ ?OPERATION\((\w+),\s*"\w+",\s*([\w| ]+),\s*([\w| ]+),\s*"(\w*)",\s*"(\w*)",\s*(WHEN_\w+),\s*"(\w*)",\s*"(\w*)",',
                      text, flags=re.M)
    assert len(rows) == len(re.findall(r"^OPERATION\(", text, flags=re.M)) > 50
    for name, methods, levels, restype, comp, when, account, service in rows:
        query = "&".join(f"{k}={v}" for k, v in (("restype", restype), ("comp", comp)) if v)
        if "block" in comp:
            query += "&blockid=AAAA"
        for level in PATHS if "LEVEL_ANY" in levels else re.findall(r"LEVEL_(\w+)", levels):
            for method in re.findall(r"METHOD_(\w+)", methods):
                yield name, method, level, query, WHEN.get(when, {}), *NEEDS.get(name, (account, service))


ROWS = list(table())
IDS = [f"{r[0]}-{r[1]}-{r[2]}" for r in ROWS]


@pytest.fixture(scope="module")
def tenant(tmp_path_factory):
    made = Tenant(tmp_path_factory.mktemp("tenant"))
    made.replace("revoked", "")
    made.replace("azure.keys", " ".join((ACCOUNT, *KEYSET, AZURES)) + "\n")
    made.tokens = {letter: made.token(oid="only-" + letter) for letter in GOOD_FOR_TOKENS}
    return made


@pytest.fixture(scope="module")
def api(tmp_path_factory, tenant):
    grants = ", ".join(['"oid:owner * owner"'] + [f'"oid:only-{letter} * {letter}"' for letter in GOOD_FOR_TOKENS])
    box = Box(tmp_path_factory.mktemp("box"), top=tenant.top(f'delegation_keys = "{tenant.path("azure.keys")}"'),
              account=f"grants = {{ {grants} }}").start()
    yield Client(box.endpoint, ACCOUNT, KEY)
    assert box.stop() == 0, box.text()[-4000:]


@pytest.fixture(scope="module")
def signed(tenant):
    """(kind, letter) -> what is added to the query; each is signed once."""
    delegation, sas = [*KEYSET, AZURES], {}
    container = "matrix-" + uuid.uuid4().hex[:12]
    for letter in LETTERS:
        sas["account", letter] = account_sas(ACCOUNT, KEY, sp=letter)
        sas["service", letter] = service_sas(ACCOUNT, KEY, container, None, sp=letter)
        sas["service-blob", letter] = service_sas(ACCOUNT, KEY, container, "b", sp=letter)
        sas["delegation", letter] = user_sas(delegation, container, None, sp=letter)
        sas["delegation-blob", letter] = user_sas(delegation, container, "b", sp=letter)
    for srt in "sco":
        sas["srt", srt] = account_sas(ACCOUNT, KEY, sp=LETTERS, srt=srt)
    for ss in "bqtf":
        sas["ss", ss] = account_sas(ACCOUNT, KEY, sp=LETTERS, ss=ss)
    return container, sas


def ask(api, container, row, credentials):
    """The answers to one row with each of the credentials (a query, headers)."""
    name, method, level, query, headers, *_ = row
    path = PATHS[level].format(n=container.partition("-")[2])
    with api.connect() as on:
        on.send(b"".join(api.head_bytes(method, f"{path}?{'&'.join(filter(None, (query, more)))}", {**headers, **own}, auth=None)
                         for more, own in credentials))
        return [on.answer(method) for _ in credentials]


def let_in(answer):
    assert answer.status != 500, answer
    return answer.code not in REFUSED


def wrong_cells(api, container, row, cells, needed):
    """cells: letter -> credentials. What is not as needed says."""
    answers = ask(api, container, row, list(cells.values()))
    return {letter: answer for letter, answer in zip(cells, answers) if let_in(answer) != (letter in needed)}


@pytest.mark.parametrize("kind", ["account", "service", "service-blob", "delegation", "delegation-blob"])
@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_letters_of_sas(api, signed, row, kind):
    container, sas = signed
    needed = row[5] if kind == "account" else row[6]
    if kind != "account" and row[2] == "SERVICE" or kind.endswith("-blob") and row[2] == "CONTAINER":
        needed = ""    # it speaks of less than that
    cells = {letter: (sas[kind, letter], {}) for letter in LETTERS}
    assert not wrong_cells(api, container, row, cells, needed)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_rights_of_tokens(api, tenant, signed, row):
    container, _ = signed
    cells = {letter: ("", {"Authorization": f"Bearer {token}"}) for letter, token in tenant.tokens.items()}
    assert not wrong_cells(api, container, row, cells, row[5])


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_services_and_resource_types_of_account_sas(api, signed, row):
    container, sas = signed
    for kind, letters, needed, code in (("srt", "sco", SRT[row[2]], "AuthorizationResourceTypeMismatch"),
                                        ("ss", "bqtf", "b", "AuthorizationServiceMismatch")):
        cells = {letter: (sas[kind, letter], {}) for letter in letters}
        answers = dict(zip(cells, ask(api, container, row, list(cells.values()))))
        for letter, answer in answers.items():
            assert (answer.code != code) == (letter in needed), (kind, letter, answer)
