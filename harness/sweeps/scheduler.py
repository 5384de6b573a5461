"""Runs worked off where there is place for them: started, watched and stopped; one that dies leaves a failed record."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from harness.errors import UserError
from harness.facts.outcome import task_facts
from harness.facts.records import RunRecord, write_record
from harness.requests.parents import model_folder
from harness.saved_models.bundles import is_bundle
from harness.sweeps.launch import IS_HELD, Launched, launch_config, launch_words, stamp, sweep_lock_of
from harness.sweeps.ordering import Job, longest_first, seconds_left, startable
from harness.sweeps.plan import PlannedRun
from harness.system.devices import Slot
from harness.system.locks import AlreadyLocked, hold_lock, is_locked, lock_of
from harness.system.redaction import command_line, without_secrets
from harness.system.signals import StopRequest

State = Literal["waiting", "running", "elsewhere", "done", "failed"]

LOOK_AGAIN_SECONDS = 2.0
"""Between looks at a run that another sweep has in hand."""

LAST_LINES = 30
"""Of a log, that a failed record keeps."""

Command = Callable[[Path, int, int, Sequence[str]], list[str]]
"""(accelerate's configuration, processes, threads, words of the run) -> the command that starts it."""


class Todo(NamedTuple):
    """A run that is to be done."""

    run: PlannedRun
    seconds: float | None
    """That it is expected to take."""
    weight: float
    """The same, or a guess that at least compares."""
    keeps_model: bool
    """Others start from its weights."""
    is_repeat: bool
    """There is a finished record, but its weights were not kept."""


@dataclass
class Place:
    """One slot, and the run in it."""

    slot: Slot
    todo: Todo | None = None
    launched: Launched | None = None
    since: float = 0.0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))


class Event(NamedTuple):
    """Something that has changed for a run, told once."""

    state: State
    todo: Todo
    record: RunRecord | None = None
    slot: Slot | None = None


