"""Set and Get Blob Service Properties, CORS preflight and answers, the default version."""
import pytest

from support.azure import account_sas
from support.box import ACCOUNT, KEY

URL = "/?restype=service&comp=properties"
EMPTY = "<StorageServiceProperties />"


def document(inner):
    return f'<?xml version="1.0" encoding="utf-8"?><StorageServiceProperties>{inner}</StorageServiceProperties>'.encode()


def rule(origins="http://a.example", methods="GET,PUT", headers="x-ms-*,range", exposed="x-ms-meta-*,ETag", age=60):
    return (f"<CorsRule><AllowedOrigins>{origins}</AllowedOrigins><AllowedMethods>{methods}</AllowedMethods>"
            f"<AllowedHeaders>{headers}</AllowedHeaders><ExposedHeaders>{exposed}</ExposedHeaders>"
            f"<MaxAgeInSeconds>{age}</MaxAgeInSeconds></CorsRule>")


def cors(*rules):
    return "<Cors>" + "".join(rules) + "</Cors>"


def analytics(name, inner, days=0):
    policy = f"<Enabled>true</Enabled><Days>{days}</Days>" if days else "<Enabled>false</Enabled>"
    return f"<{name}><Version>1.0</Version>{inner}<RetentionPolicy>{policy}</RetentionPolicy></{name}>"


LOGGING = analytics("Logging", "<Read>true</Read><Write>false</Write><Delete>true</Delete>", 7)
HOUR = analytics("HourMetrics", "<Enabled>true</Enabled><IncludeAPIs>true</IncludeAPIs>", 365)
MINUTE = analytics("MinuteMetrics", "<Enabled>false</Enabled>")
WHOLE = (LOGGING + HOUR + MINUTE + cors(rule()) + "<DefaultServiceVersion>2019-12-12</DefaultServiceVersion>"
         "<DeleteRetentionPolicy><Enabled>true</Enabled><Days>9</Days></DeleteRetentionPolicy>"
         "<StaticWebsite><Enabled>true</Enabled><IndexDocument>index.html</IndexDocument>"
         "<ErrorDocument404Path>404.html</ErrorDocument404Path></StaticWebsite>")


@pytest.fixture(scope="module")
def service(api):
    def put(inner):
        a = api.request("PUT", URL, {}, document(inner))
        assert a.status == 202, a.body
    yield put


def shown(api):
    a = api.request("GET", URL)
    assert a.status == 200 and a.headers["content-type"] == "application/xml"
    return a.body.decode()


def test_properties__what_was_set_is_shown_and_what_is_left_out_stays(api, service):
    service(WHOLE)
    for part in (LOGGING, HOUR, MINUTE, "<AllowedOrigins>http://a.example</AllowedOrigins>", "<MaxAgeInSeconds>60<",
                 "<DefaultServiceVersion>2019-12-12<", "<DeleteRetentionPolicy><Enabled>true</Enabled><Days>9</Days></",
                 "<IndexDocument>index.html<", "<ErrorDocument404Path>404.html<"):
        assert part in shown(api), part
    service("<DeleteRetentionPolicy><Enabled>false</Enabled></DeleteRetentionPolicy>")
    now = shown(api)
    assert "<DeleteRetentionPolicy><Enabled>false</Enabled></" in now and LOGGING in now and "index.html" in now
    service("<Cors /><StaticWebsite><Enabled>false</Enabled></StaticWebsite>")
    assert "<Cors />" in shown(api) and "<StaticWebsite><Enabled>false</Enabled></StaticWebsite>" in shown(api)
    service("")
    assert HOUR in shown(api)


def test_properties__old_versions_do_not_see_newer_parts(api, service):
    a = api.request("GET", URL, {"x-ms-version": "2017-04-17"}).body
    assert b"DeleteRetentionPolicy" not in a and b"StaticWebsite" not in a and b"<Cors" in a
    a = api.request("GET", URL, {"x-ms-version": "2017-07-29"}).body
    assert b"DeleteRetentionPolicy" in a and b"StaticWebsite" not in a


