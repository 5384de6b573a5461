"""README and documentation are true: commands parse, examples run, tables match the code, named files exist."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast, get_args

import pytest
import tyro
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from harness.__main__ import COMMANDS
from harness.commands.reproduce import split_arguments
from harness.commands.sweep import read_options
from harness.commands.watch import split_watch_arguments
from harness.facts.published import load_row, read_row
from harness.facts.recipes import OptimizerName, Recipe
from harness.facts.sources import Source
from harness.facts.suites import read_suite, registered_suites
from harness.facts.task_files import SUITE_FILE
from harness.facts.tasks import TaskSpec, read_task
from harness.metrics.metric import ProblemType
from harness.metrics.registry import supported_metrics, title_of
from harness.reports.comparison import find_entry
from harness.reports.standings import Leaderboard
from harness.requests.options import RunOptions, parse_options
from harness.stats.entries import Entry
from harness.stats.groups import MARKS
from harness.sweeps.plan import SweepRequest, expand
from harness.sweeps.published_sweep import sweep_of
from harness.system.devices import Devices, slots

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

NAMED = (
    *("harness run", "harness describe", "harness predict", "harness evaluate", "harness submit", "harness export"),
    "harness watch",
)
"""Commands that need a flag: without one, the text only mentions them."""

PLACEHOLDERS = {
    "$task": "rte",
    "<task>": "rte",
    "<name>": "rte",
    "<model>": "a/model",
    "my/reviews.yaml": "rte",
    "--tasks ./shops": "--tasks trglue",
    "babylm --models ./my-model --data evaluation_data/full_eval/glue_filtered": "rte --models a/model",
    " ROW": " roberta-base",
}
"""Placeholders for a value of the reader's own, and a value that parses."""


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(document: str, language: str = r"\w*") -> list[str]:
    """The fenced code blocks of one language, or of any."""
    return re.findall(rf"^```{language}\n(.*?)^```$", _text(document), flags=re.MULTILINE | re.DOTALL)


def _prose(document: str) -> str:
    """All but the fenced code blocks."""
    return re.sub(r"^```.*?^```$", "", _text(document), flags=re.MULTILINE | re.DOTALL)


def _section(document: str, title: str) -> str:
    return _text(document).split(f"\n## {title}\n")[1].split("\n## ")[0]


def _options_of(command: str) -> Any:
    """The dataclass of a command's options, found as the command reference finds it."""
    sys.path.insert(0, str(ROOT / "docs"))
    from hooks import options_of

    return options_of(command)


def _table(text: str) -> list[list[str]]:
    """The cells of the one table in a text, without its head."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


class Command(NamedTuple):
    """A command line of a document."""

    args: list[str]
    document: str


def _commands() -> Iterator[Command]:
    """Every line that calls make, the harness or a launcher, in code blocks and between backticks."""
    for document in DOCUMENTS:
        lines = [line for block in _blocks(document) for line in block.splitlines()]
        lines += re.findall(r"^ {4}(.+)$", _prose(document), flags=re.MULTILINE)
        lines += [" ".join(inline.split()) for inline in re.findall(r"`([^`]+)`", _prose(document))]
        for line in lines:
            command = line.strip().removeprefix("$ ")
            for placeholder, value in PLACEHOLDERS.items():
                command = command.replace(placeholder, value)
            is_called = re.match(r"(harness|make) [a-z]", command) and command not in NAMED
            if is_called or re.search(r"harness/run\.py --|-m harness ", command):
                yield Command(shlex.split(command, comments=True), document)


COMMAND_LINES = [pytest.param(command.args, id=" ".join(command.args)) for command in _commands()]


def _compared_names() -> list[list[str]]:
    """The two names of each `harness leaderboard --compare` on the published results."""
    lines = [command.args for command in _commands() if "--compare" in command.args and "--results" not in command.args]
    return [args[args.index("--compare") + 1 :][:2] for args in lines]


def _check_harness(args: list[str]) -> None:
    """Parses `run ...` or the arguments of another command, as the harness would."""
    name, *arguments = args
    assert name in COMMANDS
    if name == "sweep":
        _check_sweep(arguments)
        return
    if name == "reproduce":
        options, passed = split_arguments(arguments)
        assert not options.row or options.row.endswith(".yaml") or load_row(options.row)
        read_options([*passed, "--tasks", "rte"])
        return
    if name == "watch":
        _, passed = split_watch_arguments(arguments)
        _check_sweep(passed)
        return
    if name != "run":
        tyro.cli(_options_of(name), args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    elif "--help" not in arguments:
        parse_options(arguments)


def _check_sweep(arguments: list[str]) -> None:
    """Also the flags that go to each run; a sweep file is the reader's own."""
    args = [arg for arg in arguments if not arg.endswith(".yaml")]
    _, request = read_options(args if "--tasks" in args else [*args, "--tasks", "rte"])
    expand(request, lambda task, model: [{}])
    settings = request.sweep.executor
    if settings.name == "local":
        devices = Devices(("0", "1", "2", "3"), "a GPU", 8)
        slots(devices, settings.max_jobs, settings.gpus_per_run, settings.runs_per_device)


