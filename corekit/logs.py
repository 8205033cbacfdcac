"""Logs: one line per event, for people by default, JSON by setting; `extra=` fields are printed in both."""

from __future__ import annotations

import json
import logging
import os
import sys
import time

# What every LogRecord carries anyway; whatever else is on a record came in through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class HumanFormatter(logging.Formatter):
    """`2026-11-23T08:00:00.123Z INFO  edgehub: message key=value` in UTC, an exception on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return f"{_utc(record.created)} {record.levelname:<7} {self.text(record)}"

    def text(self, record: logging.LogRecord) -> str:
        """Return what is said without when, and how bad it is."""
        line = f"{record.name}: {record.getMessage()}"
        fields = " ".join(f"{key}={value}" for key, value in _extra(record).items())
        if fields:
            line = f"{line}  {fields}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then the `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class JournalFormatter(logging.Formatter):
    """Lines for systemd's journal, which keeps the time itself and reads the level from `<4>` at their start.

    Source:  sd-daemon(3).
    """

    def __init__(self, *, json_lines: bool) -> None:
        """Shapes: json_lines: JSON objects, as `JsonFormatter` makes them, behind the level."""
        super().__init__()
        self._text = JsonFormatter().format if json_lines else HumanFormatter().text

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines, each with its level: the journal takes each for an entry of its own."""
        level = f"<{_priority(record.levelno)}>"
        return "\n".join(level + line for line in self._text(record).splitlines())


def configure_logging(*, json_lines: bool, level: str) -> None:
    """Send the root logger to standard error in the chosen form; call it once, from `main()`."""
    handler = logging.StreamHandler(sys.stderr)
    journal = os.environ.get("JOURNAL_STREAM", "")
    if journal and _is_journal(journal, sys.stderr.fileno()):  # not every standard error is a file
        handler.setFormatter(JournalFormatter(json_lines=json_lines))
    else:
        handler.setFormatter(JsonFormatter() if json_lines else HumanFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def log_change(
    logger: logging.Logger, step: str, key: object, change_id: int, **fields: object
) -> None:
    """Log at DEBUG that a change of `key` passed `step`; grep for its `change=` follows it through both sides."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s %s", step, key, extra={"change": f"{change_id:x}", **fields})


class RepeatedFault:
    """Log a fault that repeats as WARNING once, then DEBUG, and INFO when it clears.

    A broker that is down for a night is one line at its start and one at its end.
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger, self._what, self._active = logger, what, False

    def failed(self, problem: object) -> None:
        """Say that it failed (again)."""
        level = logging.DEBUG if self._active else logging.WARNING
        self._logger.log(level, "%s: %s", self._what, problem)
        self._active = True

    def cleared(self) -> None:
        """Say that it works again, if it did not."""
        if self._active:
            self._logger.info("%s: works again", self._what)
        self._active = False


def _priority(level: int) -> int:
    """Return syslog's priority of a level of `logging`."""
    steps = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return next((priority for at_least, priority in steps if level >= at_least), 7)


def _is_journal(told: str, descriptor: int) -> bool:
    """Return whether `descriptor` is the stream to the journal that systemd named: it may have been redirected."""
    try:
        stream = os.fstat(descriptor)
    except OSError:
        return False
    return told == f"{stream.st_dev}:{stream.st_ino}"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _utc(created_s: float) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created_s))
    return f"{stamp}.{int(created_s * 1000) % 1000:03d}Z"