class Worker:
    """The state of a sweep that is at work."""

    def __init__(self, todos: Sequence[Todo], slots: Sequence[Slot], command: Command = launch_words) -> None:
        self.todos = {todo.run.run_id: todo for todo in todos}
        self.states: dict[str, State] = dict.fromkeys(self.todos, "waiting")
        self.places = [Place(slot) for slot in slots]
        self.command = command
        self.began, self.looked = datetime.now(UTC), 0.0
        self.is_stopping = False
        self.paces: list[tuple[float, float]] = []
        """Seconds that a run has taken, and its weight."""

    def events(self, asked: StopRequest) -> Iterator[Event | None]:
        """What happens, as it happens, and None at each look; ends when nothing is left to do.

        When `asked` to stop, runs save a checkpoint first.

        Raises:
            KeyboardInterrupt: a second Ctrl-C; the runs are killed.
        """
        with TemporaryDirectory() as scratch:
            config = Path(scratch) / "launch.json"
            config.write_text(launch_config(len(self.places[0].slot.gpus)))
            try:
                while True:
                    yield from self._ended()
                    if asked.signal and not self.is_stopping:
                        self.is_stopping = True
                        for place in self.busy:
                            place.launched.stop()  # type: ignore[union-attr]
                    if not self.is_stopping:
                        yield from self._look_elsewhere()
                        yield from self._started(config)
                    if not self.busy and (self.is_stopping or not self._is_waited_for()):
                        return
                    yield None
                    time.sleep(0.1)
            except BaseException:
                for place in self.busy:
                    place.launched.kill()  # type: ignore[union-attr]
                raise

    @property
    def busy(self) -> list[Place]:
        """Places with a run."""
        return [place for place in self.places if place.launched is not None]

    def of(self, *states: State) -> list[Todo]:
        """The runs that are in one of these states."""
        return [self.todos[run_id] for run_id, state in self.states.items() if state in states]

    @property
    def seconds_left(self) -> float | None:
        """Until all is done, at the pace of those that are; None while nothing is known of some run."""
        waiting = self.of("waiting")
        if not self.paces and any(todo.seconds is None for todo in [*waiting, *self.of("running")]):
            return None
        pace = sum(taken for taken, _ in self.paces) / sum(weight for _, weight in self.paces) if self.paces else 1.0
        now, running = time.monotonic(), {}
        for place in self.busy:
            assert place.todo is not None
            running[place.todo.run.run_id] = place.todo.weight * pace - (now - place.since)
        jobs = [job_of(todo)._replace(seconds=todo.weight * pace) for todo in waiting]
        return seconds_left(jobs, running, len(self.places))

    def _is_waited_for(self) -> bool:
        """Something can still come: a run that may start now or later."""
        if self.of("elsewhere"):
            return True
        return bool(startable([job_of(todo) for todo in self.of("waiting")], self._done()))

    def _done(self) -> set[str]:
        """What no run has to wait for; what is not of this sweep is done already."""
        needed = {todo.run.after for todo in self.todos.values() if todo.run.after}
        return {name for name in needed | set(self.states) if self.states.get(name, "done") == "done"}

    def _started(self, config: Path) -> Iterator[Event]:
        jobs = longest_first([job_of(todo) for todo in self.of("waiting")])
        ready = startable(jobs, self._done())
        for place in [place for place in self.places if place.launched is None]:
            while ready:
                todo = self.todos[ready.pop(0).name]
                seen = stamp(todo.run.path)
                if (event := self._done_elsewhere(todo)) is not None:
                    yield event
                    continue
                place.todo, place.since, place.began = todo, time.monotonic(), datetime.now(UTC)
                place.launched = self._launch(config, place.slot, todo, seen)
                self.states[todo.run.run_id] = "running"
                yield Event("running", todo, slot=place.slot)
                break

    def _launch(self, config: Path, slot: Slot, todo: Todo, seen: str) -> Launched:
        run = todo.run
        words = [*run.words, *(["--save-model", str(model_of(run))] if todo.keeps_model else [])]
        words += ["--overwrite"] if todo.is_repeat else []
        run.path.parent.mkdir(parents=True, exist_ok=True)
        command = self.command(config, max(1, len(slot.gpus)), slot.threads, words)
        return Launched(run.path, seen, log_of(run), slot, command)

    def _ended(self) -> Iterator[Event]:
        for place in self.busy:
            assert place.launched is not None
            assert place.todo is not None
            code = place.launched.ended()
            if code is None:
                continue
            todo, launched, since, began = place.todo, place.launched, place.since, place.began
            place.todo, place.launched = None, None
            record = todo.run.record()
            if record is not None and is_complete(todo, record) and (not todo.is_repeat or record.finished > began):
                self.paces.append((time.monotonic() - since, todo.weight))
                yield self._tell("done", todo, record)
            elif self.is_stopping:
                self.states[todo.run.run_id] = "waiting"
            elif code == IS_HELD or is_locked(lock_of(todo.run.path)):
                yield self._tell("elsewhere", todo)
            else:
                yield self._tell("failed", todo, write_failure(todo.run, launched.printed(), began))

    def _look_elsewhere(self) -> Iterator[Event]:
        """At runs that others have in hand: they may have ended, or been given up."""
        if time.monotonic() - self.looked < LOOK_AGAIN_SECONDS:
            return
        self.looked = time.monotonic()
        for todo in self.of("elsewhere"):
            if (event := self._done_elsewhere(todo)) is not None:
                yield event
            elif not is_locked(sweep_lock_of(todo.run.path)) and not is_locked(lock_of(todo.run.path)):
                self.states[todo.run.run_id] = "waiting"

    def _done_elsewhere(self, todo: Todo) -> Event | None:
        if todo.is_repeat and not is_bundle(model_of(todo.run)):
            return None
        record = todo.run.record()
        if record is None:
            return None
        if is_complete(todo, record):
            return self._tell("done", todo, record)
        return self._tell("failed", todo, record) if record.finished > self.began else None

    def _tell(self, state: State, todo: Todo, record: RunRecord | None = None) -> Event:
        self.states[todo.run.run_id] = state
        return Event(state, todo, record)