def _check_launcher(args: list[str]) -> None:
    """Parses the launcher's own flags as the launcher would, and the rest as the harness would."""
    while "=" in args[0]:  # variables set for this command
        args = args[1:]
    if args[:2] == ["accelerate", "launch"]:
        parsed = launch_command_parser().parse_args(args[2:])
        assert parsed.config_file is None or (ROOT / parsed.config_file).is_file()
    else:
        assert args[0] == "torchrun"
        parsed = get_args_parser().parse_args(args[1:])
    script, arguments = parsed.training_script, parsed.training_script_args
    assert script == ("harness" if parsed.module else "harness/run.py")
    _check_harness(arguments if parsed.module else ["run", *arguments])


@pytest.mark.parametrize("args", COMMAND_LINES)
def test_command_is_one_that_works(args: list[str]) -> None:
    """Its target, flags, values and configuration file exist; nothing is run."""
    if args[0] == "make":
        assert re.search(rf"^{args[1]}:", _text("Makefile"), flags=re.MULTILINE)
    elif args[0] == "harness":
        _check_harness(args[1:])
    else:
        _check_launcher(args)


def test_commands_are_found() -> None:
    """Or the test above would try nothing."""
    lines = [" ".join(command.args) for command in _commands() if command.document == "README.md"]
    assert {"make demo", "make test", "accelerate launch harness/run.py --task sst2"} <= set(lines)
    everywhere = [" ".join(command.args) for command in _commands()]
    assert any(line.startswith("ACCELERATE_USE_CPU=yes torchrun") for line in everywhere)
    assert {command.document for command in _commands()} >= {"docs/sweeps.md", "docs/own-data.md", "CONTRIBUTING.md"}


def test_a_misspelt_flag_would_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        test_command_is_one_that_works(["accelerate", "launch", "harness/run.py", "--task", "rte", "--epoch", "1"])
    assert "--epoch" in capsys.readouterr().err


def test_every_launch_configuration_has_a_line_and_a_command() -> None:
    section = _text("docs/devices.md")
    files = {path.name for path in (ROOT / "accelerate_configs").iterdir()}
    assert {row[0].strip("`") for row in _table(section.split("```")[0])} == files
    assert {name for name in files if f"--config_file accelerate_configs/{name}" in section} == files


def _row(task: TaskSpec) -> list[str]:
    return [
        f"`{task.name}`",
        task.title,
        "candidates" if task.candidates else "choice" if task.choices else "pair" if len(task.text) == 2 else "text",
        "a value" if task.labels is None else str(task.classes),
        f"by `{task.predicted_by}`" if task.predicted_by else f"{task.rows['train']:,}" if "train" in task.rows else "",
        ", ".join(title_of(name) for name in task.main_metrics),
    ]


def test_table_of_tasks_is_the_registry() -> None:
    _, *sections = _section("docs/tasks.md", "Registered tasks").split("\n### ")
    for section, suite in zip(sections, registered_suites().values(), strict=True):
        assert section.startswith(f"{suite.title}: `{suite.name}`")
        assert _table(section) == [_row(task) for task in suite.read_tasks()]


