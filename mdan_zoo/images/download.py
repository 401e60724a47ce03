"""Downloads of images, and limits on the bytes of any stream."""

from __future__ import annotations

import io
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from mdan_zoo.errors import ImageError

CHUNK_BYTES = 16_384


def is_url(image: object) -> bool:
    """Tell whether an object is a str that starts with http:// or https://."""
    return isinstance(image, str) and image.lower().startswith(("http://", "https://"))


def public_url(url: str) -> str:
    """Return a URL without what may be secret: user name, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition(":")[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def collect(chunks: Iterable[bytes], max_bytes: int) -> io.BytesIO:
    """Join chunks, which may have no end.

    Raises:
        ImageError: There are more than `max_bytes` bytes.
    """
    buffer = io.BytesIO()
    for chunk in chunks:
        buffer.write(chunk)
        check_bytes(buffer.tell(), max_bytes)
    buffer.seek(0)
    return buffer


def check_bytes(count: int, max_bytes: int) -> None:
    """Raise an `ImageError` if an image's encoded size is above the limit."""
    if count > max_bytes:
        raise ImageError(f"{count} bytes or more are above max_bytes={max_bytes}")


def download(url: str, max_bytes: int, timeout: float) -> io.BytesIO:
    """Fetch a URL. Redirects are followed to http and https only.

    Args:
        url: Starts with http:// or https://.
        max_bytes: Largest body.
        timeout: Seconds for all of it, from the name lookup to the last byte.

    Raises:
        ImageError: The download fails, or exceeds a limit. The message does not name the URL.
    """
    from mdan_zoo._util.http import Fetch  # urllib takes a while to import, and is rarely needed

    def check_size(count: int) -> None:
        check_bytes(count, max_bytes)

    return io.BytesIO(Fetch(timeout, _check_redirect, check_size, ImageError).run(url))


def _check_redirect(url: str) -> None:
    if not is_url(url):
        raise ImageError(f"it redirects to {public_url(url)}, not to http or https")
