"""The lines that are logged. Logging is set up in a process of its own: it is one a process."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

BEFORE = """
import logging
from app.logs import bind, get_logger, set_up_logs
set_up_logs({level!r}, {form!r}, worker=7)
log = get_logger("app.part")
"""


def logged(program: str, level: str = "info", form: str = "json") -> str:
    """What a program writes to standard error."""
    words = [sys.executable, "-c", BEFORE.format(level=level, form=form) + program]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def events(program: str, **settings: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(program, **settings).splitlines()]


def test_an_event_is_one_line_of_json() -> None:
    (event,) = events("log.info('upload done', file='a\\nb \u00fc', size=5, raw=b'x')")
    at = datetime.fromisoformat(event.pop("timestamp"))
    assert at.utcoffset() == timedelta(0)
    assert event == {
        "event": "upload done",
        "level": "info",
        "logger": "app.part",
        "worker": 7,
        "file": "a\nb \u00fc",
        "size": 5,
        "raw": "b'x'",
    }


def test_facts_are_bound_to_their_context() -> None:
    inside, outside = events("with bind(request='r'):\n  log.info('inside')\nlog.info('outside')")
    assert inside["request"] == "r"
    assert "request" not in outside


def test_libraries_log_in_the_same_shape() -> None:
    (event,) = events("logging.getLogger('some.library').warning('%s is odd', 'this')")
    assert (event["event"], event["level"], event["logger"], event["worker"]) == (
        "this is odd",
        "warning",
        "some.library",
        7,
    )


def test_noisy_libraries_are_heard_from_warnings_on() -> None:
    said = events(
        "for name in ('pymongo.command', 'slowapi', 'uvicorn.access', 'other'):\n"
        "  logging.getLogger(name).info('talk')\n  logging.getLogger(name).warning('news')"
    )
    talks = {event["logger"] for event in said if event["event"] == "talk"}
    assert (talks, len(said)) == ({"other"}, 5)


@pytest.mark.parametrize(("level", "heard"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_what_is_below_the_level_is_not_logged(level: str, heard: int) -> None:
    assert (
        len(events("for name in ('debug', 'info', 'warning', 'error'): getattr(log, name)(name)", level=level)) == heard
    )


FAILING = """
def fail(password):
    raise ValueError('no')
try:
    fail('hunter' + '2')
except ValueError:
    log.exception('broken')
"""


def test_a_traceback_is_in_its_line_and_tells_no_secrets() -> None:
    (event,) = events(FAILING)
    (problem,) = event["exception"]
    assert (problem["exc_type"], problem["exc_value"]) == ("ValueError", "no")
    assert [frame["name"] for frame in problem["frames"]] == ["<module>", "fail"]
    assert "hunter2" not in json.dumps(event)


def test_text_is_for_people_and_tells_no_secrets() -> None:
    said = logged(FAILING + "log.info('upload done', size=5)", form="text")
    assert "upload done" in said
    assert "ValueError: no" in said
    assert "hunter2" not in said


def test_off_a_terminal_auto_is_json() -> None:
    assert len(events("log.info('x')", form="auto")) == 1


def test_the_facts_of_the_process_and_the_keys_keep_their_order() -> None:
    inside, library = logged(
        "with bind(request='r'):\n  log.info('inside', size=5)\nlogging.getLogger('other').info('outside')"
    ).splitlines()
    keys = list(json.loads(inside))
    assert (keys[:2], set(keys[2:4])) == (["size", "event"], {"worker", "request"})
    assert keys[4:] == ["logger", "level", "timestamp"]
    assert list(json.loads(library)) == ["event", "worker", "logger", "level", "timestamp"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_whatever_is_logged_gets_a_line(form: str) -> None:
    said = logged("log.info('odd', name='a\\udcff', number=1 << 70, key={1: {2}}, at=object)", form=form)
    assert said.count("\n") == 1
    for word in ("odd", r"a\udcff", str(1 << 70), "{2}", "object"):
        assert word in said


def test_each_event_is_one_write() -> None:
    """Several processes share standard error, and their lines must not mix."""
    lines = logged(
        "import os\nwrites = []\nwrite = os.write\n"
        "os.write = lambda file, line: (writes.append(line), write(file, line))[1]\n"
        "log.info('a', long='x' * 100_000)\nlog.info('b')\nos.write = write\n"
        "log.info('seen', ends=[line.count(b'\\n') for line in writes])"
    ).splitlines()
    assert json.loads(lines[-1])["ends"] == [1, 1]


def test_standard_error_that_takes_nothing_fails_nobody() -> None:
    program = BEFORE.format(level="info", form="json") + "log.info('x')\nlogging.warning('y')\nprint('went on')"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.stdout == b"went on\n"
