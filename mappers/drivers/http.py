"""`http`: devices with an HTTP interface; points of one path share one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import aiohttp
import msgspec

from mappers.sdk import (
    DeviceUnreachableError,
    Driver,
    Point,
    PointFault,
    Value,
    WriteRefusedError,
)
from mappers.sdk.jsonpath import pick, steps_of
from mappers.sdk.transforms import Transform, apply, undo
from mappers.sdk.values import text_of_value

# A device that sends more says something else than a value.
MAX_BODY_BYTES = 1 << 20


class HttpConfig(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Shapes: url: of the device, http:// or https://; headers: with every request. Units: timeoutS: of a request."""

    url: str
    headers: dict[str, str] = {}
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse another scheme."""
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url {self.url!r} does not begin with http:// or https://")


class HttpPoint(Transform, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shapes: path: where it is read; value: within a JSON answer, `a.b[0]`. writePath, writeMethod, writeBody: how
    it is set; `{value}` in path and body is the value as text, `{json}` as JSON.
    """

    path: str = "/"
    value: str = ""
    write_path: str = ""
    write_method: Literal["PUT", "POST", "PATCH", "GET"] = "PUT"
    write_body: str = "{json}"

    def __post_init__(self) -> None:
        """Refuse a path into JSON that is none."""
        steps_of(self.value)


class HttpDriver(Driver[HttpConfig, HttpPoint]):
    """One device; connections are kept between requests."""

    Config, PointConfig = HttpConfig, HttpPoint

    async def open(self) -> None:
        """Make the session; the first request shows if anybody is there."""
        self._session = aiohttp.ClientSession(
            headers=self.config.headers,
            timeout=aiohttp.ClientTimeout(total=self.config.timeout_s),
        )

    async def read(self, points: Sequence[Point[HttpPoint]]) -> Mapping[str, Value | PointFault]:
        """Get each path once."""
        bodies: dict[str, bytes | PointFault] = {}
        for path in {point.config.path for point in points}:
            status, body = await self._ask("GET", path, None)
            bodies[path] = body if status < 300 else PointFault(f"{path}: HTTP {status}")
        values: dict[str, Value | PointFault] = {}
        for point in points:
            found = bodies[point.config.path]
            raw = (
                found
                if isinstance(found, PointFault)
                else pick(found, steps_of(point.config.value))
            )
            try:
                values[point.name] = (
                    raw if isinstance(raw, PointFault) else apply(point.config, raw)
                )
            except OverflowError:
                values[point.name] = PointFault("the number is too large")
        return values

    async def write(self, point: Point[HttpPoint], value: Value) -> None:
        """Send the value as the point's template says."""
        config = point.config
        try:
            told = undo(config, value)
        except ValueError as exc:
            raise WriteRefusedError(self.device, str(exc)) from exc

        def filled(template: str) -> str:
            text = template.replace("{value}", text_of_value(told))
            return text.replace("{json}", msgspec.json.encode(told).decode())

        path, body = filled(config.write_path or config.path), filled(config.write_body).encode()
        method = config.write_method
        status, answer = await self._ask(method, path, None if method == "GET" else body)
        if status >= 300:
            said = answer[:100].decode(errors="replace")
            raise WriteRefusedError(self.device, f"{method} {path}: HTTP {status} {said}".strip())

    async def close(self) -> None:
        """Close the connections."""
        session = getattr(self, "_session", None)
        if session is not None:
            await session.close()

    async def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        url = self.config.url.rstrip("/") + "/" + path.lstrip("/")
        try:
            # A redirect would send the device's credentials to whoever it names.
            async with self._session.request(
                method, url, data=body, allow_redirects=False
            ) as answer:
                return answer.status, await _body(answer)
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise DeviceUnreachableError(self.device, f"{url}: {exc!r}") from exc


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    """Return the body, cut off at the limit; one `read` would be the first piece that came."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            break
    return bytes(body[:MAX_BODY_BYTES])
