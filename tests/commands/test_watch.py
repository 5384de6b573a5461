"""`harness watch` with runs that only pretend: each checkpoint is fine-tuned once, as it appears."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_run import command_in

from harness.commands import sweep as sweep_command
from harness.commands.watch import _wait, main
from harness.errors import UserError
from harness.sweeps.executor import SubmissionRefused

SEEDS = ("--seeds", "1", "2")


class World:
    """A folder of checkpoints, a task, and the fates of its runs."""

    def __init__(self, folder: Path, task: Path, model: Path) -> None:
        self.folder, self.task, self.model = folder, task, model
        self.source = folder / "run"
        self.source.mkdir()

    def checkpoint(self, name: str) -> Path:
        """Writes a checkpoint at once, as a rename does."""
        shutil.copytree(self.model, self.folder / name)
        path = self.source / name
        (self.folder / name).rename(path)
        return path

    def watch(self, *args: str, seeds: str = "1") -> int:
        """Runs the command to its end and returns its exit code."""
        flags = ("--tasks", self.task, "--seeds", seeds, "--results", self.folder / "results")
        with pytest.raises(SystemExit) as end:
            main([str(self.source), *args, *map(str, flags)], command_in(self.folder))
        return int(end.value.code or 0)

    @property
    def starts(self) -> int:
        path = self.folder / "starts"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def report(self) -> dict[str, Any]:
        (path,) = (self.folder / "results/watched").glob("*/trajectory.json")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


@pytest.fixture
def world(tmp_path: Path, make_task: Callable[..., Path], tiny_model: Path) -> World:
    return World(tmp_path, make_task(), tiny_model)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterator[int]], None]:
    """`play(pauses)`: each pause of the watch runs the generator to its next value, the signal that ends the pause."""
    return lambda pauses: monkeypatch.setattr("harness.commands.watch._wait", lambda seconds: next(pauses))


def test_new_checkpoints_are_fine_tuned_and_finished_ones_are_kept(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("step100", "step20"):
        world.checkpoint(name)
    assert world.watch("--once") == 0
    assert world.starts == 2
    assert [one["name"] for one in world.report()["checkpoints"]] == ["step20", "step100"]
    world.checkpoint("step1k")
    assert world.watch("--once") == 0
    assert world.starts == 3
    content = world.report()
    assert [one["amount"] for one in content["checkpoints"]] == [20, 100, 1000]
    points = content["tasks"]["small"]["points"]
    assert [(one["checkpoint"], one["score"]) for one in points] == [
        (name, pytest.approx(0.503)) for name in ("step20", "step100", "step1k")
    ]
    (page,) = (world.folder / "results/watched").glob("*/trajectory.md")
    assert "step1k" in page.read_text(encoding="utf-8")
    assert page.with_suffix(".svg").read_text(encoding="utf-8").startswith("<?xml")
    assert "step1k" in capsys.readouterr().out


def test_a_watch_waits_for_checkpoints_until_a_signal(
    world: World, capsys: pytest.CaptureFixture[str], play: Callable[[Iterator[int]], None]
) -> None:
    def pauses() -> Iterator[int]:
        half = world.checkpoint("step1")
        (half / "config.json").rename(half / "later.json")
        yield 0
        yield 0
        (half / "later.json").rename(half / "config.json")
        yield 0
        world.checkpoint("step2")
        yield 0
        yield signal.SIGTERM

    play(pauses())
    assert world.watch() == 128 + signal.SIGTERM
    assert world.starts == 2
    assert len(world.report()["tasks"]["small"]["points"]) == 2
    shown = capsys.readouterr().out
    assert shown.count("no checkpoint yet; looking every 10m") == 1
    assert shown.count("step1: incomplete: config.json is missing") == 1


def test_checkpoint_whose_files_change_is_fine_tuned_again(world: World, play: Callable[[Iterator[int]], None]) -> None:
    """A trainer may write its state after the weights, or another checkpoint into the same folder."""

    def pauses() -> Iterator[int]:
        (world.checkpoint("step1") / "trainer_state.json").write_text("{}")
        yield 0
        yield 0
        (world.source / "step1" / "trainer_state.json").write_text('{"global_step": 1}')
        yield 0
        yield signal.SIGTERM

    play(pauses())
    world.checkpoint("step2")
    assert world.watch() == 128 + signal.SIGTERM
    assert world.starts == 3
    points = world.report()["tasks"]["small"]["points"]
    assert [(one["checkpoint"], len(one["runs"])) for one in points] == [("step1", 1), ("step2", 1)]


def test_a_signal_ends_a_pause() -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    began = time.monotonic()
    assert _wait(60) == signal.SIGTERM
    assert time.monotonic() - began < 30
    assert _wait(0.01) == 0


def test_a_mistake_ends_a_single_look_after_its_report(world: World) -> None:
    world.checkpoint("step1")
    (world.folder / "small-2").write_text("mistake")
    with pytest.raises(UserError, match="not installed"):
        main(
            [
                str(world.source),
                "--once",
                "--tasks",
                str(world.task),
                *SEEDS,
                "--results",
                str(world.folder / "results"),
            ],
            command_in(world.folder),
        )
    assert [run["seed"] for run in world.report()["tasks"]["small"]["points"][0]["runs"]] == [1]


def test_a_mistake_does_not_end_a_watch(
    world: World, capsys: pytest.CaptureFixture[str], play: Callable[[Iterator[int]], None]
) -> None:
    world.checkpoint("step1")
    (world.folder / "small-1").write_text("mistake")

    def pauses() -> Iterator[int]:
        (world.folder / "small-1").unlink()
        world.checkpoint("step2")
        yield 0
        yield signal.SIGINT

    play(pauses())
    assert world.watch() == 128 + signal.SIGINT
    assert "not installed" in capsys.readouterr().err
    assert [one["checkpoint"] for one in world.report()["tasks"]["small"]["points"]] == ["step2"]


def test_runs_that_a_cluster_refuses_are_tried_again_at_the_next_look(
    world: World, monkeypatch: pytest.MonkeyPatch, play: Callable[[Iterator[int]], None]
) -> None:
    run_jobs, refusals = sweep_command.run_jobs, ["an outage"]

    def refuse_once(*args: Any) -> int:
        if refusals:
            raise SubmissionRefused(refusals.pop())
        return run_jobs(*args)

    monkeypatch.setattr(sweep_command, "run_jobs", refuse_once)
    play(iter([0, signal.SIGTERM]))
    world.checkpoint("step1")
    assert world.watch() == 128 + signal.SIGTERM
    assert world.starts == 1


def test_source_that_cannot_be_read_for_a_while_does_not_end_a_watch(
    world: World, capsys: pytest.CaptureFixture[str], play: Callable[[Iterator[int]], None]
) -> None:
    world.checkpoint("step1")

    def pauses() -> Iterator[int]:
        world.source.rename(world.folder / "away")
        yield 0
        (world.folder / "away").rename(world.source)
        world.checkpoint("step2")
        yield 0
        yield signal.SIGINT

    play(pauses())
    assert world.watch() == 128 + signal.SIGINT
    assert "folder not found" in capsys.readouterr().err
    assert [one["checkpoint"] for one in world.report()["tasks"]["small"]["points"]] == ["step1", "step2"]


def test_incomplete_checkpoint_is_named_by_a_single_look(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.checkpoint("step1")
    (world.checkpoint("step2") / "model.safetensors").unlink()
    world.checkpoint("final")
    assert world.watch("--once") == 1
    shown = capsys.readouterr().out
    assert "step2: incomplete: weights are missing" in shown
    assert "final: left out" in shown


def test_dry_run_shows_the_runs_and_starts_none(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.checkpoint("step1")
    main([str(world.source), "--dry-run", "--tasks", str(world.task), "--results", str(world.folder / "results")])
    assert "3 runs" in capsys.readouterr().out, "three seeds by default"
    assert not (world.folder / "results").exists()


def test_rows_longer_than_the_checkpoints_can_read_are_an_error_before_anything_is_run(world: World) -> None:
    world.checkpoint("step1")
    flags = ["--tasks", world.task, "--max-length", "4096", "--results", world.folder / "results"]
    with pytest.raises(UserError, match=r"^--max-length 4096: .*step1 has 64 positions\. .*--max-length"):
        main([str(world.source), "--once", *map(str, flags)], command_in(world.folder))
    assert world.starts == 0


def test_output_that_cannot_be_written_is_named_before_anything_is_run(world: World) -> None:
    world.checkpoint("step1")
    (world.folder / "file").touch()
    flags = ["--tasks", world.task, *SEEDS, "--results", world.folder / "results", "--output", world.folder / "file"]
    with pytest.raises(UserError, match=r"--output .*file: cannot be written"):
        main([str(world.source), "--once", *map(str, flags)], command_in(world.folder))
    assert world.starts == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--models", "org/model"], "--models: unsupported"),
        (["--test-mode"], "--test-mode: unsupported"),
        (["--grid", "epochs=1,2"], "--grid: unsupported"),
        (["--every", "10"], "--every 10"),
        (["--every", "0s"], "--every 0s"),
        (["--train-rows", "5", "10"], "--train-rows"),
        (["--once"], "no checkpoints found"),
        (["--revisions", "step1"], "--revisions"),
        (["--learning-rat", "1"], "--learning-rat: unknown flag"),
    ],
)
def test_mistakes_are_named(world: World, args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([str(world.source), *args, "--tasks", str(world.task), "--results", str(world.folder / "results")])
    assert not (world.folder / "results").exists()