BAD = {
    "not xml": (b"<StorageServiceProperties>", "InvalidXmlDocument", None),
    "empty body": (b"", "InvalidXmlDocument", None),
    "other root": (b"<Properties />", "InvalidXmlDocument", None),
    "doctype": (b'<!DOCTYPE x []><StorageServiceProperties />', "InvalidXmlDocument", None),
    "unknown part": ("<Nonsense />", "UnsupportedXmlNode", "Nonsense"),
    "unknown leaf": ("<Logging><Nonsense /></Logging>", "UnsupportedXmlNode", "Nonsense"),
    "text between": ("<Cors>text</Cors>", "InvalidXmlDocument", None),
    "twice": ("<Cors /><Cors />", "InvalidXmlDocument", "Cors"),
    "no logging version": ("<Logging><Read>true</Read></Logging>", "MissingRequiredXmlNode", "Version"),
    "no days": ("<DeleteRetentionPolicy><Enabled>true</Enabled></DeleteRetentionPolicy>", "MissingRequiredXmlNode", "Days"),
    "days 0": ("<DeleteRetentionPolicy><Enabled>true</Enabled><Days>0</Days></DeleteRetentionPolicy>", "InvalidXmlNodeValue", "Days"),
    "days 366": ("<DeleteRetentionPolicy><Enabled>true</Enabled><Days>366</Days></DeleteRetentionPolicy>", "InvalidXmlNodeValue", "Days"),
    "no bool": ("<StaticWebsite><Enabled>yes</Enabled></StaticWebsite>", "InvalidXmlNodeValue", "Enabled"),
    "no apis": (HOUR.replace("<IncludeAPIs>true</IncludeAPIs>", ""), "MissingRequiredXmlNode", "IncludeAPIs"),
    "bad version": ("<DefaultServiceVersion>new</DefaultServiceVersion>", "InvalidXmlNodeValue", "DefaultServiceVersion"),
    "two indexes": ("<StaticWebsite><Enabled>true</Enabled><IndexDocument>a</IndexDocument><DefaultIndexDocumentPath>b"
                    "</DefaultIndexDocumentPath></StaticWebsite>", "InvalidXmlNodeValue", "DefaultIndexDocumentPath"),
    "six rules": (cors(*[rule()] * 6), "InvalidXmlDocument", "CorsRule"),
    "no origins": (cors(rule(origins="")), "InvalidXmlNodeValue", "AllowedOrigins"),
    "bad method": (cors(rule(methods="GET,FETCH")), "InvalidXmlNodeValue", "AllowedMethods"),
    "three prefixes": (cors(rule(headers="a*,b*,c*")), "InvalidXmlNodeValue", "AllowedHeaders"),
    "65 headers": (cors(rule(headers=",".join(map(str, range(65))))), "InvalidXmlNodeValue", "AllowedHeaders"),
    "long origin": (cors(rule(origins="http://" + "a" * 250)), "InvalidXmlNodeValue", "AllowedOrigins"),
    "age": (cors(rule(age=-1)), "InvalidXmlNodeValue", "MaxAgeInSeconds"),
    "no age": (cors(rule().replace("<MaxAgeInSeconds>60</MaxAgeInSeconds>", "")), "MissingRequiredXmlNode", "MaxAgeInSeconds"),
    "over 2 KiB": (cors(*[rule(exposed=("b" * 250 + ",") * 2 + "c")] * 5), "InvalidXmlNodeValue", "Cors"),
}


@pytest.mark.parametrize("case", BAD)
def test_properties__a_wrong_document_is_refused_and_changes_nothing(api, case):
    body, code, node = BAD[case]
    before = shown(api)
    a = api.request("PUT", URL, {}, body if isinstance(body, bytes) else document(body))
    assert (a.status, a.code) == (400, code), a.body
    assert node is None or f"<XmlNodeName>{node}</XmlNodeName>".encode() in a.body, a.body
    assert shown(api) == before


