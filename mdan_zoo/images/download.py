"""Image download within limits of time and size."""

from __future__ import annotations

import io

from mdan_zoo._util.http import fetch_bytes
from mdan_zoo.images.naming import UnreadableImageError, is_url, public_url


def download(url: str, max_bytes: int, timeout: float) -> io.BytesIO:
    """Download a URL; redirects are followed to http and https only.

    Args:
        url: Starts with http:// or https://.
        max_bytes: Largest body.
        timeout: Seconds for the whole download, from the name lookup to the last byte.

    Raises:
        UnreadableImageError: The download failed or exceeds a limit. The message does not contain
            the URL.
    """

    def check(target: str, count: int) -> None:
        if not is_url(target):
            shown = public_url(target)
            raise UnreadableImageError(f"it redirects to {shown}, not to http or https")
        if count > max_bytes:
            raise UnreadableImageError(f"{count} bytes or more are above max_bytes={max_bytes}")

    return io.BytesIO(fetch_bytes(url, timeout, check, UnreadableImageError))
