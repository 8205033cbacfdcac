"""How often the cloud is told of one device: at once while it says little, twice a second when it floods."""

from __future__ import annotations

# A person who turns some knobs is served at once; the API writes one status a second in the end.
BURST = 4
INTERVAL_S = 0.5


class Pace:
    """A bucket of `BURST` reports for each device, filled with one each `INTERVAL_S`."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}  # reports left, and when that was so

    def allow(self, device_id: str, now_s: float) -> bool:
        """Take a report from the device's bucket, or return False."""
        left = self._left(device_id, now_s)
        if left < 1.0:
            return False
        self._buckets[device_id] = left - 1.0, now_s
        return True

    def forget(self, device_id: str) -> None:
        """Drop what is known of a device that is gone."""
        self._buckets.pop(device_id, None)

    def _left(self, device_id: str, now_s: float) -> float:
        left, since_s = self._buckets.get(device_id, (float(BURST), now_s))
        return min(float(BURST), left + (now_s - since_s) / INTERVAL_S)
