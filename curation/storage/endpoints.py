"""Checks of object-store endpoints: which addresses a request may go to.

Recipes come from untrusted authors, and a cloud machine serves its credentials on link-local addresses. An endpoint is
therefore a plain URL without credentials whose host is not, in any spelling, a metadata address, and whose name does
not resolve to one. Private addresses are allowed: MinIO and similar stores use them.

Names are resolved when a recipe is read, when a client is created, and once a minute while it is used. Remaining risk:
the HTTP client resolves names itself, so a name whose address changes between two checks (DNS rebinding) reaches the
new address for up to a minute, and an http:// endpoint may redirect anywhere (an https:// one to https:// only). The
metadata services of AWS, GCP and Azure require a header or a token that such a request does not carry; IMDSv1 does not
require one. If you run recipes from strangers, disable IMDSv1 and block 169.254.0.0/16 by network policy.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from curation.core.errors import UserError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAMES = {
    *("metadata", "metadata.google.internal", "metadata.goog", "metadata.azure.internal", "metadata.azure.com"),
    *("instance-data", "instance-data.ec2.internal", "metadata.tencentyun.com", "metadata.oraclecloud.com"),
}
_NETWORKS = [
    ipaddress.ip_network(text)
    for text in (
        *("169.254.0.0/16", "fe80::/10"),  # link-local: AWS, GCP, Azure, Oracle and others, and ECS tasks
        *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),  # Alibaba; Azure's host; Oracle's older one
        *("fd00:ec2::/32", "fd20:ce::/32", "fd00:42::42/128"),  # AWS, GCP and Scaleway by IPv6
    )
]
# IPv6 networks whose addresses end in an IPv4 address: compatible, mapped, translated, and NAT64's well-known prefix.
_ENDING = [ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")]
# NAT64 within an organisation (RFC 8215): a translator's prefix in it may have any fitting length of RFC 6052.
_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_NAT64_PREFIXES = (48, 56, 64, 96)
_PLAIN = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?", re.ASCII | re.IGNORECASE)
_MINUTE = 60.0

_checked: dict[str, float] = {}  # endpoint -> when it was last resolved, on the monotonic clock
_lock = threading.Lock()


def check_endpoint(endpoint: str, *, resolve: bool = True) -> None:
    """Raise `UserError` for an endpoint that is not a plain URL or that leads to a metadata service.

    `resolve`: also check the addresses that the host name resolves to. A name that can't be resolved passes, because it
    is checked again before a connection.
    """
    host = _host(endpoint)
    literal = _literal(host)
    found = [literal] if literal else list(_resolved(host)) if resolve else []
    if host in _NAMES or host.endswith(".metadata.google.internal") or any(map(is_metadata, found)):
        fix = "write the store's own endpoint: https://host:port"
        raise UserError(f"{host} is the address of a cloud metadata service, not of a store", fix=fix)


def recheck(endpoint: str) -> None:
    """Repeat `check_endpoint` if the last check is more than a minute ago; skip endpoints that are not URLs."""
    if "://" not in endpoint:
        return
    now = time.monotonic()
    with _lock:
        if now - _checked.get(endpoint, float("-inf")) < _MINUTE:
            return
        _checked[endpoint] = now
    try:
        check_endpoint(endpoint)
    except UserError:
        _checked.pop(endpoint, None)  # so every later request is refused, too
        raise


def is_metadata(address: Address) -> bool:
    """Whether an address, or an IPv4 address embedded in it, belongs to a metadata service."""
    return any(one in network for one in _reached(address) for network in _NETWORKS if one.version == network.version)


def _reached(address: Address) -> Iterator[Address]:
    """The address and the IPv4 addresses to which it leads: mapped, 6to4, Teredo, NAT64, ISATAP."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if any(address in network for network in _ENDING) or (int(address) >> 32) & 0xFDFFFFFF == 0x5EFE:
        yield ipaddress.IPv4Address(address.packed[12:])
    if address in _NAT64:
        yield from (_embedded(address, prefix) for prefix in _NAT64_PREFIXES)
    if address.sixtofour:
        yield address.sixtofour
    yield from address.teredo or ()


def _embedded(address: ipaddress.IPv6Address, prefix: int) -> ipaddress.IPv4Address:
    """The IPv4 address after a prefix of `prefix` bits. Bits 64 to 71 are not part of it (RFC 6052, section 2.2)."""
    octets = address.packed if prefix == 96 else address.packed[:8] + address.packed[9:]
    return ipaddress.IPv4Address(octets[prefix // 8 :][:4])


def _host(endpoint: str) -> str:
    """The host in lower case, without brackets and trailing dots."""
    if "@" in endpoint.partition("://")[2].partition("/")[0]:
        fix = "remove them; set credentials in the environment or in a profile"
        raise UserError("the store's endpoint contains credentials", fix=fix)
    if not _PLAIN.fullmatch(endpoint):  # URL parsers disagree about the host of other URLs
        raise UserError("the store's endpoint is not a URL", fix="write https://host:port, in ASCII")
    host = (urlsplit(endpoint).hostname or "").lower().rstrip(".")
    if not host:
        raise UserError("the store's endpoint is not a URL", fix="write https://host:port")
    return host


def _literal(host: str) -> Address | None:
    """The address that a host spells, in any notation that C libraries and browsers accept; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)", host.rpartition(".")[2]):
        return None
    try:
        return ipaddress.IPv4Address(
            socket.inet_aton(host)
        )  # 0xa9fea9fe, 0251.0376.0251.0376, 169.16689662, 2852039166
    except OSError:
        raise UserError(f"{host} is neither an IP address nor a host name", fix="write https://host:port") from None


def _resolved(host: str) -> Iterator[Address]:
    try:
        for *_, where in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            yield ipaddress.ip_address(str(where[0]).partition("%")[0])
    except (OSError, UnicodeError):
        return
