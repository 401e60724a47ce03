"""The content of a manifest's URL, within limits of time and size.

It imports requests, which takes a while: import this module only where a URL is given.
"""

from __future__ import annotations

from mdan_zoo._util.http import Fetch
from mdan_zoo.errors import ManifestError
from mdan_zoo.weights.manifest_fields import is_web_url, without_secrets

MAX_BYTES = 4 << 20
TIMEOUT = 20.0  # seconds, from the name lookup to the last byte


def fetch(url: str) -> bytes:
    """Fetch a URL that `is_web_url` accepts. Redirects are followed to such URLs only.

    Raises:
        ManifestError: It cannot be had within `TIMEOUT` and `MAX_BYTES`. The message is the reason
            alone, without the URL.
    """
    return Fetch(TIMEOUT, _check_url, _check_size, ManifestError).run(url)


def _check_url(url: str) -> None:
    if not is_web_url(url):
        raise ManifestError(f"it redirects to {without_secrets(url)}, which is not an https:// URL")


def _check_size(count: int) -> None:
    if count > MAX_BYTES:
        raise ManifestError(f"it has more than {MAX_BYTES:,} bytes")
