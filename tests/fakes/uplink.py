"""The hub as its users see it, by hand: connected or not, and a cloud that may ask for everything again."""

from __future__ import annotations


class FakeUplink:
    def __init__(self):
        self.connected, self.offered, self._callbacks = False, [], []

    def offer(self, report):
        assert self.connected
        self.offered.append(report)

    def on_report_all(self, callback):
        self._callbacks.append(callback)

    def ask_for_everything(self):
        for callback in self._callbacks:
            callback()
