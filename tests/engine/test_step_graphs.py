"""Steps as CUDA graphs: the same steps as eager ones, and eager ones where they cannot be captured.

A capture on the CPU runs the step again at each replay.
"""

from copy import deepcopy

import pytest
import torch
from accelerate import Accelerator

from harness.commands.selfcheck import check_graphs_draw_dropout, check_graphs_match_plain_loop
from harness.engine import models, step_graphs
from harness.engine.adaptations import dropout
from harness.engine.optimizers import create_optimizer
from harness.engine.step_graphs import capture_obstacle, should_capture
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.facts.recipes import Recipe, plan_steps
from harness.requests.options import parse_options
from harness.run import run

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ROWS, BATCH = 69, 8


def recording_capture(captured):
    """Capture that counts, and replays by running the step again."""

    def capture(run):
        captured.append(run)
        return run

    return lambda: capture


def trained(has_graphs, after=0, state=None, **changes):
    recipe = Recipe(global_batch_size=BATCH, epochs=2, learning_rate=1e-3, max_length=24, **changes)
    plan, model = plan_steps(ROWS, recipe, 1), tiny_model()
    optimizer = create_optimizer(model, recipe, model.device)
    training = Training(Accelerator(cpu=True), model, optimizer, recipe, plan, generated(ROWS), has_graphs=has_graphs)
    if state is not None:
        training.set_state(state)
    return training, training_steps(training, seed=1, after=after)


@pytest.mark.parametrize(
    "mode, steps, device, expected",
    [
        ("off", 10**6, GPU, False),
        ("on", 1, GPU, True),
        ("on", 1, CPU, True),
        ("auto", 10**4, GPU, True),
        ("auto", 10**4, CPU, False),
        ("auto", 20, GPU, False),
    ],
)
def test_auto_captures_all_but_short_runs_on_a_gpu(mode, steps, device, expected):
    assert should_capture(mode, steps, device) == expected


@pytest.mark.parametrize("decay", [None, 0.8])
def test_replayed_steps_equal_eager_ones_and_each_width_is_captured_once(monkeypatch, decay):
    monkeypatch.setattr(step_graphs, "gpu_capture", recording_capture(captured := []))
    eager = [step.loss for step in trained(has_graphs=False, layer_decay=decay)[1]]
    training, steps = trained(has_graphs=True, layer_decay=decay)
    steps = list(steps)
    widths = {step.computed_tokens // step.rows for step in steps if step.rows == BATCH and step.number > 1}
    assert torch.allclose(torch.tensor([step.loss for step in steps]), torch.tensor(eager), rtol=1e-5)
    assert len(captured) == len(widths) > 1
    assert widths <= {8, 16, 24}
    assert {type(group["lr"]) for group in training.optimizer.param_groups} == {float}


def test_a_run_with_graphs_resumes_bit_for_bit(monkeypatch):
    monkeypatch.setattr(step_graphs, "gpu_capture", recording_capture([]))
    training, steps = trained(has_graphs=True)
    states = {step.number: deepcopy(training.state()) for step in steps}
    for number in (1, 7, 9, 12):
        resumed, rest = trained(has_graphs=True, after=number, state=states[number])
        list(rest)
        assert resumed.weights_sha256() == training.weights_sha256()


def test_steps_that_cannot_be_captured_are_eager(monkeypatch, capsys):
    def failing(run):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(step_graphs, "gpu_capture", lambda: failing)
    losses = [step.loss for step in trained(has_graphs=True)[1]]
    assert capsys.readouterr().out.count("not permitted when stream is capturing") == 1
    eager = [step.loss for step in trained(has_graphs=False)[1]]
    assert torch.allclose(torch.tensor(losses), torch.tensor(eager), rtol=1e-5)


@pytest.mark.parametrize("can_capture", [True, False])
def test_record_says_whether_steps_were_captured(monkeypatch, tmp_path, can_capture):
    def failing(run):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(step_graphs, "capture_obstacle", lambda *_: "")
    monkeypatch.setattr(step_graphs, "gpu_capture", recording_capture([]) if can_capture else lambda: failing)
    flags = ["--task", "rte", "--test-mode", "--epochs", "1", "--cuda-graphs", "on", "--results", str(tmp_path)]
    assert run(parse_options(flags)).environment.has_step_graphs == can_capture


def test_graphs_need_one_gpu_one_batch_and_adamw(monkeypatch):
    adamw = Recipe(global_batch_size=BATCH, learning_rate=1e-3)
    plan = plan_steps(ROWS, adamw, 1)
    assert "GPU" in capture_obstacle(Accelerator(cpu=True), plan, adamw)
    monkeypatch.setattr(Accelerator, "device", GPU)
    accelerator = Accelerator(cpu=True)
    assert capture_obstacle(accelerator, plan, adamw) == ""
    assert "AdamW" in capture_obstacle(accelerator, plan, adamw.model_copy(update={"optimizer": "sgd"}))
    assert "2 batches" in capture_obstacle(accelerator, plan.with_device_batch_size(4), adamw)


def test_steps_of_a_model_that_leaves_out_layers_at_random_are_eager(monkeypatch, tmp_path, capsys):
    """The choice of layers is Python's, so that a graph would repeat it."""
    monkeypatch.setattr(step_graphs, "capture_obstacle", lambda *_: "")
    monkeypatch.setattr(step_graphs, "gpu_capture", recording_capture(captured := []))
    build_model = models.build_model

    def build(*args):
        built = build_model(*args)
        built.model.bert.encoder.layerdrop = 0.2
        return built

    monkeypatch.setattr(models, "build_model", build)
    flags = ["--task", "rte", "--test-mode", "--epochs", "1", "--cuda-graphs", "on", "--results", str(tmp_path)]
    assert not run(parse_options(flags)).environment.has_step_graphs
    assert captured == []
    assert "at random" in capsys.readouterr().out


def test_selfcheck_compares_graphs_with_a_plain_loop(monkeypatch):
    accelerator = Accelerator(cpu=True)
    assert check_graphs_match_plain_loop(accelerator).passed is None
    monkeypatch.setattr(step_graphs, "capture_obstacle", lambda *_: "")
    monkeypatch.setattr(step_graphs, "gpu_capture", recording_capture(captured := []))
    assert check_graphs_match_plain_loop(accelerator).passed
    assert captured


@pytest.mark.parametrize("draws", [True, False])
def test_selfcheck_finds_replays_that_repeat_their_dropout_masks(monkeypatch, draws):
    def capture(run):
        state = torch.get_rng_state()

        def replay():
            if not draws:
                torch.set_rng_state(state)
            return run()

        return replay

    accelerator = Accelerator(cpu=True)
    assert check_graphs_draw_dropout(accelerator).passed is None
    monkeypatch.setattr(step_graphs, "capture_obstacle", lambda *_: "")
    monkeypatch.setattr(step_graphs, "gpu_capture", lambda: capture)
    monkeypatch.setattr(dropout, "draw_in_bulk", lambda model: None)  # as on a GPU: masks come from torch's generator
    assert check_graphs_draw_dropout(accelerator).passed is draws
