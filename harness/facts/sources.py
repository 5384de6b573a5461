"""The source of a task's rows: a dataset of the Hub, or files named by path, pattern or URL."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import Field, field_validator, model_validator

from harness.errors import did_you_mean
from harness.facts.yaml_file import KeysOfFile
from harness.system.paths import user_path
from harness.system.redaction import redact_secrets

FILE_FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx")
COMPRESSIONS = ("gz", "bz2", "xz", "zst", "zip")
"""Second extensions of compressed files, as in `rows.csv.gz`. The format of a bare `.zip` is that of its member."""

_NOT_OF_FILES = ("idna", "punycode", "undefined")
"""Encodings of Python for domain names and for tests."""

_ALIASES = {"ndjson": "jsonl", "feather": "arrow", "ipc": "arrow", "pq": "parquet", "zstd": "zst", "xlsm": "xlsx"}
_ADVICE = {
    "txt": "name it .csv or .tsv if its lines are rows",
    **dict.fromkeys(("xls", "ods"), "save it as .xlsx"),
    **dict.fromkeys(("pkl", "pickle"), "save it as .parquet: reading a pickle runs code"),
    **dict.fromkeys(("tar", "tgz", "rar", "7z"), "unpack it first"),
}


class FileReference(NamedTuple):
    """`PATH`, `PATTERN*.csv` or `URL`, then perhaps `#sha256=...` or, for a workbook, `#sheet=...`."""

    name: str
    sha256: str | None = None
    sheet: str | None = None

    @property
    def is_url(self) -> bool:
        return "://" in self.name

    @property
    def is_pattern(self) -> bool:
        return not self.is_url and any(character in self.name for character in "*?[")


class FileEnding(NamedTuple):
    """The format and the compression that a file's name ends in."""

    format: str | None
    """One of FILE_FORMATS; None for a bare `.zip`."""
    compression: str | None
    """One of COMPRESSIONS, or None."""


def parse_file_reference(text: str) -> FileReference:
    """The parts of a file reference.

    Raises:
        ValueError: the checksum is invalid.
    """
    match = re.fullmatch(r"(.*)#(sha256|sheet)=(.*)", text, flags=re.DOTALL)
    if match is None:
        return FileReference(text)
    name, key, value = match.groups()
    if key == "sheet":
        return FileReference(name, sheet=value)
    if not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ValueError(f"{text!r}: invalid sha256: expected 64 digits of 0-9 and a-f, got {len(value)} characters")
    return FileReference(name, sha256=value.lower())


def file_ending(name: str) -> FileEnding:
    """The format and compression of a file's name, or of a URL's path.

    Raises:
        ValueError: the name ends in no supported format.
    """
    path = name.split("?")[0].split("#")[0] if "://" in name else name
    suffixes = [suffix[1:].lower() for suffix in PurePosixPath(path).suffixes[-2:]]
    extensions = [_ALIASES.get(suffix, suffix) for suffix in suffixes]
    last = extensions[-1] if extensions else ""
    if last in FILE_FORMATS:
        return FileEnding(last, None)
    if last in COMPRESSIONS:
        if len(extensions) > 1 and extensions[0] in FILE_FORMATS:
            return FileEnding(extensions[0], last)
        if last == "zip":
            return FileEnding(None, last)
        raise ValueError(f"{name!r}: missing format before .{last}: name the file like rows.csv.{last}")
    advice = f"; {_ADVICE[last]}" if last in _ADVICE else did_you_mean(last, FILE_FORMATS).rstrip(".") if last else ""
    raise ValueError(
        f"{name!r}: unsupported file format: expected the extension {', '.join(FILE_FORMATS)}, perhaps followed by "
        f"{', '.join(COMPRESSIONS)}{advice}"
    )


