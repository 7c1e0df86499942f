"""The signer of tests/support/azure.py gives the signatures that the captured clients gave."""
import json
import os
import urllib.parse

import pytest

from support import azure

with open(os.path.join(os.path.dirname(__file__), "../support/test-vectors.json")) as f:
    VECTORS = json.load(f)


@pytest.mark.parametrize("request_", VECTORS["sharedKey"], ids=lambda r: f"{r['client']} {r['target'][:60]}")
def test_shared_key(request_):
    headers = [tuple(h) for h in request_["headers"]]
    sent = next(value for name, value in headers if name.lower() == "authorization")
    rest = [h for h in headers if h[0].lower() != "authorization"]
    assert azure.shared_key(VECTORS["account"], VECTORS["key"], request_["method"], request_["target"], rest) == sent


@pytest.mark.parametrize("sas", [s for s in VECTORS["sas"] if s["kind"] != "delegation"],
                         ids=lambda s: f"{s['kind']} {s['params']['sv']}")
def test_sas(sas):
    place = [VECTORS["account"], VECTORS["key"]]
    if sas["kind"] == "account":
        query = azure.account_sas(*place, **sas["params"])
    else:
        query = azure.service_sas(*place, sas["container"], sas.get("blob"), **sas["params"])
    assert urllib.parse.parse_qs(query)["sig"] == [sas["sig"]]
