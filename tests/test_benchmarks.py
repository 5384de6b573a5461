"""The benchmarks compare like with like, and BENCHMARKS.md says what the files of results say."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from benchmarks import report
from benchmarks.generated import Shape, split_of, write_model
from benchmarks.leaderboard import _record
from benchmarks.measuring import Watch, on_its_own
from benchmarks.quality import Options as Quality
from benchmarks.quality import folder_of, quality
from benchmarks.rows import drawn, tokenise
from benchmarks.throughput import Options, throughput
from benchmarks.variants import VARIANTS, Measured, Setting
from harness.engine.batches import rows_of_steps
from harness.errors import UserError
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.records import read_records, write_record
from harness.facts.tasks import load_task
from harness.reports.standings import build

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


def _setting(model: Path, task: str = "rte", rows: int = 24, global_batch_size: int = 8) -> Setting:
    tokenizer = AutoTokenizer.from_pretrained(model)
    rng = np.random.default_rng(rows)
    some = tokenise(load_task(task), split_of(load_task(task), rng.integers(5, 40, rows), rng, words=40), tokenizer, 48)
    return Setting(
        rows=some,
        all_rows=rows,
        model=str(model),
        revision=None,
        tokenizer=tokenizer,
        global_batch_size=global_batch_size,
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
    assert (took.steps, took.rows) == (3, 24)
    assert took.tokens == pytest.approx(tokens, rel=0.03 if variant.startswith("limit") else 0)
    assert took.seconds > 0
    assert took.computed_tokens >= took.tokens
    assert (took.computed_tokens == took.tokens) == variant.startswith("limit"), "only the limit has no padding"


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_plain_loop_has_the_loss_of_the_harness_for_the_same_rows(task: str, still_model: Path) -> None:
    setting = _setting(still_model, task, rows=8, global_batch_size=8)
    plain, ours = _measured("plain", setting), _measured("ours", setting)
    assert plain.losses == pytest.approx(ours.losses, rel=1e-5)
    assert len(plain.losses) == 1


def test_rows_of_a_round_are_as_long_and_as_close_together_as_in_a_whole_epoch() -> None:
    lengths = np.random.default_rng(0).gamma(4.0, 12.0, size=5000).astype(np.int64) + 5
    plan = plan_steps(len(lengths), Recipe(global_batch_size=32, epochs=1), processes=1)
    whole = _padding(lengths, rows_of_steps(lengths, plan, seed=0, epoch=0))
    rounds = [drawn(lengths, steps=12, global_batch_size=32, seed=seed) for seed in range(20)]
    assert all(len(set(rows.tolist())) == 12 * 32 for rows in rounds)
    assert np.mean([lengths[rows].mean() for rows in rounds]) == pytest.approx(lengths.mean(), rel=0.02)
    sorted_rounds = [rows[np.argsort(lengths[rows], kind="stable")].reshape(12, 32) for rows in rounds]
    sampled = np.mean([_padding(lengths, list(windows)) for windows in sorted_rounds])
    assert sampled == pytest.approx(whole, rel=0.25)


def _padding(lengths: np.ndarray, windows: list[np.ndarray]) -> float:
    computed = sum(len(window) * lengths[window].max() for window in windows)
    return float(1 - sum(lengths[window].sum() for window in windows) / computed)


def test_more_updates_than_there_are_take_every_row_once() -> None:
    assert sorted(drawn(np.arange(3, 103), steps=50, global_batch_size=32, seed=1)) == list(range(100))


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
        steps=2,
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


def test_scores_are_compared_seed_by_seed(tmp_path: Path) -> None:
    scores = {"bf16, grouped by length": (0.70, 0.72, 0.71), "bf16, random order": (0.69, 0.71, 0.70)}
    scores["fp32, grouped by length"] = (0.70, 0.70, 0.73)
    committed = min((ROOT / "results" / "runs" / "rte").glob("*.json"))
    facts = json.loads(committed.read_text(encoding="utf-8"))
    for setting, by_seed in scores.items():
        for seed, score in enumerate(by_seed):
            facts["spec"]["seed"], facts["metrics"]["validation"]["accuracy"] = seed, score
            path = folder_of(tmp_path, setting) / "runs" / "rte" / f"{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(facts), encoding="utf-8")
    options = Quality(model=facts["spec"]["model"], records=tmp_path, tasks=("rte",))
    values = json.loads(json.dumps(quality(options)))
    means, apart = report.quality_tables(values)
    assert means.rows[0] == ("rte", "71.00 ± 1.00", "70.00 ± 1.00", "71.00 ± 1.73")
    half = 4.302653 * 2 / 3**0.5  # the differences 0, 2, -2 have the standard deviation 2
    assert apart.rows[0] == ("rte", "+1.00 (+1.00 to +1.00)", f"+0.00 ({-half:+.2f} to {half:+.2f})")
    assert means.rows[1][1:] == means.rows[0][1:], "the mean of one task"
    (folder_of(tmp_path, "fp32, grouped by length") / "runs" / "rte" / "2.json").unlink()
    means, apart = report.quality_tables(json.loads(json.dumps(quality(options))))
    assert means.rows[0] == ("rte", "71.00 ± 1.00", "70.00 ± 1.00", "–"), "no mean of two seeds among those of three"
    assert apart.rows[0] == ("rte", "+1.00 (+1.00 to +1.00)", "–")
    with pytest.raises(UserError, match=r"rte.*--run makes them"):
        quality(replace(options, seeds=(0, 7)))


def test_growth_is_shown_as_it_was_measured() -> None:
    step = dict(update_seconds=0.5, tokens_per_second=1234.5, peak_bytes=2**30)
    values = dict(
        settings=dict(shape="MiniLM", precision="bf16", global_batch_size=32),
        rows=[
            dict(
                rows=1000, encode_seconds=1, cached_seconds=0.1, windows_seconds=2, padding_share=0.03, peak_bytes=2**20
            )
        ],
        shapes=[dict(shape="tiny", length=64, **step)],
        lengths=[dict(shape="MiniLM", length=16, **step)],
        processes=[
            dict(processes=1, threads=1, rows_per_second=10.0, peak_bytes=2**30),
            dict(processes=2, threads=1, rows_per_second=18.0, peak_bytes=2**31),
        ],
    )
    rows, shapes, lengths, processes = report.scaling_tables(values)
    assert rows.rows == [("1,000", "1.00", "0.10", "2.00", "3.0%", "1")]
    assert shapes.rows == [("tiny", "0.500", "1,234", "1,024")]
    assert lengths.rows == [("16", "0.500", "1,234", "1,024")]
    assert processes.rows[1] == ("2 x 1", "18", "1.80", "2,048")


def test_generated_records_make_a_board(tmp_path: Path) -> None:
    """Better models first, and answers kept to every row of the reported splits."""
    for task in ("wnli", "stsb"):
        for model, share in (("some/better", 0.9), ("some/worse", 0.6)):
            for seed in (0, 1):
                write_record(_record(load_task(task), model, share, seed), tmp_path)
    board = build(read_records(tmp_path).records, resamples=200)
    scores = {(row.label, task): group.score.mean for (row, task), group in board.groups.items()}
    assert all(scores["some/better", task] > scores["some/worse", task] for task in ("wnli", "stsb"))
    assert [evidence.rows for evidence in board.evidence.values()] == [1500, 1500, 71, 71]


def test_cost_of_a_board_is_shown_as_it_was_measured() -> None:
    took = dict(read_seconds=0.44, statistics_seconds=18.6, files_seconds=1.5, peak_bytes=2**30)
    board = dict(models=50, seeds=5, records=2250, resamples=10_000, is_to_first_order=False, **took)
    (table,) = report.leaderboard_tables(dict(boards=[board]))
    assert table.rows == [("50 models, 5 seeds: 2,250 records", "10,000", "0.4", "18.6", "1.5", "1,024")]


def test_committed_page_is_what_the_committed_results_give() -> None:
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert report.page(text, ROOT / "benchmarks" / "results") == text, "run python benchmarks/report.py"
    assert all(f"<!-- {name} -->" in text for name in report.SECTIONS)
