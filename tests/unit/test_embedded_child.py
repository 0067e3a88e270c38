"""Children: ready, started again, ended; noticed by descriptor and never mistaken for another process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.embedded import child as child_module
from app.embedded.child import Child, Program
from app.embedded.process import Process, identify
from app.errors import ConfigError

ROOT = Path(__file__).parents[2]


class Events:
    """Stands in for the log."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def _note(self, event: str, **facts: Any) -> None:
        self.seen.append((event, facts))

    info = warning = error = _note

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.seen if name == event]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    events = Events()
    monkeypatch.setattr(child_module, "log", events)
    return events


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert set(Path("/proc/self/fd").iterdir()) <= before


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def shell(folder: Path, script: str, **more: Any) -> Program:
    """A program that is ready once its script has made the file `ready`."""
    return Program(
        name="script",
        command=("/bin/sh", "-c", textwrap.dedent(script)),
        ready=(folder / "ready").exists,
        cwd=folder,
        log=folder / "log",
        **more,
    )


@contextlib.asynccontextmanager
async def started(program: Program) -> AsyncIterator[Child]:
    child = Child(program)
    await child.start()
    try:
        yield child
    finally:
        await child.stop(0)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


STEADY_SCRIPT = "touch ready; exec sleep 1000"


def test_start_returns_when_the_child_is_ready_and_stop_ends_it(tmp_path: Path) -> None:
    async def main() -> None:
        child = Child(shell(tmp_path, "while ! test -e go; do sleep 0.01; done; touch ready; exec sleep 1000"))
        starting = asyncio.ensure_future(child.start())
        await until(lambda: child.pid is not None)
        assert not starting.done()
        (tmp_path / "go").touch()
        await starting
        pid = child.pid
        assert pid
        assert identify(pid)
        assert os.getsid(pid) == pid, "Ctrl-C in the terminal must reach only the parent"
        await child.stop()
        assert child.pid is None
        assert identify(pid) is None
        await child.stop()

    run(main())


def test_a_killed_child_is_started_again(tmp_path: Path, events: Events) -> None:
    async def main() -> None:
        spawned: list[int | None] = []
        child = Child(shell(tmp_path, STEADY_SCRIPT), on_spawn=lambda child: spawned.append(child.pid))
        await child.start()
        for deaths in (1, 2):
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda deaths=deaths: len(spawned) == deaths + 1)  # type: ignore[misc]
        assert child.pid == spawned[-1]
        assert len(set(spawned)) == 3
        await child.stop(0)
        assert all(identify(pid) is None for pid in spawned if pid)

    run(main())
    assert [facts["how"] for facts in events.of("child died")] == ["Killed", "Killed"]


def test_a_child_that_keeps_dying_is_started_less_and_less_often(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(child_module, "LONGEST_DELAY", 0.004)

    async def main() -> None:
        async with started(shell(tmp_path, "touch ready; test -e doomed && exit 3; exec sleep 1000")) as child:
            (tmp_path / "doomed").touch()
            assert child.pid
            os.kill(child.pid, signal.SIGTERM)
            await until(lambda: len(events.of("child died")) >= 5)

    run(main())
    deaths = events.of("child died")[:5]
    assert [facts["again_in"] for facts in deaths] == [0.001, 0.002, 0.004, 0.004, 0.004]
    assert [facts["how"] for facts in deaths][:2] == ["Terminated", "exit code 3"]


def test_after_a_steady_run_the_delay_begins_anew(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(child_module, "STEADY", 0.0)

    async def main() -> None:
        async with started(shell(tmp_path, STEADY_SCRIPT)) as child:
            for deaths in range(3):
                await until(lambda: child.pid is not None)
                os.kill(child.pid or 0, signal.SIGKILL)
                await until(lambda deaths=deaths: len(events.of("child died")) > deaths)  # type: ignore[misc]

    run(main())
    assert [facts["again_in"] for facts in events.of("child died")] == [0.001] * 3


def test_a_program_that_is_gone_for_a_while_is_tried_again(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "FIRST_DELAY", 0.001)
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ntouch ready; exec sleep 1000\n")
    program.chmod(0o700)

    async def main() -> None:
        async with started(replace(shell(tmp_path, ""), command=(str(program),))) as child:
            program.rename(tmp_path / "away")
            os.kill(child.pid or 0, signal.SIGKILL)
            await until(lambda: len(events.of("child not started")) >= 2)
            (tmp_path / "away").rename(program)
            await until(lambda: child.pid is not None)

    run(main())


def test_a_failed_first_start_tells_the_last_words_and_is_not_repeated(tmp_path: Path, events: Events) -> None:
    (tmp_path / "log").write_text("words of an earlier run\n")

    async def main() -> None:
        child = Child(shell(tmp_path, "echo run >> runs; for n in 1 2 3 4 5 6; do echo line $n >&2; done; exit 3"))
        with pytest.raises(ConfigError) as caught:
            await child.start()
        message = str(caught.value)
        assert message.startswith("script did not start: it ended with exit code 3.\nline 2\n")
        assert "line 6" in message
        assert "earlier run" not in message
        assert str(tmp_path / "log") in message
        assert child.pid is None
        await child.stop()

    run(main())
    assert (tmp_path / "runs").read_text() == "run\n"
    assert (tmp_path / "log").read_text().startswith("words of an earlier run\nline 1\n")


def test_what_can_not_be_run_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        child = Child(replace(shell(tmp_path, ""), command=(str(tmp_path / "nothing"),)))
        with pytest.raises(ConfigError, match=r"script can't be run: .*No such file"):
            await child.start()

    run(main())


@pytest.mark.parametrize("cancel", [False, True], ids=["too slow", "cancelled"])
def test_a_start_that_does_not_finish_leaves_nothing_running(tmp_path: Path, cancel: bool) -> None:
    async def main() -> None:
        pids: list[int | None] = []
        program = shell(tmp_path, "exec sleep 1000", start_patience=1000 if cancel else 0.05)
        child = Child(program, on_spawn=lambda child: pids.append(child.pid))
        starting = asyncio.ensure_future(child.start())
        await until(lambda: bool(pids))
        if cancel:
            starting.cancel()
        with pytest.raises(asyncio.CancelledError if cancel else ConfigError):
            await starting
        assert pids[0]
        assert identify(pids[0]) is None

    run(main())


def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path, events: Events) -> None:
    async def main() -> None:
        async with started(shell(tmp_path, "trap '' TERM; touch ready; while :; do sleep 0.05; done")) as child:
            pid = child.pid
            await child.stop(0.1)
            assert pid
            assert identify(pid) is None

    run(main())
    assert events.of("child killed") == [{"child": "script", "ended": True}]


def test_a_child_gets_the_time_it_was_given_to_end(tmp_path: Path, events: Events) -> None:
    script = "trap 'touch asked; while ! test -e go; do sleep 0.01; done; touch done; exit' TERM; touch ready"
    script += "; while :; do sleep 0.01; done"

    async def main() -> None:
        child = Child(shell(tmp_path, script, stop_patience=1000))
        await child.start()
        stopping = asyncio.ensure_future(child.stop())
        await until((tmp_path / "asked").exists)
        assert not stopping.done()
        (tmp_path / "go").touch()
        await stopping

    run(main())
    assert (tmp_path / "done").exists()
    assert not events.of("child killed")


def test_no_restart_after_stop_even_in_the_middle_of_a_delay(tmp_path: Path, events: Events) -> None:
    async def main() -> None:
        async with started(shell(tmp_path, "echo run >> runs; touch ready; exec sleep 1000")) as child:
            os.kill(child.pid or 0, signal.SIGKILL)
            await until(lambda: bool(events.of("child died")))
            await child.stop()
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("keep")]

    run(main())
    assert (tmp_path / "runs").read_text() == "run\n"


