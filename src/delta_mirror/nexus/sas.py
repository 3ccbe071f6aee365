"""Shared access signatures: what opens a Service Bus subscription to whoever holds its key.

Invariants:

- The key itself never leaves this machine: what is sent is a signature that it made, and that ends.
- A token opens the address that it was made for and everything below it, and nothing else.

Source: docs/nexus.md, "How messages travel".
"""

import hmac
from base64 import b64encode
from urllib.parse import quote_plus

SCHEME = "SharedAccessSignature"


def sign(uri: str, key_name: str, key: str, expiry: int) -> str:
    """Return the Authorization header that opens *uri* until *expiry*, in seconds since the epoch by the broker's clock.

    What is signed is the encoded address and the expiry, a line feed between them; the key counts as text, and is not decoded,
    although it looks like base64.
    """
    resource = quote_plus(uri)
    signature = hmac.digest(key.encode(), f"{resource}\n{expiry}".encode(), "sha256")
    return f"{SCHEME} sr={resource}&sig={quote_plus(b64encode(signature))}&se={expiry}&skn={quote_plus(key_name)}"
