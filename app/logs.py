"""Logs: one JSON line an event in production, colours and columns on a terminal.

Every event is a name and facts, never prose with values inside: `log.info("upload done", file=…)`.
What is bound to the current context (the request's id) is added to each event of that context.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

bind = structlog.contextvars.bound_contextvars
"""`with bind(request="…"):` adds facts to every event logged inside."""


# The local variables of a traceback's frames may be passwords, or what users stored.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def get_logger(name: str) -> Any:
    return structlog.stdlib.get_logger(name)


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
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if as_text
        else [_TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    structlog.contextvars.bind_contextvars(**facts)
    for noisy in ("pymongo", "slowapi", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
