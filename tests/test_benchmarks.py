"""The benchmarks compare like with like, and BENCHMARKS.md says what the files of results say."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from benchmarks import report
from benchmarks.generated import Shape, split_of, write_model
from benchmarks.measuring import Watch, on_its_own
from benchmarks.rows import drawn, tokenise
from benchmarks.throughput import Options, throughput
from benchmarks.variants import VARIANTS, Measured, Setting
from harness.batches import rows_of_updates
from harness.recipes import Recipe, plan_steps
from harness.tasks import load_task

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def still_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without dropout."""
    folder = tmp_path_factory.mktemp("still") / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _setting(model: Path, task: str = "rte", rows: int = 24, global_batch: int = 8) -> Setting:
    tokenizer = AutoTokenizer.from_pretrained(model)
    rng = np.random.default_rng(rows)
    some = tokenise(load_task(task), split_of(load_task(task), rng.integers(5, 40, rows), rng, words=40), tokenizer, 48)
    return Setting(
        rows=some,
        all_rows=rows,
        model=str(model),
        revision=None,
        tokenizer=tokenizer,
        global_batch=global_batch,
        max_length=48,
        precision="fp32",
        device=torch.device("cpu"),
        seed=3,
        limit_batch=4,
    )


def _measured(variant: str, setting: Setting) -> Measured:
    with on_its_own(threads=1, seed=setting.seed):
        return VARIANTS[variant](setting)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_the_same_rows_in_as_many_updates(variant: str, tiny_model: Path) -> None:
    setting = _setting(tiny_model)
    took, tokens = _measured(variant, setting), int(setting.rows.lengths.sum())
    assert (took.updates, took.rows) == (3, 24)
    assert took.tokens == pytest.approx(tokens, rel=0.03 if variant.startswith("limit") else 0)
    assert took.seconds > 0
    assert took.computed_tokens >= took.tokens
    assert (took.computed_tokens == took.tokens) == variant.startswith("limit"), "only the limit has no padding"


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_plain_loop_has_the_loss_of_the_harness_for_the_same_rows(task: str, still_model: Path) -> None:
    setting = _setting(still_model, task, rows=8, global_batch=8)
    plain, ours = _measured("plain", setting), _measured("ours", setting)
    assert plain.losses == pytest.approx(ours.losses, rel=1e-5)
    assert len(plain.losses) == 1


def test_rows_of_a_round_are_as_long_and_as_close_together_as_in_a_whole_epoch() -> None:
    lengths = np.random.default_rng(0).gamma(4.0, 12.0, size=5000).astype(np.int64) + 5
    plan = plan_steps(len(lengths), Recipe(global_batch=32, epochs=1), processes=1)
    whole = _padding(lengths, rows_of_updates(lengths, plan, seed=0, epoch=0))
    rounds = [drawn(lengths, updates=12, global_batch=32, seed=seed) for seed in range(20)]
    assert all(len(set(rows.tolist())) == 12 * 32 for rows in rounds)
    assert np.mean([lengths[rows].mean() for rows in rounds]) == pytest.approx(lengths.mean(), rel=0.02)
    sorted_rounds = [rows[np.argsort(lengths[rows], kind="stable")].reshape(12, 32) for rows in rounds]
    sampled = np.mean([_padding(lengths, list(windows)) for windows in sorted_rounds])
    assert sampled == pytest.approx(whole, rel=0.25)


def _padding(lengths: np.ndarray, windows: list[np.ndarray]) -> float:
    computed = sum(len(window) * lengths[window].max() for window in windows)
    return float(1 - sum(lengths[window].sum() for window in windows) / computed)


def test_more_updates_than_there_are_take_every_row_once() -> None:
    assert sorted(drawn(np.arange(3, 103), updates=50, global_batch=32, seed=1)) == list(range(100))


def test_a_variant_leaves_nothing_behind() -> None:
    before = dict(os.environ)
    with on_its_own(threads=1, seed=0):
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
        torch.set_float32_matmul_precision("medium")
    assert dict(os.environ) == before
    assert torch.get_float32_matmul_precision() == "highest"


def test_watch_sees_memory_that_was_given_back_meanwhile() -> None:
    watch = Watch(torch.device("cpu"))
    watch.start()
    torch.ones(50_000_000).sum()
    watch.stop()
    assert watch.peak_bytes > 190e6


def test_ratio_over_tasks_is_the_geometric_mean_of_medians() -> None:
    slower, faster = [[2.0, 4.0, 8.0], [1.0, 1.0, 4.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert report.ratio_of(slower[0], faster[0]) == report.Ratio(4.0, 2.0, 8.0)
    together = report.ratio_over_tasks(slower, faster)
    assert together == pytest.approx((2.0, math.sqrt(2.0), math.sqrt(32.0)))


def test_throughput_writes_what_the_report_shows(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", Shape(layers=1, hidden=32, heads=2))
    options = Options(
        model=str(model),
        tasks=("cola",),
        generated=True,
        variants=("trainer", "ours"),
        rounds=2,
        updates=2,
        precision="fp32",
        threads=1,
    )
    values = json.loads(json.dumps(throughput(options)))
    assert str(tmp_path) not in json.dumps(values)
    speeds, ratios = report.throughput_tables(values)
    assert [row[0] for row in speeds.rows] == ["cola, (c) Trainer", "cola, (d) the harness"]
    took = values["tasks"]["cola"]["measured"]
    assert [len(took[variant]) for variant in ("trainer", "ours")] == [2, 2]
    expected = report.ratio_of([t["seconds"] for t in took["trainer"]], [t["seconds"] for t in took["ours"]])
    assert ratios.rows[0] == ("cola", str(expected))
    (tmp_path / "throughput.json").write_text(json.dumps(values))
    written = report.page("before\n<!-- throughput -->\nold\n<!-- end -->\nafter\n", tmp_path)
    assert written.startswith("before\n<!-- throughput -->\n\n")
    assert "| cola, (d) the harness |" in written
    assert "old" not in written
    assert report.page(written, tmp_path) == written


def test_committed_page_is_what_the_committed_results_give() -> None:
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert report.page(text, ROOT / "benchmarks" / "results") == text, "run python benchmarks/report.py"
    assert all(f"<!-- {name} -->" in text for name in report.SECTIONS)
