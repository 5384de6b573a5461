"""Every variant of the benchmarks trains the same rows, and BENCHMARKS.md has the numbers of the result files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from support.fake_run import run_here
from transformers import AutoTokenizer

from benchmarks import report, reproduction, steps
from benchmarks.equality import compare_scores as compare_equality
from benchmarks.equality import write_model
from benchmarks.generated import Shape, split_with_lengths, write_bert
from benchmarks.leaderboard import generated_record
from benchmarks.measuring import Meter, fresh_state
from benchmarks.quality import Options as QualityOptions
from benchmarks.quality import compare_scores, settings_folder
from benchmarks.reproduction import Options as ReproductionOptions
from benchmarks.reproduction import compare_programs, make_row, reproduce_row
from benchmarks.rows import sample_rows, tokenise
from benchmarks.setting import Measurement, Setting
from benchmarks.sweep_overhead import COMMANDS
from benchmarks.throughput import Options, measure_throughput
from benchmarks.trainer_script import TEXTS
from benchmarks.variants import VARIANTS
from harness.commands.reproduce import main as reproduce
from harness.engine.batches import rows_of_steps
from harness.errors import UserError
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.records import RunRecord, read_records, record_path, write_record
from harness.facts.tasks import load_task
from harness.reports.standings import build_leaderboard
from harness.sweeps.launch import CONFIG, Start, launch_config
from harness.sweeps.tied_supervisors import Supervisors

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model_without_dropout(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(str(tiny_model), tmp_path_factory.mktemp("without_dropout") / "model")


def _setting(model: Path, name: str = "rte", rows: int = 24, global_batch_size: int = 8) -> Setting:
    tokenizer, task, rng = AutoTokenizer.from_pretrained(model), load_task(name), np.random.default_rng(rows)
    split = split_with_lengths(task, rng.integers(5, 40, rows), rng, word_count=40)
    return Setting(
        rows=tokenise(task, split, tokenizer, 48),
        all_rows=rows,
        model=str(model),
        revision=None,
        tokenizer=tokenizer,
        global_batch_size=global_batch_size,
        max_length=48,
        precision="fp32",
        device=torch.device("cpu"),
        seed=3,
        limit_batch_size=4,
    )


def _measure(variant: str, setting: Setting) -> Measurement:
    with fresh_state(threads=1, seed=setting.seed):
        return VARIANTS[variant](setting)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_the_same_rows_in_the_same_number_of_steps(variant: str, tiny_model: Path) -> None:
    setting = _setting(tiny_model)
    epoch = _measure(variant, setting)
    has_no_padding = variant.startswith("limit")
    assert (epoch.steps, epoch.rows) == (3, 24)
    assert epoch.tokens == pytest.approx(int(setting.rows.lengths.sum()), rel=0.03 if has_no_padding else 0)
    assert epoch.seconds > 0
    assert epoch.computed_tokens >= epoch.tokens
    assert (epoch.computed_tokens == epoch.tokens) == has_no_padding


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_plain_loop_has_the_loss_of_the_harness_for_the_same_rows(task: str, model_without_dropout: Path) -> None:
    setting = _setting(model_without_dropout, task, rows=8, global_batch_size=8)
    plain, ours = _measure("plain", setting), _measure("ours", setting)
    assert plain.losses == pytest.approx(ours.losses, rel=1e-5)
    assert len(plain.losses) == 1


def test_sampled_rows_have_the_lengths_and_the_padding_of_a_whole_epoch() -> None:
    lengths = np.random.default_rng(0).gamma(4.0, 12.0, size=5000).astype(np.int64) + 5
    plan = plan_steps(len(lengths), Recipe(global_batch_size=32, epochs=1), processes=1)
    whole_padding = _padding_share(lengths, rows_of_steps(lengths, plan, seed=0, epoch=0))
    samples = [sample_rows(lengths, steps=12, global_batch_size=32, seed=seed) for seed in range(20)]
    assert all(len(set(rows.tolist())) == 12 * 32 for rows in samples)
    assert np.mean([lengths[rows].mean() for rows in samples]) == pytest.approx(lengths.mean(), rel=0.02)
    steps = [rows[np.argsort(lengths[rows], kind="stable")].reshape(12, 32) for rows in samples]
    assert np.mean([_padding_share(lengths, list(each)) for each in steps]) == pytest.approx(whole_padding, rel=0.25)


def _padding_share(lengths: np.ndarray, steps: list[np.ndarray]) -> float:
    computed_tokens = sum(len(rows) * lengths[rows].max() for rows in steps)
    return float(1 - sum(lengths[rows].sum() for rows in steps) / computed_tokens)


def test_sample_of_more_steps_than_there_are_has_every_row_once() -> None:
    assert sorted(sample_rows(np.arange(3, 103), steps=50, global_batch_size=32, seed=1)) == list(range(100))


def test_state_of_a_variant_is_reset() -> None:
    before = dict(os.environ)
    with fresh_state(threads=1, seed=0):
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
        torch.set_float32_matmul_precision("medium")
    assert dict(os.environ) == before
    assert torch.get_float32_matmul_precision() == "highest"


def test_meter_counts_memory_that_was_freed_before_it_stopped() -> None:
    meter = Meter(torch.device("cpu"))
    meter.start()
    torch.ones(50_000_000).sum()
    meter.stop()
    assert meter.peak_bytes > 190e6


def test_ratio_over_tasks_is_the_geometric_mean_of_medians() -> None:
    slower, faster = [[2.0, 4.0, 8.0], [1.0, 1.0, 4.0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    assert report.time_ratio(slower[0], faster[0]) == report.Ratio(4.0, 2.0, 8.0)
    assert report.mean_time_ratio(slower, faster) == pytest.approx((2.0, math.sqrt(2.0), math.sqrt(32.0)))


def test_throughput_returns_what_the_report_shows(tmp_path: Path) -> None:
    model = write_bert(tmp_path / "model", Shape(layers=1, hidden=32, heads=2))
    options = Options(
        model=str(model),
        tasks=("wnli",),
        generated=True,
        variants=("trainer", "ours"),
        rounds=2,
        steps=2,
        precision="fp32",
        threads=1,
    )
    values = _through_json(measure_throughput(options))
    assert str(tmp_path) not in json.dumps(values)
    speeds, ratios = report.throughput_tables(values)
    assert [row[0] for row in speeds.rows] == ["wnli, (c) Trainer", "wnli, (d) the harness"]
    seconds = {name: [epoch["seconds"] for epoch in rounds] for name, rounds in _measured(values, "wnli").items()}
    assert [len(seconds[variant]) for variant in ("trainer", "ours")] == [2, 2]
    assert ratios.rows[0] == ("wnli", str(report.time_ratio(seconds["trainer"], seconds["ours"])))
    (tmp_path / "throughput.json").write_text(json.dumps(values))
    page = report.fill_page("before\n<!-- throughput -->\nold\n<!-- end -->\nafter\n", tmp_path)
    assert page.startswith("before\n<!-- throughput -->\n\n")
    assert "| wnli, (d) the harness |" in page
    assert "old" not in page
    assert report.fill_page(page, tmp_path) == page


def _through_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values))


def _measured(values: Mapping[str, Any], task: str) -> dict[str, Sequence[Mapping[str, float]]]:
    return values["tasks"][task]["measured"]


def test_sweeps_are_compared_by_the_seconds_of_each_run() -> None:
    measured = {name: [dict(seconds=30.0, processor_seconds=24.0)] * 2 for name in COMMANDS}
    measured["forked"][1:] = [dict(seconds=36.0, processor_seconds=24.0)]
    values = dict(settings=dict(tasks=["rte", "wnli"], runs=6, max_jobs=1), measured=measured)
    (table,) = report.sweep_tables(values)
    assert table.rows == [("launched", "5.0 (5.0 to 5.0)", "4.0"), ("forked", "5.5 (5.0 to 6.0)", "4.0")]


def test_only_one_kind_of_sweep_forks_its_runs() -> None:
    starts = {
        name: Start(Path(), "", Path(), ["--task", "rte"], command(Path(CONFIG), 1, 2, ["--task", "rte"]), config, {})
        for name, command in COMMANDS.items()
        for config in [launch_config(0)]
    }
    assert {name: Supervisors(0, 2).can_fork(start) for name, start in starts.items()} == {
        "launched": False,
        "forked": True,
    }
    assert launch_command_parser().parse_args(list(starts["launched"].command)[3:]).quiet


def test_page_with_an_unknown_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'speed'.*throughput, .*whole"):
        report.fill_page("<!-- speed -->\n<!-- end -->", tmp_path)


def test_scores_are_compared_seed_by_seed(tmp_path: Path, make_record: Callable[..., RunRecord]) -> None:
    scores = {"bf16, grouped by length": (0.70, 0.72, 0.71), "bf16, random order": (0.69, 0.71, 0.70)}
    scores["fp32, grouped by length"] = (0.70, 0.70, 0.73)
    for setting, by_seed in scores.items():
        for seed, score in enumerate(by_seed):
            record = make_record("rte", {"accuracy": score}, model="org/model", seed=seed)
            write_record(record, settings_folder(tmp_path, setting))
    options = QualityOptions(model="org/model", records=tmp_path, tasks=("rte",))
    means, differences = report.quality_tables(_through_json(compare_scores(options)))
    assert means.rows[0] == ("rte", "71.00 ± 1.00", "70.00 ± 1.00", "71.00 ± 1.73")
    half = 4.302653 * 2 / 3**0.5  # the differences 0, 2, -2 have the standard deviation 2
    assert differences.rows[0] == ("rte", "+1.00 (+1.00 to +1.00)", f"+0.00 ({-half:+.2f} to {half:+.2f})")
    assert means.rows[1][1:] == means.rows[0][1:], "the mean of one task"
    record_path(settings_folder(tmp_path, "fp32, grouped by length"), "rte", record.run_id).unlink()
    means, differences = report.quality_tables(_through_json(compare_scores(options)))
    assert means.rows[0] == ("rte", "71.00 ± 1.00", "70.00 ± 1.00", "–"), "no mean of two seeds next to means of three"
    assert differences.rows[0] == ("rte", "+1.00 (+1.00 to +1.00)", "–")
    with pytest.raises(UserError, match=r"rte, seed 7.*--run"):
        compare_scores(replace(options, seeds=(0, 7)))


def test_trainer_and_the_harness_take_the_same_steps_on_generated_rows(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = reproduction._call

    def call_here(options: ReproductionOptions, expected: set[int], *args: str) -> None:
        """Starts the first programs as the benchmark does, but later ones in this process, in half the time."""
        if not (options.records / "results" / "reproductions").exists():
            call(options, expected, *args)
            return
        with pytest.raises(SystemExit) as end:
            reproduce(args[args.index("reproduce") + 1 :], run_here)
        assert (end.value.code or 0) in expected

    monkeypatch.setattr(reproduction, "_call", call_here)
    task, rng, folder = load_task("sst2"), np.random.default_rng(0), tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    for name in ("train", "validation"):
        split = split_with_lengths(task, rng.integers(5, 20, task.rows[name]), rng, word_count=40)
        pd.DataFrame({"sentence": split.text, "label": split.label}).to_parquet(folder / f"{name}.parquet")
    options = ReproductionOptions(
        model=str(tiny_model),
        tasks=("sst2",),
        seeds=(3, 4),
        train_rows=40,
        data=tmp_path / "data",
        records=tmp_path / "runs",
    )
    values = _through_json(compare_programs(options))
    assert str(tmp_path) not in json.dumps(values)
    assert values["settings"]["model"] == tiny_model.name
    trainer = values["trainer"]["sst2"]
    assert [trainer[seed]["steps"] for seed in ("3", "4")] == [3, 3]
    (same,), (changed,) = (each["verdicts"] for each in values["reproductions"].values())
    assert same["by_seed"] == [pytest.approx(100 * run["eval_accuracy"], abs=0.005) for run in trainer.values()]
    assert same["reason"] is None, "the runs have the whole data"
    assert [(run["seed"], run["steps"]) for run in same["runs"]] == [(3, 3), (4, 3)]
    assert [(run["seed"], run["steps"]) for run in changed["runs"]] == [(3, 1), (4, 1)]
    recipes, verdicts, scores = report.reproduction_tables(values)
    assert recipes.rows[0][:4] == ("sst2", "40", "1", "16")
    assert [row[0].endswith("sst2 accuracy") for row in verdicts.rows] == [True, True]
    assert [row[-1] for row in verdicts.rows] == [same["verdict"], changed["verdict"]]
    assert [row[1] for row in scores.rows] == [f"{one['by_seed'][0]:.2f}" for one in [same]] + [
        f"{one['runs'][0]['score']:.2f}" for one in (same, changed)
    ]
    of_row = replace(options, model=ReproductionOptions.model, train_rows=None, tasks=())
    alone = _through_json(reproduce_row(replace(of_row, seeds=(0, 1)), tmp_path / "runs" / "trainer.yaml"))
    assert alone["settings"]["row"] == "trainer.yaml"
    (repeated,) = alone["verdicts"]
    assert (repeated["comparison"], repeated["runs"]) == (same["comparison"], same["runs"])
    (verdicts, scores) = report.row_tables(alone)
    assert verdicts.rows[0][1].endswith(" (2)")
    assert verdicts.rows[0][-1] == same["verdict"]
    assert scores.rows[0][1] == ", ".join(f"{run['score']:.2f}" for run in same["runs"])
    unnamed = {**repeated, "metric": "unstated", "comparison": None, "plus_minus": None, "published_runs": None}
    verdicts, scores = report.row_tables({**alone, "verdicts": [unnamed]})
    assert verdicts.rows[0][1:] == (f"{same['value']:.2f} (runs not stated)", "–", "–", "–", same["verdict"])
    assert scores.rows == []
    with pytest.raises(UserError, match="--model and --train-rows"):
        reproduce_row(options, tmp_path / "runs" / "trainer.yaml")
    with pytest.raises(UserError, match="--tasks qqp"):
        compare_programs(replace(options, tasks=("qqp",)))


@pytest.mark.parametrize("task", ["sst2", "stsb"])
def test_trainer_and_the_harness_end_with_the_same_scores_where_all_rows_are_in_each_step(
    task: str, model_without_dropout: Path, tmp_path: Path
) -> None:
    spec, rng, folder = load_task(task), np.random.default_rng(0), tmp_path / "data" / task
    folder.mkdir(parents=True)
    for name, count in spec.rows.items():
        split = split_with_lengths(spec, rng.integers(5, 20, 16 if name == "train" else count), rng, word_count=40)
        columns = dict(zip(TEXTS[task], filter(None, (split.text, split.pair)), strict=True)) | {"label": split.label}
        pd.DataFrame(columns).to_parquet(folder / f"{name}.parquet")
    recipe = dict(epochs=12, global_batch_size=16, max_length=32, learning_rate=3e-3, warmup=0.25, weight_decay=0.3)
    facts = compare_equality(task, model_without_dropout, folder.parent, recipe, seed=5, threads=1, folder=tmp_path)
    assert facts["scores"] == spec.rows["test"] * (1 if task == "stsb" else 2)
    assert facts["largest_difference"] < 1e-5
    assert facts["range"] > 1e-3, "the scores of the rows differ"
    values = dict(settings=dict(model="tiny", rows=16), tasks={task: facts})
    ((row,),) = (table.rows for table in report.equality_tables(_through_json(values)))
    assert row[:2] == (task, "12")


def test_row_of_trainer_states_its_mean_and_deviation_and_a_changed_batch_size() -> None:
    options = ReproductionOptions(tasks=("mrpc",), seeds=(0, 1), train_rows=100)
    runs = {"0": {"eval_f1": 0.80, "eval_accuracy": 0.70}, "1": {"eval_f1": 0.82, "eval_accuracy": 0.71}}
    row = make_row(options, {"mrpc": runs})
    f1, accuracy = row.tasks["mrpc"].scores
    assert (f1.metric, f1.value, f1.plus_minus, f1.by_seed) == ("f1", 81.0, 1.41, (80.0, 82.0))
    assert (accuracy.value, accuracy.plus_minus) == (70.5, 0.71)
    own, changed = row.recipe_of("mrpc"), row.recipe_of("mrpc", "per-device")
    assert own is not None
    assert own["train_rows"] == 100
    assert changed == {**own, "global_batch_size": 8 * own["global_batch_size"]}


def test_growth_is_shown_in_the_units_of_the_tables() -> None:
    step = dict(step_seconds=0.5, tokens_per_second=1234.5, peak_bytes=2**30)
    encoding = dict(rows=1000, encode_seconds=1, cached_seconds=0.1, batch_seconds=2)
    values = dict(
        settings=dict(shape="MiniLM", precision="bf16", global_batch_size=32),
        rows=[encoding | dict(padding_share=0.03, peak_bytes=2**20)],
        own_rows=[dict(rows=1000, first_seconds=12.34, cached_seconds=8, peak_bytes=2**30)],
        shapes=[dict(shape="tiny", length=64, **step)],
        lengths=[dict(shape="MiniLM", length=16, **step)],
        processes=[
            dict(processes=1, threads=1, rows_per_second=10.0, peak_bytes=2**30),
            dict(processes=2, threads=1, rows_per_second=18.0, peak_bytes=2**31),
        ],
    )
    rows, own_rows, shapes, lengths, processes = report.scaling_tables(values)
    assert rows.rows == [("1,000", "1.00", "0.10", "2.00", "3.0%", "1")]
    assert own_rows.rows == [("1,000", "12.3", "8.0", "1,024")]
    assert shapes.rows == [("tiny", "0.500", "1,234", "1,024")]
    assert lengths.rows == [("16", "0.500", "1,234", "1,024")]
    assert processes.rows[1] == ("2 x 1", "18", "1.80", "2,048")


def test_generated_records_make_a_leaderboard_that_ranks_better_models_first(tmp_path: Path) -> None:
    for task in ("wnli", "stsb"):
        for model, share in (("some/better", 0.9), ("some/worse", 0.6)):
            for seed in (0, 1):
                write_record(generated_record(load_task(task), model, share, seed), tmp_path)
    board = build_leaderboard(read_records(tmp_path).records, resamples=200)
    scores = {(entry.label, task): group.score.center for (entry, task), group in board.groups.items()}
    assert all(scores["some/better", task] > scores["some/worse", task] for task in ("wnli", "stsb"))
    assert [evidence.rows for evidence in board.evidence.values()] == [1500, 1500, 71, 71], "predictions of every row"


def test_cost_of_a_leaderboard_is_shown_in_the_units_of_the_table() -> None:
    cost = dict(read_seconds=0.44, statistics_seconds=18.6, files_seconds=1.5, peak_bytes=2**30)
    board = dict(models=50, seeds=5, records=2250, **cost)
    (table,) = report.leaderboard_tables(dict(boards=[board]))
    assert table.rows == [("50 models, 5 seeds: 2,250 records", "0.4", "18.6", "1.5", "1,024")]


def test_tables_of_a_gpu_show_steps_by_width_and_the_sum_over_glue() -> None:
    cost = {"16": dict(milliseconds=6.414, teraflops=41.2), "128": dict(milliseconds=13.4, teraflops=157.0)}
    glue = {
        "rte": dict(rows=2490, steps=234, training_seconds=90.0, scoring_seconds=6.0),
        "wnli": dict(rows=635, steps=60, training_seconds=60.0, scoring_seconds=12.0),
    }
    profile = dict(way="bf16, eager", width=32, calls=1230.2, busy_share=0.9)
    operators = [dict(name="gemm", share=0.5, calls=3.0)]
    stages = dict(steps={"bf16, eager": cost}, glue=glue, profile={**profile, "operators": operators})
    milliseconds, teraflops, glue_table, operator_table = report.gpu_tables(dict(stages=stages))
    assert milliseconds.rows == [("bf16, eager", "6.41", "13.40")]
    assert teraflops.rows == [("bf16, eager", "41", "157")]
    assert "2.8 minutes" in glue_table.title
    assert glue_table.rows[-1] == ("all", "3,125", "294", "2.50", "0.30")
    assert "90%" in operator_table.title
    assert operator_table.rows == [("`gemm`", "50.0%", "3.0")]


def test_estimate_of_glue_has_the_steps_of_every_task() -> None:
    estimate = steps.glue_estimate({"16": 6.0, "128": 6.0}, evaluated_tokens_per_second=1e6)
    assert estimate["rte"]["steps"] == 3 * 78
    assert estimate["rte"]["training_seconds"] == pytest.approx(3 * 78 * 0.006)
    assert estimate["qqp"]["scoring_seconds"] > estimate["mnli"]["scoring_seconds"] > 0


def test_committed_page_has_the_tables_of_the_committed_results() -> None:
    text = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert report.fill_page(text, report.RESULTS) == text, "run python benchmarks/report.py"
    assert all(f"<!-- {name} -->" in text for name in report.SECTIONS)
