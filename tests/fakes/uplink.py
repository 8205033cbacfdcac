"""The hub as its users see it, by hand: connected or not, and a cloud that may ask for everything again."""

from __future__ import annotations

from synccore.asking import AskError


class FakeUplink:
    """`answer` is a function from (kind, body) to bytes, or None: no link."""

    def __init__(self):
        self.answer, self.asked = None, []
        self.connected, self.offered, self._callbacks = False, [], []

    def offer(self, report):
        assert self.connected
        self.offered.append(report)

    async def ask(self, kind, body):
        self.asked.append((kind, body))
        if self.answer is None:
            raise AskError(kind, 0, "no link to cloudcore")
        return self.answer(kind, body)

    def on_report_all(self, callback):
        self._callbacks.append(callback)

    def ask_for_everything(self):
        for callback in self._callbacks:
            callback()