def test_descriptors_and_environment_are_handed_on(tmp_path: Path) -> None:
    async def main() -> None:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        heard = bytearray()

        def ready() -> bool:
            with contextlib.suppress(BlockingIOError):
                heard.extend(os.read(ours, 100))
            return heard == b"hello from child"

        program = replace(
            shell(tmp_path, f'printf "hello from $WHO" > /dev/fd/{theirs}; exec sleep 1000'),
            ready=ready,
            env={"WHO": "child"},
            pass_fds=(theirs,),
        )
        async with started(program):
            pass
        os.close(ours)
        os.close(theirs)

    run(main())


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LONGEST_LOG", 10)

    async def main() -> None:
        async with started(shell(tmp_path, f"echo something long; {STEADY_SCRIPT}")):
            assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
        (tmp_path / "ready").unlink()
        async with started(shell(tmp_path, f"echo new; {STEADY_SCRIPT}")):
            pass

    run(main())
    assert (tmp_path / "log").read_text() == "new\n"
    assert (tmp_path / "log.old").read_text() == "something long\n"


PARENT = """
import asyncio, pathlib, signal, sys
from app.embedded.child import Child, Program

async def main():
    folder = pathlib.Path(sys.argv[1])
    script = "trap 'touch asked; exit' TERM; touch ready; while :; do sleep 0.01; done"
    child = Child(Program("script", ("/bin/sh", "-c", script), (folder / "ready").exists,
                          if_we_die=signal.Signals(int(sys.argv[2])), cwd=folder))
    await child.start()
    (folder / "pid.new").write_text(str(child.pid))
    (folder / "pid.new").rename(folder / "pid")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_gets_its_signal_when_the_parent_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    async def main() -> None:
        command = (sys.executable, "-c", PARENT, str(tmp_path), str(int(number)))
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as parent:
            try:
                await until((tmp_path / "pid").exists)
            finally:
                parent.kill()
        pid = int((tmp_path / "pid").read_text())
        await until(lambda: identify(pid) is None)

    run(main())
    assert (tmp_path / "asked").exists() == (number == signal.SIGTERM)


def test_identity_and_handle_of_a_process_that_is_not_there(tmp_path: Path) -> None:
    with subprocess.Popen(("/bin/sh", "-c", "exec sleep 1000")) as sleeper:
        here = identify(sleeper.pid)
        assert here == identify(sleeper.pid) != identify(os.getpid())
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert identify(sleeper.pid) is None, "a zombie is not a running process"
    assert identify(sleeper.pid) is None

    async def main() -> None:
        with pytest.raises(ProcessLookupError):
            Process(sleeper.pid)

    run(main())


def test_names_with_parentheses_do_not_confuse_the_identity(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 ("
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen((str(odd), "1000")) as sleeper:
        try:
            asyncio.run(until(lambda: b"a) Z 1 (" in Path(f"/proc/{sleeper.pid}/stat").read_bytes()))
            found = identify(sleeper.pid)
            assert found is not None
            assert found.born.rpartition("/")[2].isdecimal()
            assert int(found.born.rpartition("/")[2]) > 1
        finally:
            sleeper.kill()


def test_waiting_can_be_bounded(tmp_path: Path) -> None:
    async def main(wait: Callable[[Process], Awaitable[bool]]) -> None:
        with subprocess.Popen(("/bin/sh", "-c", "exec sleep 1000")) as sleeper:
            process = Process(sleeper.pid)
            assert not await wait(process)
            process.close()
            process.close()
            process.send(signal.SIGKILL)
            assert identify(sleeper.pid), "a closed handle does nothing"
            sleeper.kill()

    run(main(lambda process: process.wait(0.01)))
