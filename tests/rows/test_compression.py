"""Compressed files: the content is the same in every compression, and a decompression bomb is refused at once."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.own_rows import own, splits_of

from harness.errors import UserError
from harness.rows import compression as module
from harness.rows.columns import ReadOptions
from harness.rows.compression import MAX_RATIO, open_decompressed
from harness.rows.formats import read_table
from harness.rows.own_task import infer_task

ROW = b"a,x\n"
ALWAYS_ALLOWED = 1 << 20


@pytest.fixture(autouse=True)
def _small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound at a megabyte, since bzip2 and xz take seconds for 16."""
    monkeypatch.setattr(module, "ALWAYS_ALLOWED", ALWAYS_ALLOWED)


def _write_zip(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", content)
        archive.writestr("__MACOSX/._rows.csv", b"x")


def _write_zstd(path: Path, content: bytes) -> None:
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as file:
        file.write(content)


WRITERS: dict[str, Callable[[Path, bytes], Any]] = {
    "gz": lambda path, content: path.write_bytes(gzip.compress(content)),
    "bz2": lambda path, content: path.write_bytes(bz2.compress(content)),
    "xz": lambda path, content: path.write_bytes(lzma.compress(content)),
    "zst": _write_zstd,
    "zip": _write_zip,
}


@pytest.mark.parametrize("compression", WRITERS)
def test_compressed_file_has_the_same_rows(compression: str, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.csv", tmp_path / f"packed.csv.{compression}"
    plain.write_text("text,label\n" + "".join(f"text {row},{('good', 'bad')[row % 2]}\n" for row in range(40)))
    WRITERS[compression](packed, plain.read_bytes())
    tasks = [infer_task(own(str(path))).task for path in (plain, packed)]
    assert tasks[1].name == "packed"
    assert splits_of(tasks[1])["train"].text == splits_of(tasks[0])["train"].text


@pytest.mark.parametrize("compression", WRITERS)
def test_bomb_is_refused_before_its_rows_are_read(compression: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.csv.{compression}"
    WRITERS[compression](path, b"text,label\n" + ROW * (ALWAYS_ALLOWED // len(ROW)))
    with (
        pytest.raises(UserError, match=rf"rows\.csv\.{compression}: decompression bomb: .*{ALWAYS_ALLOWED:,} bytes"),
        open_decompressed(path, path.name) as (stream, _),
    ):
        stream.peek(1)


@pytest.mark.parametrize("compression", WRITERS)
def test_file_of_usual_ratio_may_be_larger_than_any_bomb(compression: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.csv.{compression}"
    content = (
        np.random.default_rng(0).integers(0, 256, ALWAYS_ALLOWED // 8, np.uint8).tobytes() + b"\0" * ALWAYS_ALLOWED
    )
    WRITERS[compression](path, content)
    with open_decompressed(path, path.name) as (stream, form):
        assert stream.read() == content
    assert form == "csv"


@pytest.mark.parametrize("compression", ["gz", "zip"])
def test_bomb_before_usual_content_is_refused_before_that_is_read(compression: str, tmp_path: Path) -> None:
    """zipfile reads as many compressed bytes as it may, here all of them, whose number would allow the bomb."""
    path = tmp_path / f"rows.csv.{compression}"
    usual = np.random.default_rng(0).integers(0, 256, ALWAYS_ALLOWED, np.uint8).tobytes()
    WRITERS[compression](path, b"\0" * (8 * ALWAYS_ALLOWED) + usual)
    with (
        pytest.raises(UserError, match=rf"rows\.csv\.{compression}: decompression bomb"),
        open_decompressed(path, path.name) as (stream, _),
    ):
        stream.read(8 * ALWAYS_ALLOWED)


def test_bomb_behind_usual_content_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    usual = np.random.default_rng(0).integers(0, 256, ALWAYS_ALLOWED // MAX_RATIO, np.uint8).tobytes()
    path.write_bytes(gzip.compress(usual + b"\0" * (2 * ALWAYS_ALLOWED), 9))
    with (
        pytest.raises(UserError, match=r"rows\.csv\.gz: decompression bomb"),
        open_decompressed(path, path.name) as (stream, _),
    ):
        stream.read()


def test_parquet_of_one_value_for_millions_of_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": ["a" * 100] * (ALWAYS_ALLOWED // 100)}), path)
    with pytest.raises(UserError, match=r"rows\.parquet: decompression bomb"):
        read_table(path, path.name, ReadOptions())


def test_workbook_whose_sheet_grows_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * (ALWAYS_ALLOWED + 1))
    with pytest.raises(UserError, match=r"rows\.xlsx: decompression bomb"):
        read_table(path, path.name, ReadOptions())


def test_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.zip"
    _write_zip(path, ROW)
    octets = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        octets[octets.index(signature) + flags] |= 1
    path.write_bytes(octets)
    with pytest.raises(UserError, match=r"rows\.csv\.zip: .*password"), open_decompressed(path, path.name):
        pass
