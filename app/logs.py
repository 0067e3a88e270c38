"""Logs: one JSON line an event in production, colours and columns on a terminal.

Every event is a name and facts, never prose with values inside: `log.info("upload done", file=…)`.
What is bound to the current context (the request's id) is added to each event of that context.

Our own events do not pass through the standard library's logging, which costs several times what
rendering them does (see "Performance" in structlog's documentation). Those of the libraries do, and
come out in the same form. Either way a line is one write: several workers share standard error.

structlog imports rich, where it is, for tracebacks that are not used here: a tenth of the time that a server takes to
start. It finds none.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import orjson

_RICH = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402 - after rich was hidden

if _RICH is None:
    del sys.modules["rich"]
else:
    sys.modules["rich"] = _RICH

bind = structlog.contextvars.bound_contextvars
"""`with bind(request="…"):` adds facts to every event logged inside."""


# The local variables of a traceback's frames may be passwords, or what users stored.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


class _Lines:
    """Writes lines to standard error, for events that bear `name` as their logger."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._file = sys.stderr.fileno()

    def write(self, line: bytes) -> None:
        """Never raises: what is logged must not fail because the disk of the log is full."""
        left = line + b"\n"
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            pass

    debug = info = warning = error = critical = write


def get_logger(name: str) -> Any:
    return structlog.get_logger(name)


def set_up_logs(level: str, form: str, **facts: Any) -> None:
    """Send our events and those of the libraries to standard error. `form` is json, text or auto."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    render: list[Any] = (
        [_encoded(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))]
        if as_text
        else [_TRACEBACKS, _to_json]
    )
    structlog.configure(
        processors=[*shared, *render],
        logger_factory=_Lines,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render, _decoded],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    structlog.contextvars.bind_contextvars(**facts)
    for noisy in ("pymongo", "slowapi", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _to_json(_logger: Any, _method: str, event: structlog.typing.EventDict) -> bytes:
    try:
        return orjson.dumps(event, default=repr)
    except TypeError:
        # A name from a disk that is not UTF-8, a number of more than 64 bits: whatever it is, it is told.
        return json.dumps(event, default=repr).encode()


def _encoded(render: Callable[..., str]) -> Callable[..., bytes]:
    def encoded(logger: Any, method: str, event: structlog.typing.EventDict) -> bytes:
        return render(logger, method, event).encode(errors="backslashreplace")

    return encoded


def _decoded(_logger: Any, _method: str, line: Any) -> str:
    return bytes(line).decode()
