"""IP addresses as texts that somebody sent."""

from __future__ import annotations

import ipaddress


def family_of(text: str) -> str:
    """Return `IPv4` or `IPv6`; "" if the text is no address."""
    try:
        return f"IPv{ipaddress.ip_address(text).version}"
    except ValueError:
        return ""
