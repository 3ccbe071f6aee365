"""A server certificate for this machine that nobody vouches for."""

import ssl
from base64 import b64decode

# A certificate of "localhost" that signs itself, 2020 to 2120, and its key, both in DER. Made for these tests; it guards nothing.
CERTIFICATE = """
MIIBeDCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQ
BgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKYGTfMsobfTk1+ht6sQB7ck3DXZmcBmROluvHonj0PDi8Koll3vmJ4SrelywMli
6XViWeRFS+4nDAkSFRsJjRejXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4E
FgQUNcaHmw32EYz8fPpor19Twu/zjMUwCgYIKoZIzj0EAwIDSQAwRgIhAJ8wHVv7QDQE36goFYR3iBgw7fl8ch836n6LGCSlwUf2AiEA7LZZ3Msuk2O0PJ6e
M38FxWoa2BysL2vUY01Ly6iKsKw=
"""
KEY = """
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLnkwekpTgFOBwH/ikYAtsWXIaLCeIe68KMpxdTEoiiChRANCAASmBk3zLKG305NfoberEAe3
JNw12ZnAZkTpbrx6J49Dw4vCqJZd75ieEq3pcsDJYul1YlnkRUvuJwwJEhUbCY0X
"""


def pem() -> str:
    """Return key and certificate as one PEM text."""
    kind = "PRIVATE KEY"
    key = f"-----BEGIN {kind}-----\n{KEY.strip()}\n-----END {kind}-----\n"
    return key + ssl.DER_cert_to_PEM_cert(b64decode(CERTIFICATE))
