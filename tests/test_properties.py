"""Every reader of a file gives a value or a UserError for whatever bytes the file has, and never another exception."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.records import finished_record, run_spec
from support.records import task_facts as task_facts_of

from harness.engine.progress import ProgressSummary, read_summary
from harness.errors import UserError
from harness.facts.outcome import task_facts
from harness.facts.packing import pack_array, unpack_array
from harness.facts.prediction_files import read_prediction_file
from harness.facts.published import PUBLISHED_FOLDER, read_row
from harness.facts.records import read_records, record_text
from harness.facts.suites import read_suite, registered_suites
from harness.facts.task_files import SUITE_FILE, registered_files
from harness.facts.tasks import read_task
from harness.reports.standings import build_leaderboard
from harness.rows import loading
from harness.rows.files import find_files
from harness.rows.own_data import OwnData
from harness.rows.own_task import infer_task
from harness.saved_models.bundles import CONFIG, MANIFEST, RECORD, TASK, WEIGHTS, read_bundle
from harness.sweeps.file import read_sweep

ROOT = Path(__file__).resolve().parents[1]

FRAGMENTS = [
    *(b"9" * 5000, b"1" + b"0" * 400, b"1e308", b"1e400", b"-1", b"-0.0", b"NaN", b"Infinity", b"18446744073709551616"),
    *(b"null", b"true", b"[]", b"{}", b"[" * 5000, b'{"a":' * 3000, b"\\ud800", b"\xed\xa0\x80", b"\xff\xfe", b"\0"),
    *(b"\r", b"\n", b"\t", b'"', b"'", b",", b":", b"- ", b"&a [*a, *a]", b"!!int x", b"!!timestamp x", b"<<: [", b"%"),
    *(
        b"../../x",
        b"~nosuchuser/x",
        b"http://",
        b"x" * 70_000,
        b"\xef\xbb\xbf",
        b"\xe2\x80\xae",
        b"&lt;",
        b"<!DOCTYPE x>",
    ),
]
"""Values that some reader of text, numbers or nested data may trip over."""

_TOKEN = re.compile(rb"[\w.+-]+")


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A function that changes the bytes of a file: up to three flips, cuts, insertions and replaced values."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["flip", "cut", "drop", "repeat", "insert", "value", "value"]),
                st.floats(0, 1, exclude_max=True),
                st.integers(1, 255),
                st.sampled_from(FRAGMENTS),
            ),
            min_size=1,
            max_size=3,
        )
    )

    def mutate(content: bytes) -> bytes:
        for kind, share, number, fragment in steps:
            at = int(share * len(content))
            if kind == "flip" and content:
                content = content[:at] + bytes([content[at] ^ number]) + content[at + 1 :]
            elif kind == "cut":
                content = content[:at]
            elif kind == "drop":
                content = content[:at] + content[at + number :]
            elif kind == "repeat":
                content = content[: at + number] + content[at:]
            elif kind == "insert":
                content = content[:at] + fragment + content[at:]
            elif tokens := list(_TOKEN.finditer(content)):
                token = tokens[int(share * len(tokens))]
                content = content[: token.start()] + fragment + content[token.end() :]
        return content

    return mutate


WriteRows = Callable[[Path, dict[str, list[Any]]], Path]


class Reader(NamedTuple):
    """A reader of one kind of file."""

    write: Callable[[Path, WriteRows], Path]
    """Writes a valid file into a folder, with what it needs there, and returns its path."""
    read: Callable[[Path], Any]
    """Reads the file at a path."""


def _rows(name: str) -> Reader:
    columns = {
        "text": [f"word {row} çok, iyi" for row in range(24)],
        "label": [["no", "yes", "7"][row % 3] for row in range(24)],
        "note": [row / 2 if row % 5 else None for row in range(24)],
    }

    def write(folder: Path, write_rows: WriteRows) -> Path:
        path = write_rows(folder / name.removesuffix(".gz"), columns)
        if name.endswith(".gz"):
            path = folder / name
            path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        return path

    def read(path: Path) -> Any:
        task = infer_task(OwnData(train_file=(str(path),), text_columns="text", name="rows")).task
        return loading.load_splits(task, loading.read_tables(task, find_files(task, None)), "standard", None)

    return Reader(write, read)


def _text_file(name: str, content: str, read: Callable[[Path], Any]) -> Reader:
    def write(folder: Path, _: WriteRows) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return Reader(write, read)


def _write_record(folder: Path, _: WriteRows) -> Path:
    gold = np.arange(30) % 2
    packed = {"validation": pack_array(gold)}
    for seed in (1, 2):
        record = finished_record(seed=seed, predictions=packed, gold=packed, notes=["a note"])
        path = folder / "runs" / "rte" / f"{record.run_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record_text(record), encoding="utf-8")
    return path


def _rank_records(path: Path) -> Any:
    records, _ = read_records(path.parents[2])
    return build_leaderboard(records, resamples=5)


def _bundle(name: str) -> Reader:
    def write(folder: Path, _: WriteRows) -> Path:
        task = read_task(registered_files()["rte"])
        manifest = {"format": 1, "harness": "0.1.0", "run_id": "a-seed1-0", "files": {WEIGHTS: "0" * 64}}
        contents = {WEIGHTS: "", CONFIG: "{}", MANIFEST: json.dumps(manifest), RECORD: "", TASK: ""}
        contents[RECORD] = record_text(finished_record(facts=task_facts(task).model_dump()))
        contents[TASK] = (registered_files()["rte"]).read_text(encoding="utf-8")
        for file, content in contents.items():
            (folder / file).write_text(content, encoding="utf-8")
        return folder / name

    return Reader(write, lambda path: read_bundle(path.parent))


def _write_predictions(folder: Path, write_rows: WriteRows) -> Path:
    columns = {"row": [0, 1], "prediction": ["no", "yes"], "label": ["yes", "yes"]}
    scores = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 0.1, 0.2, 0.3], pa.float32()), 2)
    pq.write_table(pa.table({**columns, "scores": scores}), folder / "run.validation.parquet")
    return folder / "run.validation.parquet"


def _write_suite(folder: Path, _: WriteRows) -> Path:
    source = registered_suites()["glue"].folder
    for path in source.iterdir():
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    return folder / SUITE_FILE


READERS: dict[str, Reader] = {
    "a suite": Reader(_write_suite, lambda path: read_suite(path.parent)),
    "a task": _text_file("rte.yaml", (registered_files()["rte"]).read_text(encoding="utf-8"), read_task),
    "a task of files": _text_file("t.yaml", (registered_files()["ttc4900"]).read_text(encoding="utf-8"), read_task),
    "a sweep": _text_file("sweep.yaml", (ROOT / "results/sweep.yaml").read_text(encoding="utf-8"), read_sweep),
    "a published row": _text_file(
        "row.yaml", (PUBLISHED_FOLDER / "deberta-v3-small.yaml").read_text(encoding="utf-8"), read_row
    ),
    "a record": Reader(_write_record, _rank_records),
    "a progress file": _text_file(
        "run.progress",
        json.dumps({"summary": ProgressSummary(spec=run_spec(), step=3, loss=0.5).model_dump(mode="json")}),
        read_summary,
    ),
    "predictions": Reader(_write_predictions, lambda path: read_prediction_file(path, task_facts_of("rte"))),
    "a manifest": _bundle(MANIFEST),
    "a saved record": _bundle(RECORD),
    **{f"rows.{ending}": _rows(f"rows.{ending}") for ending in "csv tsv json jsonl parquet arrow xlsx csv.gz".split()},
}

PROPERTY = settings(
    derandomize=True,
    database=None,
    deadline=timedelta(seconds=20),
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", READERS)
def test_unchanged_file_is_read(name: str, tmp_path: Path, write_rows: WriteRows) -> None:
    """Otherwise the files below would all fail for the same reason."""
    READERS[name].read(READERS[name].write(tmp_path, write_rows))


@pytest.mark.parametrize("name", READERS)
def test_reader_gives_a_value_or_a_user_error(name: str, write_rows: WriteRows) -> None:
    reader = READERS[name]

    @PROPERTY
    @given(mutations())
    def check(mutate: Callable[[bytes], bytes]) -> None:
        with TemporaryDirectory() as folder:
            path = reader.write(Path(folder), write_rows)
            path.write_bytes(mutate(path.read_bytes()))
            with suppress(UserError):
                reader.read(path)

    check()


@PROPERTY
@given(mutations(), st.booleans())
def test_packed_array_is_read_or_refused(mutate: Callable[[bytes], bytes], is_inside: bool) -> None:
    packed = pack_array(np.arange(30) / 4).encode()
    if is_inside:
        changed = base64.b64encode(zlib.compress(mutate(zlib.decompress(base64.b64decode(packed)))))
    else:
        changed = mutate(packed)
    try:
        values = unpack_array(changed.decode("latin-1"))
    except ValueError:
        return
    assert np.isfinite(values).all()