def test_every_key_of_a_task_file_is_explained() -> None:
    keys = {*TaskSpec.model_fields, *Source.model_fields} - {"name", "suite"}
    text = _text("docs/tasks.md")
    assert {key for key in keys if not re.search(rf"(`|^ *|{{){key}(`|:)", text, re.MULTILINE)} == set()


def test_table_of_metrics_is_the_registry() -> None:
    table = _section("docs/tasks.md", "Write a task").partition("| problem type |")[2]
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    names = {problem_type: set(re.findall(r"`(\w+)`", text)) - {"group"} for problem_type, text in lines}
    assert names == {problem_type: set(supported_metrics(problem_type)) for problem_type in get_args(ProblemType)}


def test_suite_file_of_the_docs_is_valid(tmp_path: Path) -> None:
    (block,) = _blocks("docs/suites.md", "yaml")
    (tmp_path / SUITE_FILE).write_text(block, encoding="utf-8")
    for name in ("stars", "mood", "probe"):
        (tmp_path / f"{name}.yaml").touch()
    assert read_suite(tmp_path).members == {"Shops": ("stars", "mood")}


def test_every_flag_is_in_its_group() -> None:
    changing = _section("docs/concepts.md", "Flags that change the number")
    recorded = _section("docs/concepts.md", "Flags that do not")

    def flags(text: str) -> set[str]:
        return set(re.findall(r"`--(?:no-)?([a-z0-9-]+)`", text))

    fields = {name.replace("_", "-") for name in [*RunOptions.__dataclass_fields__, *Recipe.model_fields]}
    assert flags(changing) | flags(recorded) == fields - {"recipe", "own-data"}
    assert flags(changing) >= {name.replace("_", "-") for name in Recipe.model_fields}


def test_every_hyperparameter_is_in_the_table() -> None:
    table = _text("docs/recipes.md").split("\n## ")[0]
    fields = {name.replace("_", "-") for name in Recipe.model_fields if not name.startswith("adapter_")}
    flags = re.findall(r"^\| `--(?:no-)?([a-z0-9-]+)`", table, flags=re.MULTILINE)
    assert sorted(flags) == sorted(fields)


def test_every_optimizer_is_in_its_table() -> None:
    lines = re.findall(r"^\| `(\w+)` \|", _section("docs/recipes.md", "Optimizers"), re.MULTILINE)
    assert lines == list(get_args(OptimizerName))


def test_every_mark_of_the_leaderboard_is_explained() -> None:
    assert set(re.findall(r"`\[(\w)\]`", _text("docs/leaderboard.md"))) == set(MARKS)


def test_architecture_names_every_module_in_its_room_and_no_other() -> None:
    rooms: list[str] = []
    modules = []
    tree = _section("ARCHITECTURE.md", "The tree").split("\ntasks/ ")[0]
    for indent, name in re.findall(r"^( +)(\w+(?:\.py|/)) ", tree, flags=re.MULTILINE):
        rooms = rooms[: len(indent) // 2 - 1]
        if name.endswith("/"):
            rooms.append(name)
        else:
            modules.append("".join(rooms) + name)
    files = [path.relative_to(ROOT / "harness") for path in (ROOT / "harness").rglob("*.py")]
    assert sorted(modules) == sorted(f.as_posix() for f in files if f.name != "__init__.py" or f.parent == Path())


def test_contributing_shows_a_task_as_it_is() -> None:
    assert re.sub(r"^", "    ", _text("tasks/glue/rte.yaml").rstrip(), flags=re.MULTILINE) in _text("CONTRIBUTING.md")


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """The documented task file and a CSV that fits it, with 1,000 rows."""
    (block,) = [block for block in _blocks("docs/tasks.md", "yaml") if "file: reviews.csv" in block]
    path = tmp_path / "reviews.yaml"
    path.write_text(block, encoding="utf-8")
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "verdict"])
        writer.writerows([f"review {row}", ("bad", "fair", "good")[row % 3]] for row in range(1000))
    return path


