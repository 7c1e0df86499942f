"""Bearer tokens, user delegation and revocation on the wire, with a tenant made here."""
import base64
import re
import uuid

import pytest

from support.azure import Client, service_sas, sign, stamp
from support.box import ACCOUNT, KEY, Box
from support.entra import AUDIENCE, STRANGER, TENANT, TRAINER, Tenant, b64

BLOB = {"x-ms-blob-type": "BlockBlob"}
AZURES = base64.b64encode(b"k" * 32).decode()
KEYSET = (TRAINER, TENANT, "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "b", "2022-11-02")
GRANTS = f'''grants = {{ "oid:{TRAINER} models racwdl", "oid:{TRAINER} * delegator", "role:Reader * reader",
             "group:g1 models rl", "appid:app1 models w", "scope:user_impersonation open r" }}'''


@pytest.fixture(scope="module")
def tenant(tmp_path_factory):
    made = Tenant(tmp_path_factory.mktemp("tenant"))
    made.replace("revoked", "# nobody\n")
    made.replace("azure.keys", " ".join((ACCOUNT, *KEYSET, AZURES)) + "\n")
    return made


@pytest.fixture(scope="module")
def box(tmp_path_factory, tenant):
    box = Box(tmp_path_factory.mktemp("box"), top=tenant.top(f'delegation_keys = "{tenant.path("azure.keys")}"'),
              account=GRANTS).start()
    api = Client(box.endpoint, ACCOUNT, KEY)
    for name in ("models", "other"):
        assert api.request("PUT", f"/{name}?restype=container").status == 201
        assert api.request("PUT", f"/{name}/b", BLOB, b"bytes").status == 201
    yield box
    assert box.stop() == 0, box.text()[-4000:]


@pytest.fixture
def api(box):
    return Client(box.endpoint, ACCOUNT, KEY)


def bearer(api, token, method="GET", path="/models/b", headers=None, body=b""):
    return api.request(method, path, {**(headers or {}), "Authorization": f"Bearer {token}"}, body, auth=None)


@pytest.mark.parametrize("header", [{}, {"alg": "ES256", "kid": "e"}])
def test_a_good_token_does_what_its_grants_say(api, tenant, header):
    token = tenant.token(header)
    for _ in range(3):
        assert bearer(api, token).body == b"bytes"
    assert bearer(api, token, "PUT", "/models/" + uuid.uuid4().hex, BLOB, b"x").status == 201
    for method, path in (("GET", "/other/b"), ("GET", "/?comp=list"), ("GET", "/absent/b")):
        answer = bearer(api, token, method, path)
        assert (answer.status, answer.code) == (403, "AuthorizationPermissionMismatch")


@pytest.mark.parametrize("claims,can", [
    ({"roles": ["Reader"]}, [("GET", "/other/b"), ("GET", "/?comp=list"), ("GET", "/models/b")]),
    ({"groups": ["g0", "g1"]}, [("GET", "/models/b"), ("GET", "/models?restype=container&comp=list")]),
    ({"appid": "app1"}, [("PUT", "/models/app")]), ({"azp": "app1"}, [("PUT", "/models/app")]),
    ({"scp": "other user_impersonation"}, []), ({}, [])])
def test_subjects_of_every_kind(api, tenant, claims, can):
    token = tenant.token(oid=STRANGER, **claims)
    for method, path in (("GET", "/models/b"), ("GET", "/other/b"), ("GET", "/?comp=list"), ("PUT", "/models/app"),
                         ("GET", "/models?restype=container&comp=list")):
        answer = bearer(api, token, method, path, BLOB if method == "PUT" else None, b"" if method == "GET" else b"1")
        assert answer.status in (200, 201) if (method, path) in can or "roles" in claims and method == "GET" \
            else answer.code == "AuthorizationPermissionMismatch", (method, path, answer)


def bad_tokens(tenant):
    good = tenant.token()
    head, claims, signature = good.split(".")
    other = Tenant.__new__(Tenant)
    from cryptography.hazmat.primitives.asymmetric import rsa
    other.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    twice = b64(f'{{"iss":"https://sts.windows.net/{TENANT}/","tid":"{TENANT}","aud":"{AUDIENCE}","oid":"{STRANGER}",'
                f'"exp":4000000000,"oid":"{TRAINER}"}}')
    with open(tenant.path("jwks.json"), "rb") as f:
        public = f.read()
    return {
        "empty": "", "not a token": "abc", "two parts": head + "." + claims, "four parts": good + ".x",
        "signature of another token": tenant.token(nonce="1").rpartition(".")[0] + "." + signature,
        "another key": other.sign(head + "." + claims),
        "alg none": b64({"alg": "none", "kid": "r"}) + "." + claims + ".",
        "alg none, signed": tenant.token({"alg": "none"}),
        "alg HS256 with the public key": tenant.token({"alg": "HS256"}, key=public),
        "alg of the other key": tenant.token({"alg": "ES256", "kid": "r"}),
        "unknown kid": tenant.token({"kid": "x"}), "no kid": tenant.token({"kid": None}),
        "crit": tenant.token({"crit": ["b64"]}), "a claim twice": tenant.sign(head + "." + twice),
        "expired": tenant.token(exp=1700000000), "no exp": tenant.token(exp=None), "exp text": tenant.token(exp="4000000000"),
        "not yet": tenant.token(nbf=4000000000), "issuer": tenant.token(iss="https://sts.windows.net/x/"),
        "tenant": tenant.token(tid=STRANGER), "audience": tenant.token(aud="https://elsewhere"),
        "no audience": tenant.token(aud=None), "the shared audience": tenant.token(aud="https://storage.azure.com"),
        "no subject": tenant.token(oid=None), "padding": good + "=", "too long": tenant.token(pad="x" * 5000) + "A" * 9000}


def test_bad_tokens_are_challenged(api, tenant):
    for what, token in bad_tokens(tenant).items():
        answer = bearer(api, token)
        assert (answer.status, answer.code) == (401, "InvalidAuthenticationInfo"), what
        assert answer.headers["www-authenticate"] == (
            f"Bearer authorization_uri=https://login.microsoftonline.com/{TENANT}/oauth2/authorize resource_id={AUDIENCE}")
        assert b"AuthenticationErrorDetail" in answer.body, what


def test_leeway_and_version(api, tenant):
    import time
    now = int(time.time())
    assert bearer(api, tenant.token(nbf=now + 30, exp=now + 900)).status == 200
    assert bearer(api, tenant.token(exp=now - 30)).status == 200
    assert bearer(api, tenant.token(exp=now - 90)).status == 401
    old = bearer(api, tenant.token(), headers={"x-ms-version": "2016-05-31"})
    assert (old.status, old.code) == (403, "AuthenticationFailed")


def test_keys_are_read_again(api, tenant):
    from cryptography.hazmat.primitives.asymmetric import rsa
    before, token = tenant.rsa, tenant.token()
    assert bearer(api, token).status == 200
    try:
        tenant.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        tenant.write_jwks()
        assert bearer(api, token).status == 401
        assert bearer(api, tenant.token()).status == 200
        tenant.replace("jwks.json", "{}")    # cannot be used: what was known goes on
        assert bearer(api, tenant.token()).status == 200
    finally:
        tenant.rsa = before
        tenant.write_jwks()


# ---- user delegation ----

def get_key(api, token, start=None, expiry=None):
    body = (f"<KeyInfo><Start>{start or stamp(minutes=-5)}</Start>"
            f"<Expiry>{expiry or stamp(hours=1)}</Expiry></KeyInfo>").encode()
    return bearer(api, token, "POST", "/?restype=service&comp=userdelegationkey", {"x-ms-version": "2022-11-02"}, body)


def fields(answer):
    assert answer.status == 200, answer
    names = "SignedOid SignedTid SignedStart SignedExpiry SignedService SignedVersion Value".split()
    return [re.search(f"<{n}>(.*)</{n}>", answer.body.decode())[1] for n in names]


def user_sas(key, container="models", blob=None, sp="r", sv="2022-11-02", se=None, **more):
    names = dict(zip("skoid sktid skt ske sks skv".split(), key))
    f = dict(sp=sp, se=se or stamp(minutes=30), sv=sv, sr="b" if blob else "c", **names, **more)
    resource = f"/blob/{ACCOUNT}/{container}" + (f"/{blob}" if blob else "")
    lines = [sp, "", f["se"], resource, *key[:6], f.get("saoid", ""), f.get("suoid", ""), f.get("scid", "")]
    if sv >= "2025-07-05":
        lines += [f.get("skdutid", ""), f.get("sduoid", "")]
    lines += [f.get("sip", ""), f.get("spr", ""), sv, f["sr"], "", ""] + [""] * 5
    from urllib.parse import quote
    return "&".join(f"{n}={quote(v, safe='')}" for n, v in {**f, "sig": sign(key[6], "\n".join(lines))}.items() if v)


def by_sas(api, token, method="GET", path="/models/b", headers=None, body=b""):
    return api.request(method, f"{path}?{token}", headers, body, auth=None)


def test_delegation_key_signs_sas_within_the_subjects_rights(api, box, tenant):
    key = fields(get_key(api, tenant.token()))
    assert key[:2] == [TRAINER, TENANT] and key[4:6] == ["b", "2022-11-02"]
    token = user_sas(key, sp="rt", scid="c1", spr="https,http")
    assert by_sas(api, token).body == b"bytes"
    assert by_sas(api, user_sas(key, blob="b")).body == b"bytes"
    assert by_sas(api, token, "PUT", "/models/n", BLOB, b"x").code == "AuthorizationPermissionMismatch"
    other = user_sas(key, container="other", sp="rwdl")
    assert by_sas(api, other, path="/other/b").code == "AuthorizationPermissionMismatch"
    assert by_sas(api, user_sas(key, suoid=TRAINER)).code == "AuthenticationFailed"
    forged = key[:6] + [base64.b64encode(b"0" * 32).decode()]
    assert by_sas(api, user_sas(forged)).code == "AuthenticationFailed"
    later = [*key[:3], "2099-01-01T00:00:00Z", *key[4:]]
    assert by_sas(api, user_sas(later)).code == "AuthenticationFailed"
    box.stop()
    box.start()
    assert by_sas(api, token).body == b"bytes"    # nothing stored, the secret stays


def test_delegation_key_of_azure(api):
    assert by_sas(api, user_sas([*KEYSET, AZURES], sp="rw")).body == b"bytes"
    past = list(KEYSET)
    past[3] = "2026-02-01T00:00:00Z"
    assert by_sas(api, user_sas([*past, AZURES])).code == "AuthenticationFailed"


def test_delegated_user_needs_his_token(api, tenant):
    token = user_sas([*KEYSET, AZURES], sv="2025-07-05", sduoid=STRANGER)
    assert by_sas(api, token).code == "AuthenticationFailed"
    his, others = tenant.token(oid=STRANGER), tenant.token()
    assert by_sas(api, token, headers={"Authorization": f"Bearer {his}"}).body == b"bytes"
    assert by_sas(api, token, headers={"Authorization": f"Bearer {others}"}).status == 403


def batch(api, parts, query="", headers=None):
    """Status and code of each part of a batch of the container "models" without a signature by key."""
    body = "".join(f"--b\r\nContent-Type: application/http\r\nContent-ID: {n}\r\n\r\nDELETE {api.base}/models/{path} HTTP/1.1\r\n"
                   + "".join(f"{k}: {v}\r\n" for k, v in h.items()) + "\r\n\r\n" for n, (path, h) in enumerate(parts))
    answer = api.request("POST", f"/models?restype=container&comp=batch{query}", {
        "Content-Type": "multipart/mixed; boundary=b", **(headers or {})}, (body + "--b--\r\n").encode(), auth=None)
    return [(int(s), c) for s, c in re.findall(r"HTTP/1.1 (\d+) [^\r]*\r\n(?:x-ms-error-code: (\w+))?", answer.body.decode())] or answer


def test_parts_of_a_batch_go_under_the_token_of_the_whole(api, tenant):
    his, others = ({"Authorization": f"Bearer {tenant.token(oid=o)}"} for o in (TRAINER, STRANGER))
    names = ["batch-" + uuid.uuid4().hex for _ in range(4)]
    for name in names:
        assert api.request("PUT", f"/models/{name}", BLOB, b"x").status == 201
    a, b, c, d = names
    assert batch(api, [(a, {}), (b, his), (c, others)], headers=his) == [(202, ""), (202, ""), (403, "AuthorizationPermissionMismatch")]
    assert batch(api, [(c, {})], headers=others).code == "AuthorizationPermissionMismatch"
    own = user_sas([*KEYSET, AZURES], sp="d", sv="2025-07-05", sduoid=STRANGER)
    assert batch(api, [(c, {})], "&" + own).code == "AuthenticationFailed"
    assert batch(api, [(c, {})], "&" + own, others) == [(202, "")]
    assert batch(api, [(d, {})], "&" + user_sas([*KEYSET, AZURES], sp="r")) == [(403, "AuthorizationPermissionMismatch")]
    assert [api.request("HEAD", f"/models/{n}").status for n in names] == [404, 404, 404, 200]


def test_who_gets_a_delegation_key(api, tenant):
    assert get_key(api, tenant.token(oid=STRANGER)).code == "AuthorizationPermissionMismatch"
    by_role = get_key(api, tenant.token(oid=STRANGER, roles=["Reader"]))
    assert by_role.code == "AuthorizationPermissionMismatch" and b"oid:" in by_role.body
    path, body = "/?restype=service&comp=userdelegationkey", b"<KeyInfo/>"
    assert api.request("POST", path, None, body).code == "AuthenticationFailed"
    assert get_key(api, tenant.token(), expiry=stamp(days=8)).code == "InvalidXmlNodeValue"
    assert get_key(api, tenant.token(), expiry=stamp(days=-1)).code == "InvalidXmlNodeValue"
    assert get_key(api, tenant.token(), start="soon").code == "InvalidXmlNodeValue"
    assert bearer(api, tenant.token(), "POST", path, None, body).code == "MissingRequiredXmlNode"
    assert bearer(api, tenant.token(), "POST", path, None, b"<KeyInfo>").code == "InvalidXmlDocument"


def test_delegation_sas_forms_that_are_refused(api):
    good = user_sas([*KEYSET, AZURES])
    assert by_sas(api, good).status == 200
    for what, token in {"a stored policy beside it": good + "&si=policy", "before there were any": user_sas(
            [*KEYSET, AZURES], sv="2018-03-28"), "expired": user_sas([*KEYSET, AZURES], se=stamp(minutes=-1)),
            "a second subject": good + "&skoid=" + STRANGER, "another one's": good.replace(TRAINER, STRANGER),
            "another tenant": user_sas([TRAINER, STRANGER, *KEYSET[2:], AZURES]), "without sktid": re.sub(
            "sktid=[^&]*&", "", good), "a user to show, unsigned": good + "&sduoid=" + STRANGER,
            "for queues": user_sas([*KEYSET[:4], "q", KEYSET[5], AZURES])}.items():
        answer = by_sas(api, token)
        if what == "a second subject":    # the first counts, as everywhere
            assert answer.status == 200
        else:
            assert (answer.status, answer.code) == (403, "AuthenticationFailed"), what


# ---- sources of copies ----

SYNC = {"x-ms-requires-sync": "true"}


def source(api, path, query=""):
    return f"http://{api.host}:{api.port}{api.base}{path}" + (f"?{query}" if query else "")


def copy(api, url, headers, path="/models/copy", token=None):
    headers = {**headers, "x-ms-copy-source": url}
    if token:
        headers["x-ms-copy-source-authorization"] = f"Bearer {token}"
    return api.request("PUT", path, headers)


COPIES = {"copy": ({}, "/models/copy", 202), "sync": (SYNC, "/models/copy", 202), "put": (BLOB, "/models/copy", 201),
          "block": ({}, "/models/copy?comp=block&blockid=AAAA", 201)}


@pytest.mark.parametrize("kind", COPIES)
def test_source_by_token_or_user_delegation_sas(api, tenant, revoke, kind):
    headers, path, status = COPIES[kind]
    key = [*KEYSET, AZURES]
    reader = tenant.token(oid=STRANGER, roles=["Reader"])
    assert copy(api, source(api, "/other/b"), headers, path, reader).status == status
    assert copy(api, source(api, "/models/b", user_sas(key)), headers, path).status == status
    his = user_sas(key, sv="2025-07-05", sduoid=STRANGER)
    assert copy(api, source(api, "/models/b", his), headers, path, tenant.token(oid=STRANGER)).status == status
    revoked = user_sas(key, sp="rl")
    revoke("sas " + re.search("sig=([^&]*)", revoked)[1])
    for url, token, code, why in (
            (source(api, "/other/b"), tenant.token(), 403, "AuthorizationPermissionMismatch"),
            (source(api, "/other/b"), tenant.token(roles=["Reader"], exp=1700000000), 401, "InvalidAuthenticationInfo"),
            (source(api, "/other/b"), reader[:-8] + "AAAAAAAA", 401, "InvalidAuthenticationInfo"),
            (source(api, "/other/b", user_sas(key, container="other")), None, 403, "AuthorizationPermissionMismatch"),
            (source(api, "/models/b", user_sas(key, sp="wl")), None, 403, "AuthorizationPermissionMismatch"),
            (source(api, "/models/b", his), None, 403, "AuthenticationFailed"),
            (source(api, "/models/b", his), tenant.token(), 403, "AuthenticationFailed"),
            (source(api, "/models/b", revoked), None, 403, "AuthenticationFailed")):
        answer = copy(api, url, headers, path, token)
        assert (answer.status, answer.code) == (code, "CannotVerifyCopySource"), (url, answer)
        assert answer.headers["x-ms-copy-source-error-code"] == why, (url, answer)
        assert "www-authenticate" not in answer.headers


def test_copy_within_the_account_needs_the_subjects_right_to_read_only(api, tenant):
    def rename(token, path, headers=None):
        return bearer(api, token, "PUT", "/models/renamed", {"x-ms-copy-source": source(api, path), **(headers or {})})
    assert rename(tenant.token(), "/models/b").status == 202
    assert rename(tenant.token(roles=["Reader"]), "/other/b").status == 202
    for token, path, headers in ((tenant.token(), "/other/b", None), (tenant.token(oid=STRANGER, appid="app1"), "/models/b", None)):
        answer = rename(token, path, headers)
        assert (answer.status, answer.code) == (403, "CannotVerifyCopySource"), answer
    assert rename(tenant.token(), "/models/b", SYNC).status == 401    # only Copy Blob takes the request's for the source's


# ---- revocation ----

@pytest.fixture
def revoke(tenant):
    yield lambda *lines: tenant.replace("revoked", "\n".join(lines) + "\n")
    tenant.replace("revoked", "")


def test_revoked_sas_stops_at_once(api, revoke):
    token, other = service_sas(ACCOUNT, KEY, "models", "b"), service_sas(ACCOUNT, KEY, "models", "b", sp="rw")
    assert by_sas(api, token).status == 200
    revoke("sas " + re.search("sig=([^&]*)", token)[1] + "  # leaked")
    assert by_sas(api, token).code == "AuthenticationFailed"
    assert by_sas(api, other).status == 200
    revoke("nonsense")    # what was revoked stays so
    assert by_sas(api, token).code == "AuthenticationFailed"


@pytest.mark.parametrize("line", [f"subject {TRAINER.upper()}", f"key {TRAINER}", f"key {TRAINER} {KEYSET[2]}", "keys"])
def test_revoked_subjects_and_delegation_keys(api, tenant, revoke, line):
    token, sas = tenant.token(), user_sas([*KEYSET, AZURES])
    assert bearer(api, token).status == by_sas(api, sas).status == 200
    revoke(line)
    assert by_sas(api, sas).code == "AuthenticationFailed"
    assert bearer(api, token).status == (401 if line.startswith("subject") else 200)
    revoke(f"key {TRAINER} 2026-03-01", f"subject {STRANGER}")
    assert bearer(api, token).status == by_sas(api, sas).status == 200


def test_no_secret_in_the_log(box, tenant):
    assert AZURES not in box.text() and tenant.token()[:40] not in box.text()
