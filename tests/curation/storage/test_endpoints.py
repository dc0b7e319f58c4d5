"""Which endpoints are refused: addresses of machine metadata, however they are written."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from services import one_line

from curation.core.errors import UserError
from curation.storage import endpoints
from curation.storage.store import StoreOptions, open_store


@pytest.mark.parametrize(
    "endpoint",
    [
        *("http://169.254.169.254", "http://metadata.google.internal/x", "http://[fe80::1]"),
        *("https://k:secret@host", "host:1", "file:///x", ""),
        # 169.254.169.254 as C libraries and browsers read it
        *(
            "http://2852039166",
            "http://0xA9FEA9FE",
            "http://0251.0376.0251.0376",
            "http://169.16689662",
            "http://0xA9.254.43518",
        ),
        *("http://169.254.169.254.", "http://0xa9fea9fe.", "http://00000251.0376.000251.0376"),
        *("http://169.254.170.2", "http://100.100.100.200", "http://168.63.129.16", "HTTP://169.254.169.254:80/latest"),
        # and within addresses of IPv6
        *(
            "http://[::ffff:169.254.169.254]",
            "http://[::ffff:a9fe:a9fe]",
            "http://[::a9fe:a9fe]",
            "http://[64:ff9b::a9fe:a9fe]",
        ),
        # NAT64 with prefixes of 48, 56, 64 and 96 bits (RFC 6052, section 2.2); octet 8 may be anything
        *(
            "http://[64:ff9b:1:a9fe:a9:fe00::]",
            "http://[64:ff9b:1:12a9:fe:a9fe::]",
            "http://[64:ff9b:1:a9fe:ffa9:fe00::1]",
        ),
        *("http://[64:ff9b:1:1234:a9:fea9:fe00::]", "http://[64:ff9b:1:1:2:3:a9fe:a9fe]"),
        *("http://[2001:0:a9fe:a9fe::1]", "http://[2001:0:1234::5601:5601]"),  # Teredo: its server, its client
        *("http://[2002:a9fe:a9fe::1]", "http://[64:ff9b:1::169.254.169.254]", "http://[::ffff:0:169.254.169.254]"),
        *(
            "http://[fd00:ec2::254]",
            "http://[fd20:ce::254]",
            "http://[FE80::1]",
            "http://[fe80::1%25eth0]",
            "http://[2001:db8::5efe:a9fe:a9fe]",
        ),
        *(
            "http://METADATA.Google.Internal.",
            "http://metadata",
            "http://metadata.google.internal..",
            "http://instance-data/",
        ),
        # hosts that parsers of URLs read differently
        *(
            "http://169。254。169。254",
            "http://169%2e254%2e169%2e254",
            "http://①⑥⑨.254.169.254",
            "http://store\t.example",
        ),
        *(
            "http://a\\@169.254.169.254",
            "http://[::1",
            "http://1.2.3.4.5",
            "http://0x",
            "http://.",
            "http://a b",
            "http://h#@x",
        ),
    ],
)
def test_endpoints_that_are_refused(endpoint: str) -> None:
    with pytest.raises(UserError) as caught:
        StoreOptions(endpoint=endpoint)
    one_line(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        *(
            "http://127.0.0.1:9000",
            "http://10.1.2.3",
            "https://192.168.0.9:443/base",
            "http://[::1]:9000",
            "http://minio",
        ),
        *(
            "http://[fd12:3456::1]",
            "https://s3.eu-central-1.amazonaws.com",
            "http://no.invalid",
            "http://store_1.local.",
        ),
    ],
)
def test_private_addresses_are_allowed(endpoint: str) -> None:
    StoreOptions(endpoint=endpoint)


def resolver(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Every name resolves to these addresses; without any, to none."""

    def found(host: str, *rest: Any, **more: Any) -> list[Any]:
        if not answers:
            raise socket.gaierror(socket.EAI_AGAIN, "no network")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answers]

    monkeypatch.setattr(endpoints.socket, "getaddrinfo", found)


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1%eth0", "fd00:ec2::254"])
def test_what_a_name_resolves_to_is_checked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolver(monkeypatch, "10.0.0.1", address)
    with pytest.raises(UserError, match="cloud metadata service") as caught:
        StoreOptions(endpoint="http://innocent.example")
    one_line(caught.value)


@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_a_name_is_checked_again_when_it_is_connected_to(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """A recipe is read without network; and the name's address changes later (DNS rebinding)."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    resolver(monkeypatch)
    options = StoreOptions(endpoint="http://innocent.example", patience=0)
    resolver(monkeypatch, "169.254.169.254")
    with pytest.raises(UserError, match="cloud metadata service"):
        open_store(f"{scheme}://bucket/p", options).get("k")
    resolver(monkeypatch, "127.0.0.1")
    endpoints.recheck("http://innocent.example")
    resolver(monkeypatch, "169.254.169.254")
    endpoints.recheck("http://innocent.example")  # within the minute
    monkeypatch.setattr(endpoints, "_MINUTE", 0.0)
    for _ in range(2):
        with pytest.raises(UserError, match="cloud metadata service"):
            endpoints.recheck("http://innocent.example")


@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize(
    ("scheme", "name"),
    [("s3", "AWS_ENDPOINT_URL"), ("s3", "AWS_ENDPOINT_URL_S3"), ("s3", ""), ("az", "AZURE_STORAGE_ENDPOINT"),
     ("gs", "GOOGLE_BASE_URL")],
)  # fmt: skip
def test_endpoints_of_the_environment_and_of_profiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str, name: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    if name:
        monkeypatch.setenv(name, "http://0xA9FEA9FE")
    else:
        (tmp_path / "config").write_text("[default]\nendpoint_url = http://0xA9FEA9FE\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(UserError, match="cloud metadata service"):
        open_store(f"{scheme}://bucket/p", StoreOptions(patience=0)).get("k")
