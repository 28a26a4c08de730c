import subprocess
import sys
from pathlib import Path

import pytest

from sa2sr.errors import TableError, UserError
from sa2sr.files import claimed

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
        "import sys, time; from sa2sr.files import claimed\n"
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