def test_properties__a_body_is_bounded_and_checked(api):
    a = api.request("PUT", URL, {}, document("<!--" + "x" * 65536 + "-->"))
    assert (a.status, a.code) == (413, "RequestBodyTooLarge")
    a = api.request("PUT", URL, {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, document(""))
    assert (a.status, a.code) == (400, "Md5Mismatch")


def options(api, path="/ctr/blob", **headers):
    return api.request("OPTIONS", path, {k.replace("_", "-"): v for k, v in headers.items()}, auth=None)


def test_preflight__without_rules_nothing_is_allowed(api, service):
    service("<Cors />")
    a = options(api, origin="http://a.example", access_control_request_method="GET")
    assert (a.status, a.code) == (403, "CorsPreflightFailure") and not [h for h in a.headers if h.startswith("access")]


ASK = dict(origin="http://a.example", access_control_request_method="PUT")
PREFLIGHTS = {
    "match": (ASK, 200), "headers": ({**ASK, "access_control_request_headers": "X-MS-Version, range"}, 200),
    "other origin": ({**ASK, "origin": "http://b.example"}, 403), "case": ({**ASK, "origin": "http://A.example"}, 403),
    "method": ({**ASK, "access_control_request_method": "DELETE"}, 403),
    "header": ({**ASK, "access_control_request_headers": "x-ms-version,accept"}, 403),
    "second rule": ({**ASK, "origin": "https://x.c.example", "access_control_request_method": "DELETE"}, 200),
    "no origin": ({"access_control_request_method": "PUT"}, 400), "no method": ({"origin": "http://a.example"}, 400),
}


@pytest.mark.parametrize("path", ["/", "/ctr?restype=container&comp=list", "/ctr/blob?comp=block"])
@pytest.mark.parametrize("case", PREFLIGHTS)
def test_preflight__rules_decide(api, service, case, path):
    headers, status = PREFLIGHTS[case]
    service(cors(rule(), rule(origins="https://*.c.example", methods="DELETE", headers="", exposed="")))
    a = options(api, path, **headers)
    assert a.status == status, a.body
    assert a.code == {200: None, 403: "CorsPreflightFailure", 400: "InvalidHeaderValue"}[status]
    if status == 200:
        assert a.headers["access-control-allow-origin"] == headers["origin"]
        assert a.headers["access-control-allow-methods"] == headers["access_control_request_method"]
        assert a.headers.get("access-control-allow-headers") == headers.get("access_control_request_headers")
        assert (a.headers["access-control-max-age"], a.headers["access-control-allow-credentials"]) == ("60", "true")


# Origin sent, rule's origins -> Allow-Origin, Vary (Microsoft's table "Understanding how the Vary header is set")
ANSWERS = [(None, "http://a.example", None, "Origin"), (None, "*", "*", None), ("http://a.example", None, None, None),
           ("http://a.example", "http://a.example", "http://a.example", "Origin"),
           ("http://b.example", "http://a.example", None, "Origin"), ("http://b.example", "*", "*", None)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize("origin,allowed,want,vary", ANSWERS)
def test_cors__answers_say_who_may_read_them(api, service, origin, allowed, want, vary, method):
    service(cors(rule(origins=allowed, methods="GET,HEAD,PUT")) if allowed else "<Cors />")
    api.request("PUT", "/cors?restype=container")
    a = api.request("PUT", "/cors/b", {"x-ms-blob-type": "BlockBlob", "x-ms-meta-one": "1",
                                       **({"origin": origin} if origin else {})}, b"text")
    assert a.status == 201
    if method != "PUT":
        a = api.request(method, "/cors/b", {"origin": origin} if origin else {})
        assert a.status == 200
    assert a.headers.get("access-control-allow-origin") == want
    assert a.headers.get("vary") == (None if method == "PUT" else vary)
    exposed = a.headers.get("access-control-expose-headers")
    assert exposed == (("ETag" if method == "PUT" else "ETag,x-ms-meta-one") if want else None) or \
        sorted(exposed.split(",")) == ["ETag", "x-ms-meta-one"]
    assert a.headers.get("access-control-allow-credentials") == ("true" if want not in (None, "*") else None)


def test_cors__errors_carry_it_too(api, service):
    service(cors(rule(exposed="*")))
    a = api.request("GET", "/cors/absent", {"origin": "http://a.example"})
    assert a.status == 404 and a.headers["access-control-allow-origin"] == "http://a.example"
    exposed = a.headers["access-control-expose-headers"].split(",")
    assert {"x-ms-error-code", "x-ms-request-id", "Content-Length", "Date"} <= set(exposed)


def test_version__the_accounts_default_stands_in_for_a_missing_one(api, service):
    service("<DefaultServiceVersion>2015-07-08</DefaultServiceVersion>")
    sas = account_sas(ACCOUNT, KEY)
    assert api.request("GET", "/?comp=list", {"x-ms-version": None}).headers["x-ms-version"] == "2015-07-08"
    assert api.request("GET", "/?comp=list").headers["x-ms-version"] != "2015-07-08"
    a = api.request("GET", "/?comp=list&" + sas, {"x-ms-version": None}, auth=None)  # a SAS brings its own
    assert (a.status, a.headers["x-ms-version"]) == (200, "2020-12-06")
    service("<DefaultServiceVersion />")
    assert "DefaultServiceVersion" not in shown(api)