def encoding_name(encoding: str) -> str:
    """The one name of an encoding: latin5 and ISO-8859-9 are the same.

    Raises:
        ValueError: Python does not know it, or no text file has it.
    """
    try:
        "".encode(encoding)  # base64 and others are codecs too, but not of text
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError):
        name = ""
    if name in ("", *_NOT_OF_FILES):
        raise ValueError("unknown encoding: expected one that Python knows, such as utf-8 or cp1254")
    return name


class Source(KeysOfFile):
    """The source of the rows: a dataset of the Hub, or files."""

    hub: str | None = None
    """`organisation/name` of a Hub dataset."""
    config: str | None = None
    """Its configuration."""
    revision: str | None = None
    """Its commit, so that the rows never change; a branch such as main leaves the task unpinned."""
    file: str | None = None
    """One file (URL, or path relative to the task's YAML) with every row; its source split is called `all`."""
    files: dict[str, str | tuple[str, ...]] | None = None
    """One file per source split, several, or a pattern such as `part-*.csv`; each is a `FileReference`."""
    delimiter: str | None = None
    """The field separator of a CSV or TSV; by default a comma or a tab."""
    encoding: str | None = None
    """Encoding of CSV, TSV, JSON and JSONL; by default that of the byte order mark, or UTF-8."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Checksum that `file` must have."""
    shuffle: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Rows of `file` are put in the order of `pandas.DataFrame.sample(frac=1, random_state=<this>)`."""

    @model_validator(mode="after")
    def _check(self) -> Source:
        if sum(map(bool, (self.hub, self.file, self.files))) != 1:
            raise ValueError("expected exactly one of hub, file, files")
        if self.hub is None and (self.config or self.revision):
            raise ValueError("config and revision require a hub source")
        if self.file is None and (self.sha256 or self.shuffle is not None):
            raise ValueError("sha256 and shuffle require a file source")
        if self.hub and (self.delimiter or self.encoding):
            raise ValueError("delimiter and encoding require a source of files")
        for split, references in self.file_references.items():
            if not references:
                raise ValueError(f"{split!r} names no file")
            for reference in references:
                file_ending(parse_file_reference(reference).name)
        return self

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ValueError('expected one character, such as ";" or "\\t"')
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, encoding: str | None) -> str | None:
        return None if encoding is None else encoding_name(encoding)

    @property
    def is_unpinned(self) -> bool:
        """True for a Hub dataset whose revision is no commit: its rows may change."""
        return self.hub is not None and re.fullmatch("[0-9a-f]{40}", self.revision or "") is None

    @property
    def file_references(self) -> dict[str, tuple[str, ...]]:
        """The references of each source split: `file` as the split `all`, or `files`; empty for a Hub source."""
        by_split = {"all": self.file} if self.file else self.files or {}
        return {split: (files,) if isinstance(files, str) else files for split, files in by_split.items()}

    def resolve_in(self, folder: Path) -> Source:
        """The source with its paths absolute; relative ones start at `folder`.

        Raises:
            UserError: a path is impossible.
        """
        return self._map_paths(lambda path: str(user_path("source.file", path, folder).resolve()))

    def relative_to(self, folder: Path | None) -> Source:
        """The source with paths below `folder` relative to it; None: all paths as file names only."""

        def shorten(path: str) -> str:
            if folder is None:
                return Path(path).name
            return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path

        return self._map_paths(shorten)

    def without_credentials(self) -> Source:
        """The source without the users, passwords and signed queries of its URLs."""
        return self._map(
            lambda text: redact_secrets(text).replace("***@", "").replace("?***", "") if "://" in text else text
        )

    def _map_paths(self, function: Callable[[str], str]) -> Source:
        return self._map(lambda text: text if "://" in text else function(text))

    def _map(self, convert: Callable[[str], str]) -> Source:
        files = {
            split: convert(value) if isinstance(value, str) else tuple(map(convert, value))
            for split, value in (self.files or {}).items()
        }
        return self.model_copy(update={"file": convert(self.file) if self.file else None, "files": files or None})
