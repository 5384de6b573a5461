"""Published scores: the bundled file is read, and one that was edited badly is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UserError
from harness.reports.references import REFERENCE_SCORES, references

HEADER = "model,parameters_millions,task,metric,split,score,setting,source\n"


def test_bundled_scores_are_fractions() -> None:
    published = references(["cola", "sst2", "stsb"])
    assert {reference.task for reference in published} == {"cola", "sst2", "stsb"}
    assert all(0 < reference.score < 1 for reference in published)


@pytest.mark.parametrize(
    "content",
    [
        "",
        HEADER.replace("task", "tusk") + "a,1,rte,accuracy,test,50,x,y\n",
        HEADER + "a,1,rte,accuracy,test,many,x,y\n",
        HEADER + "a,1,rte,accuracy,test,nan,x,y\n",
        HEADER + "a,1,rte,accuracy,test,1e400,x,y\n",
        HEADER + "a,1,rte,accuracy,test,500,x,y\n",
        HEADER + f"a,{'9' * 5000},rte,accuracy,test,50,x,y\n",
        HEADER + "a,1,rte\n",
        HEADER + "a,1,rte,accuracy,test,50,\ud800,y\n",
    ],
)
def test_invalid_line_is_named_with_its_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    if content:
        with pytest.raises(UserError, match=r"scores\.csv: invalid reference scores: "):
            references(["rte"], path)
    else:
        assert references(["rte"], path) == []


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scores\.csv: "):
        references(["rte"], tmp_path / "scores.csv")
    assert REFERENCE_SCORES.is_file()
