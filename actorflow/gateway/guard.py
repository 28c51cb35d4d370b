"""Who may come in: tokens, and pages of other sites that may not."""

from __future__ import annotations

import functools
import hmac
import ipaddress
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from actorflow.gateway.problems import problem

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/"})
PAGE = "/page/"
"""What is served without a token: two words about the host's health, and the files of the page, which ask for it."""
DEPLOYING = ("/apps", "/modules")
"""Where the token for deploying opens the door, too."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Refuses requests without the token, and those that the page of another site has a browser send.

    A browser sends `Origin` with every WebSocket and with what changes something. It must name this host; and without a
    token the host must be named as this machine, since any site can have a name of its own lead to 127.0.0.1.
    """

    def __init__(self, *, token: str | None, local: bool, deploy_token: str | None = None) -> None:
        self._token = token.encode() if token is not None else None
        self._deploy_token = deploy_token.encode() if deploy_token is not None else None
        self._local = local

    def refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request that may not come in; None when it may."""
        origin = request.headers.get("Origin")
        guarded = request.method not in SAFE_METHODS or "Upgrade" in request.headers
        if origin is not None and guarded and urlsplit(origin).netloc != request.headers.get("Host", ""):
            return problem(403, "requests that the page of another site sends are refused here", "ForeignOriginError")
        if self._token is None:
            if self._local and not names_this_machine(request.headers.get("Host", "")):
                return problem(403, "this host answers as localhost only: any name may lead here", "ForeignHostError")
            return None
        if request.path in OPEN_PATHS or request.path.startswith(PAGE):
            return None
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        known = [self._token]
        if self._deploy_token is not None and request.path.startswith(DEPLOYING):  # there is one header for one token
            known.append(self._deploy_token)
        if any(hmac.compare_digest(given.encode("utf-8", "surrogateescape"), each) for each in known):
            return None
        return problem(401, "a valid token is needed: Authorization: Bearer …", "UnauthorizedError")


def check_exposure(address: str, *, token: str | None, client_ca: Path | None) -> None:
    """Refuse to let anybody in. Raises: ValueError."""
    if token is not None and not token:
        raise ValueError("the token is empty: everybody would have it")
    if token is None and client_ca is None and not is_loopback(address):
        raise ValueError(
            f"refusing to listen on {address} without a token or client certificates: anybody could send requests; "
            "give --token-file (or ACTORFLOW_TOKEN), or --tls-client-ca, or listen on 127.0.0.1"
        )


def is_loopback(address: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=256)
def names_this_machine(host: str) -> bool:
    """Return whether a Host header names this machine, as opposed to some name that leads here."""
    name = urlsplit(f"//{host}").hostname or "localhost"
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def tls_context(certificate: Path, key: Path | None, client_ca: Path | None) -> ssl.SSLContext:
    """Return what a door with TLS needs. Raises: ValueError when the files are not what they should be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, OSError) as error:
        raise ValueError(
            f"cannot use the certificate {certificate} (key {key}, clients' {client_ca}): {error}"
        ) from None
    return context