def test_task_with_several_labels_of_the_docs_loads(tmp_path: Path) -> None:
    from harness.rows.files import find_files
    from harness.rows.loading import load_splits, read_tables

    (block,) = [block for block in _blocks("docs/multi-label.md", "yaml") if "problem_type: multi" in block]
    (tmp_path / "tickets.yaml").write_text(block, encoding="utf-8")
    lines = [f"ticket {row},{('delivery;returns', '')[row % 2]}" for row in range(1000)]
    (tmp_path / "tickets.csv").write_text("\n".join(["text,topics", *lines]), encoding="utf-8")
    task = read_task(tmp_path / "tickets.yaml")
    splits = load_splits(task, read_tables(task, find_files(task, None)), "standard", None)
    assert {name: len(split.text) for name, split in splits.items()} == task.rows
    assert splits["validation"].label is not None
    assert splits["validation"].label[:2].tolist() == [[0, 1, 1], [0, 0, 0]]


def test_sweep_file_of_the_docs_is_valid(tmp_path: Path) -> None:
    block, short = [block for block in _blocks("docs/sweeps.md", "yaml") if block.startswith("tasks:")]
    path = tmp_path / "sweep.yaml"
    path.write_text(block, encoding="utf-8")
    _, request = read_options([str(path)])
    runs = {(run.task.name, run.spec.seed): run for run in expand(request, lambda task, model: [{}])}
    assert len(runs) == 8 * 3 + 1
    assert runs["rte", 2].spec.recipe.epochs == 10
    assert runs["cola", 0].spec.recipe.learning_rate == 2e-5
    assert {run.spec.recipe.weight_decay for run in runs.values()} == {0.01}
    path.write_text(short, encoding="utf-8")
    by_task = {run.task.name: run for run in expand(read_options([str(path)])[1], lambda task, model: [{}])}
    assert by_task["rte"].spec.parent == by_task["mnli"].run_id
    assert by_task["mnli"].spec.recipe.epochs == 2


def test_published_row_of_the_docs_is_valid(tmp_path: Path) -> None:
    (block,) = _blocks("docs/reproduce.md", "yaml")
    path = tmp_path / "row.yaml"
    path.write_text(block, encoding="utf-8")
    row = read_row(path)
    runs = expand(SweepRequest(sweep_of(row, ["rte"], variant="script"), {}, (), False), lambda task, model: [{}])
    assert {(run.task.name, run.spec.recipe.epochs, run.spec.recipe.adapter_alpha) for run in runs} == {
        ("rte", 80, 16),
        ("mnli", 30, 16),
    }


def test_sweep_file_of_the_adapters_page_has_the_settings_of_the_paper(tmp_path: Path) -> None:
    (block,) = _blocks("docs/adapters.md", "yaml")
    path = tmp_path / "sweep.yaml"
    path.write_text(block, encoding="utf-8")
    runs = {
        (run.spec.model.rpartition("-")[2], run.task.name): run
        for run in expand(read_options([str(path)])[1], lambda task, model: [{}])
        if run.spec.seed == 3
    }
    recipes = {key: run.spec.recipe for key, run in runs.items()}
    tasks = "mnli sst2 mrpc cola qnli qqp rte stsb".split()
    assert recipes.keys() == {(size, task) for size in ("base", "large") for task in tasks}
    assert {(size, recipe.adapter_alpha) for (size, _), recipe in recipes.items()} == {("base", 8), ("large", 16)}
    assert [recipes["base", task].epochs for task in tasks] == [30, 60, 30, 80, 25, 25, 80, 40]
    assert [recipes["large", task].learning_rate for task in tasks] == [3e-4, 4e-4, 3e-4, 2e-4, 2e-4, 3e-4, 4e-4, 2e-4]
    assert {task for (_, task), run in runs.items() if run.spec.parent} == {"mrpc", "rte", "stsb"}
    assert runs["large", "rte"].spec.parent == runs["large", "mnli"].run_id


def test_own_task_of_the_docs_loads(own_task: Path) -> None:
    from harness.rows.files import find_files
    from harness.rows.loading import data_facts, load_splits, read_tables

    task = read_task(own_task)
    tables = read_tables(task, find_files(task, None))
    splits = load_splits(task, tables, "standard", None)
    assert {name: len(split.text) for name, split in splits.items()} == task.rows
    assert splits["train"].text[:2] != ["review 0", "review 1"], "shuffled"
    assert not data_facts(task, tables, splits, is_test_mode=False).is_partial
    names = list(task.labels or {})
    for split in splits.values():
        assert split.label is not None
        for text, label in zip(split.text, split.label, strict=True):
            assert names[label] == ("bad", "fair", "good")[int(text.split()[1]) % 3]


