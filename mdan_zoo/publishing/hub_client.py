"""The huggingface_hub client for publishing: its settings, and its errors as `PublishingError`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mdan_zoo._util.http import ca_setting
from mdan_zoo.errors import MdanZooError, PublishingError
from mdan_zoo.weights.hub_api import ADVICE, OFFLINE_REASON, Hub
from mdan_zoo.weights.manifest import is_offline

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TIMEOUT = 60.0  # seconds without a byte


@contextmanager
def hub_client(hub: Hub, failure: str) -> Iterator[HfApi]:
    """Provide the hub's client; its errors become `PublishingError`s that begin with `failure`."""
    from huggingface_hub import HfApi

    from mdan_zoo.weights.transport import is_private

    if is_offline():
        raise PublishingError(f"{failure}: {OFFLINE_REASON}")
    if not is_private(hub.endpoint):
        raise PublishingError(
            f"{failure} at {hub}: it needs https, so that the token is not sent unencrypted; set "
            "HF_ENDPOINT to an address that begins with https://"
        )
    try:
        with _settings_of_client():
            yield HfApi(endpoint=hub.endpoint, token=hub.token or False)
    except MdanZooError:
        raise
    except Exception as error:  # its errors, those of connections and of answers share no class
        raise PublishingError(f"{failure} at {hub}: {_explain(error)}") from error


@contextmanager
def _settings_of_client() -> Iterator[None]:
    """Set timeout and certificate authorities of the process's client, and restore them."""
    from huggingface_hub import close_session, get_session

    setting, before = ca_setting(), os.environ.get("SSL_CERT_FILE")
    if setting and setting[1] != before:
        os.environ["SSL_CERT_FILE"] = setting[1]
        close_session()  # the next one reads the variable
    client = get_session()
    timeout = client.timeout
    client.timeout = TIMEOUT
    try:
        yield
    finally:
        client.timeout = timeout
        if setting and setting[1] != before:
            close_session()
            if before is None:
                del os.environ["SSL_CERT_FILE"]
            else:
                os.environ["SSL_CERT_FILE"] = before


def _explain(error: BaseException) -> str:
    from huggingface_hub.errors import HfHubHTTPError

    while not isinstance(error, HfHubHTTPError) and error.__cause__ is not None:
        error = error.__cause__  # the error of an upload is wrapped
    said = re.sub(r"//[^/\s]*@", "//", " ".join(str(error).split()))
    if isinstance(error, HfHubHTTPError):
        return ADVICE.get(error.response.status_code) or said
    return said or type(error).__name__