def job_of(todo: Todo) -> Job:
    """As the schedule sees it."""
    return Job(todo.run.run_id, todo.weight, todo.run.after)


def model_of(run: PlannedRun) -> Path:
    """Where its model is kept when others start from it."""
    return model_folder(run.options.folder, run.task.name, run.run_id)


def log_of(run: PlannedRun) -> Path:
    """Where all that a run prints goes."""
    return run.options.folder / "logs" / run.task.name / f"{run.run_id}.log"


def is_complete(todo: Todo, record: RunRecord) -> bool:
    """There is nothing to gain from running it again; a diverged run has no weights to keep."""
    has_model = record.status == "diverged" or is_bundle(model_of(todo.run))
    return record.is_finished and (has_model or not todo.keeps_model)


def tidy(run: PlannedRun) -> None:
    """Removes what a finished run leaves when it is killed after its record: locks that nobody holds, checkpoints."""
    if is_locked(sweep_lock_of(run.path)) or is_locked(lock_of(run.path)):  # looking removes a lock that nobody holds
        return
    folder = run.options.folder / "checkpoints" / run.task.name / run.run_id
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        with suppress(OSError):  # others have theirs there
            parent.rmdir()


def write_failure(run: PlannedRun, printed: str, began: datetime) -> RunRecord:
    """The failed record of a run that has died, with the last lines of its log; also where it wrote none itself.

    Raises:
        UserError: the record cannot be written.
    """
    lines = last_lines(printed)
    record = run.record()
    if record is None or record.finished < began:
        record = RunRecord(
            run_id=run.run_id,
            status="failed",
            error=f"it died and left no record: {lines[-1] if lines else 'it printed nothing'}",
            spec=run.spec,
            recipe_changes=run.changes,
            task=task_facts(run.task),
            parent_group_key=run.parent_group_key,
            command=command_line(["harness/run.py", *run.words]),
            started=began,
            finished=datetime.now(UTC),
        )
    if record.is_finished:  # it was good before, and the repeat of it failed
        return record.model_copy(update={"status": "failed", "error": lines[-1] if lines else None})
    note = "the last lines of its log:\n" + "\n".join(lines)
    record = record.model_copy(update={"notes": [*record.notes, note]})
    try:
        with hold_lock(lock_of(run.path)):
            write_record(record, run.options.folder)
    except AlreadyLocked:
        pass  # somebody has begun it anew
    return record


def last_lines(printed: str) -> list[str]:
    """The end of what a run has printed, without the launcher's own traceback, folders of this machine and secrets."""
    told = re.sub(
        r"Traceback \(most recent call last\):\n(?:[ \t].*\n)*subprocess\.CalledProcessError: Command .*?"
        r"(returned non-zero exit status \d+|died with <[^>]*>)\.\s*$",
        r"(the launcher: \1)",
        printed,
    )
    places = {str(Path(__file__).resolve().parents[2]): "", str(Path.cwd()): "", str(Path.home()): "~"}
    for place, short in places.items():
        if place != "/":
            told = told.replace(f"{place}/", f"{short}/" if short else "")
    lines: Iterable[str] = (line.rsplit("\r", 1)[-1].rstrip() for line in told.replace("\r\n", "\n").split("\n"))
    return [without_secrets(line) for line in lines if line.strip()][-LAST_LINES:]


def checked(run: PlannedRun) -> RunRecord | None:
    """The record that is there of a run.

    Raises:
        UserError: the file is no record, and what to do about it.
    """
    try:
        return run.record()
    except UserError as error:
        raise UserError(f"{error}\nRemove the file, and the sweep runs it again.") from None