def _without_numbers(text: str) -> list[str]:
    """Lines as they are whatever the machine and its speed: no figures, no widths, no args on threads."""
    text = re.sub(r"\bon cpu \(.*", "on cpu", text)
    text = re.sub(r"-[0-9a-f]{10}\.json", ".json", text)
    return [" ".join(re.sub(r"[\d.,]*\d(e[-+]\d+)?", "0", line).split()) for line in text.strip().splitlines()]


@pytest.fixture(scope="session")
def python_output(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Output of the Python example of each document, in one folder: the second example finds the run of the first."""
    outputs, folder = {}, tmp_path_factory.mktemp("example")
    for document in ("README.md", "docs/python.md"):
        (block,) = _blocks(document, "python")
        with chdir(folder), redirect_stdout(io.StringIO()) as output:
            exec(compile(block, document, "exec"), {"__name__": "__main__"})
        outputs[document] = output.getvalue()
    return outputs


def test_python_examples_run(python_output: dict[str, str]) -> None:
    first, second = re.findall(r"^[01] +(\w+) +[\d.]+$", python_output["docs/python.md"], re.MULTILINE)
    assert (first, second) == ("entailment", "not_entailment"), "predictions of the saved model"
    run_id, accuracy = python_output["docs/python.md"].splitlines()[-1].split()
    assert run_id.startswith("tiny-bert-seed42-")
    assert float(accuracy) > 0.9
    assert re.search(r"^0 +entailment +[\d.]+$", python_output["README.md"], re.MULTILINE)


def test_run_prints_what_the_quick_start_shows(python_output: dict[str, str]) -> None:
    (block,) = _blocks("docs/quick-start.md", "console")
    shown = [line for line in _without_numbers(block)[1:] if line != "..."]
    printed = iter(_without_numbers(python_output["README.md"]))
    assert len(shown) > 5
    assert [line for line in shown if line not in printed] == [], "each after the one before"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", _text(document))
    folder = (ROOT / document).parent
    assert [target for target in targets if "://" not in target and not (folder / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_exist(document: str) -> None:
    folders = "harness|tasks|tests|accelerate_configs"
    named = re.findall(rf"(?<![\w/<-])(?:{folders})/[\w/]+\.(?:py|yaml|md|json)", _text(document))
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_path_of_one_machine(document: str) -> None:
    assert re.findall(r"(?<![\w.:/<>*)\]`}$-])/[A-Za-z]\w*/[\w.-]+|(?<!\w)~/", _text(document)) == []


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name.startswith("docs/")])
def test_every_page_is_in_the_navigation(document: str) -> None:
    assert f": {Path(document).name}" in _text("mkdocs.yml")


@pytest.mark.parametrize("names", _compared_names())
def test_compared_entries_are_published(names: list[str]) -> None:
    entries = json.loads(_text("results/leaderboard.json"))["entries"]
    board = SimpleNamespace(entries=[Entry(one["label"], one["model"], "", one["variant"]) for one in entries])
    assert len({find_entry(cast(Leaderboard, board), name) for name in names}) == 2


def test_readme_is_short() -> None:
    assert len(_text("README.md").splitlines()) <= 150


def test_readme_shows_the_published_scores() -> None:
    """Without bold type, and with the mark of partial data in the head of a column."""

    def cells(text: str) -> list[str]:
        text = re.sub(r"\*\*| \[p\]|,p(?=\])", "", text).replace("sentence-transformers/", "").replace("–/–", "–")
        return [cell.strip() for cell in text.strip("|").split("|")]

    page = [cells(line) for line in _text("results/leaderboard.md").splitlines() if line.startswith("| ")]
    tasks = page[0].index("CoLA Matthews")
    facts = next(number for number, title in enumerate(page[0]) if title in ("tuning", "verification"))
    published = [[row[0], *row[tasks:facts]] for row in page[2:5]]
    readme = [cells(line) for line in _text("README.md").splitlines() if line.startswith("| ")]
    assert readme[1:4] == published
