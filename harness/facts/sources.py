"""Where a task's rows lie: on the Hub, or in files named by path, pattern or URL, whose ending tells the format."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.errors import did_you_mean

FILE_FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "xlsx")
PACKINGS = ("gz", "bz2", "xz", "zst", "zip")
"""How a file may be compressed, as a second ending: `rows.csv.gz`. The format of a bare `.zip` is its member's."""

_SAME = {"ndjson": "jsonl", "feather": "arrow", "ipc": "arrow", "pq": "parquet", "zstd": "zst", "xlsm": "xlsx"}
_ADVICE = {
    "xls": "save it as .xlsx",
    "ods": "save it as .xlsx",
    "txt": "name it .csv or .tsv if its lines are rows",
    "pkl": "save it as .parquet: reading a pickle runs code",
    "pickle": "save it as .parquet: reading a pickle runs code",
    "tar": "unpack it first",
    "tgz": "unpack it first",
    "rar": "unpack it first",
    "7z": "unpack it first",
}


class Place(NamedTuple):
    """`PATH`, `PATTERN*.csv` or `URL`, then perhaps `#sha256=...` or, of a workbook, `#sheet=...`."""

    name: str
    sha256: str | None = None
    sheet: str | None = None

    @property
    def is_url(self) -> bool:
        return "://" in self.name

    @property
    def is_pattern(self) -> bool:
        return not self.is_url and any(sign in self.name for sign in "*?[")


class Ending(NamedTuple):
    """What a file's name tells of it."""

    format: str | None
    """One of FILE_FORMATS; None for a bare `.zip`."""
    packing: str | None
    """One of PACKINGS, or None."""


def place_of(word: str) -> Place:
    """What `word` says.

    Raises:
        ValueError: the checksum is none.
    """
    found = re.fullmatch(r"(.*)#(sha256|sheet)=(.*)", word, flags=re.DOTALL)
    if found is None:
        return Place(word)
    name, key, value = found.groups()
    if key == "sheet":
        return Place(name, sheet=value)
    if not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ValueError(f"{word!r}: a sha256 has 64 digits of 0-9 and a-f, this has {len(value)} characters")
    return Place(name, sha256=value.lower())


def ending_of(name: str) -> Ending:
    """The format and packing that a file's name or a URL's path ends in.

    Raises:
        ValueError: neither is one of ours.
    """
    path = name.split("?")[0].split("#")[0] if "://" in name else name
    endings = [_SAME.get(ending, ending) for ending in (s[1:].lower() for s in PurePosixPath(path).suffixes[-2:])]
    last = endings[-1] if endings else ""
    if last in FILE_FORMATS:
        return Ending(last, None)
    if last in PACKINGS:
        if len(endings) > 1 and endings[0] in FILE_FORMATS:
            return Ending(endings[0], last)
        if last == "zip":
            return Ending(None, last)
        raise ValueError(f"{name!r}: .{last} of what? Name it after its format too, as in rows.csv.{last}")
    formats = ", ".join(FILE_FORMATS)
    advice = f"; {_ADVICE[last]}" if last in _ADVICE else did_you_mean(last, FILE_FORMATS).rstrip(".") if last else ""
    raise ValueError(f"{name!r} does not end in one of {formats}, or in one of them and {', '.join(PACKINGS)}{advice}")


class Source(BaseModel):
    """Where the rows come from: a dataset of the Hub, or files."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    hub: str | None = None
    """`organisation/name` of a Hub dataset."""
    config: str | None = None
    """Its configuration."""
    revision: str | None = None
    """Its commit, so that the rows never change."""
    file: str | None = None
    """One file (path beside the task's YAML, or URL) that holds every row; its source split is called `all`."""
    files: dict[str, str | tuple[str, ...]] | None = None
    """One file per source split, or several, or a pattern such as `part-*.csv`; see `places` for what may follow."""
    delimiter: str | None = None
    """What stands between the fields of a CSV or TSV; by default a comma or a tab."""
    encoding: str | None = None
    """Of CSV, TSV, JSON and JSONL; by default UTF-8, or UTF-16 where the file begins with its mark."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Checksum that `file` must have."""
    shuffle: int | None = None
    """Rows of `file` are put in the order of `pandas.DataFrame.sample(frac=1, random_state=<this>)`."""

    @model_validator(mode="after")
    def _one_kind(self) -> Source:
        if sum(bool(kind) for kind in (self.hub, self.file, self.files)) != 1:
            raise ValueError("needs exactly one of hub, file, files")
        if self.hub is None and (self.config or self.revision):
            raise ValueError("config and revision belong to a hub source")
        if self.file is None and (self.sha256 or self.shuffle is not None):
            raise ValueError("sha256 and shuffle belong to a file source")
        if self.hub and (self.delimiter or self.encoding):
            raise ValueError("delimiter and encoding belong to a source of files")
        for split, words in self.words.items():
            if not words:
                raise ValueError(f"{split!r} names no file")
            for word in words:
                ending_of(place_of(word).name)
        return self

    @field_validator("delimiter")
    @classmethod
    def _is_one_sign(cls, sign: str | None) -> str | None:
        if sign is not None and (len(sign) != 1 or sign in '"\r\n'):
            raise ValueError('one character, such as ";" or "\\t"')
        return sign

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        if encoding is None:
            return None
        try:
            "".encode(encoding)  # base64 and the like are codecs too, but not of texts
            return codecs.lookup(encoding).name  # latin5 and ISO-8859-9 are one and the same
        except LookupError:
            raise ValueError("no encoding that Python knows, such as utf-8, iso-8859-9 or cp1254") from None

    @property
    def words(self) -> dict[str, tuple[str, ...]]:
        """By source split what names its files: `file` as the split `all`, or `files`; empty for a Hub source."""
        named = {"all": self.file} if self.file else self.files or {}
        return {split: (word,) if isinstance(word, str) else word for split, word in named.items()}

    def beside(self, folder: Path) -> Source:
        """The source with its relative paths taken from `folder`."""
        return self._renamed(lambda path: str((folder / Path(path).expanduser()).resolve()))

    def seen_from(self, folder: Path | None) -> Source:
        """The source with paths below `folder` relative to it; None: all paths without the folders they lie in."""

        def shown(path: str) -> str:
            if folder is None:
                return Path(path).name
            return str(Path(path).relative_to(folder)) if Path(path).is_relative_to(folder) else path

        return self._renamed(shown)

    def _renamed(self, rename: Callable[[str], str]) -> Source:
        def word(name: str) -> str:
            return name if "://" in name else rename(name)

        files = {
            split: word(words) if isinstance(words, str) else tuple(map(word, words))
            for split, words in (self.files or {}).items()
        }
        return self.model_copy(update={"file": word(self.file) if self.file else None, "files": files or None})
