import subprocess
import sys
from pathlib import Path

import pytest

from sa2sr.errors import TableError, UserError
from sa2sr.files import claimed, read_json

BUSY = UserError("another is at work")


def test_a_claim_keeps_others_away_until_it_ends(tmp_path: Path) -> None:
    lock = tmp_path / "new" / ".lock"
    with claimed(lock, BUSY):
        with pytest.raises(UserError, match="another is at work"), claimed(lock, BUSY):
            pass
        with pytest.raises(UserError, match="another is at work"), claimed(lock, BUSY, patience=0.1):
            pass
    other, error = tmp_path / "other", TableError("of another lock")
    with pytest.raises(TableError), claimed(lock, BUSY), claimed(other, BUSY), claimed(other, error):
        pass
    with claimed(lock, BUSY):
        pass


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys, time; from sa2sr.files import claimed, read_json\n"
        "with claimed(sys.argv[1], Exception()): print('claimed', flush=True); time.sleep(600)"
    )
    lock = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(UserError), claimed(lock, BUSY):
            pass
        holder.kill()
    with claimed(lock, BUSY, patience=10):
        pass


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, r"cannot be read \(No such file"),
        (b"", "is not JSON"),
        (b'{"half": [1, 2', "is not JSON"),
        (b'{"a": "\xff\xfe"}', "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"a": 1}' + b" " * 200_000, "is larger than 200,000 bytes"),
    ],
)
def test_json_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, wrong: str) -> None:
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{wrong}"):
        read_json(path, 200_000)


def test_json_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"a": "é"}', encoding="utf-8")
    assert read_json(tmp_path / "file.json", 11) == {"a": "é"}
