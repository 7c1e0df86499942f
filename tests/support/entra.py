"""A stand-in tenant: keys, their key set, and tokens signed with them. Needs python3-cryptography."""
import base64
import hashlib
import hmac
import json
import os
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

TENANT = "11111111-2222-3333-4444-555555555555"
AUDIENCE = "https://hearth.example"
TRAINER = "aaaaaaaa-0000-0000-0000-000000000001"
STRANGER = "aaaaaaaa-0000-0000-0000-000000000002"


def b64(data):
    if isinstance(data, (dict, list)):
        data = json.dumps(data)
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


def number(n, size):
    return b64(n.to_bytes(size, "big"))


class Tenant:
    def __init__(self, folder):
        self.folder = str(folder)
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.write_jwks()

    def path(self, name):
        return os.path.join(self.folder, name)

    def replace(self, name, text):
        """A whole file into place, readable by its owner only."""
        with open(os.open(self.path(name) + ".new", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as f:
            f.write(text)
        os.rename(self.path(name) + ".new", self.path(name))

    def write_jwks(self):
        r, e = self.rsa.public_key().public_numbers(), self.ec.public_key().public_numbers()
        self.replace("jwks.json", json.dumps({"keys": [
            {"kty": "oct", "kid": "odd", "k": "AAAA"},
            {"kty": "RSA", "use": "sig", "kid": "r", "n": number(r.n, 256), "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "kid": "e", "x": number(e.x, 32), "y": number(e.y, 32)}]}))

    def token(self, header=None, key=None, **more):
        """Claims given as None are left out."""
        now = int(time.time())
        claims = {"iss": f"https://sts.windows.net/{TENANT}/", "tid": TENANT, "aud": AUDIENCE, "oid": TRAINER,
                  "iat": now, "nbf": now - 10, "exp": now + 600, **more}
        header = {"alg": "RS256", "kid": "r", "typ": "JWT", **(header or {})}
        return self.sign(b64(header) + "." + b64({k: v for k, v in claims.items() if v is not None}), header["alg"], key)

    def sign(self, text, alg="RS256", key=None):
        data = text.encode()
        if alg == "RS256":
            signature = (key or self.rsa).sign(data, padding.PKCS1v15(), hashes.SHA256())
        elif alg == "ES256":
            r, s = utils.decode_dss_signature((key or self.ec).sign(data, ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        elif alg == "HS256":
            signature = hmac.new(key, data, hashlib.sha256).digest()
        else:
            signature = b"none"
        return text + "." + b64(signature)

    def top(self, more=""):
        """For appliance.conf."""
        return (f'revoked = "{self.path("revoked")}"\n'
                f'entra {{ tenant = "{TENANT}" jwks = "{self.path("jwks.json")}" audiences = {{ "{AUDIENCE}" }} {more} }}')
