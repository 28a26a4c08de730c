"""Items are worked on in several processes, and one that kills its process is lost alone."""

import os
import signal

import pytest

from sa2sr.processes import map_in_processes


def square(item: int) -> int:
    return item * item


def square_or_die(item: int) -> int:
    if item in (3, 10):
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def square_or_raise(item: int) -> int:
    if item == 7:
        raise ValueError(f"{item} is wrong")
    return item * item


def process_of(_item: int) -> int:
    return os.getpid()


def lost(item: int) -> int:
    return -item


@pytest.mark.parametrize(("count", "jobs"), [(0, 2), (1, 2), (5, 1), (11, 2)])
def test_every_item_has_its_result(count: int, jobs: int) -> None:
    assert dict(map_in_processes(square, range(count), killed=lost, jobs=jobs, chunk=4)) == {
        item: item * item for item in range(count)
    }


def test_small_work_stays_here_and_large_work_does_not() -> None:
    assert {pid for _, pid in map_in_processes(process_of, range(7), killed=lost, chunk=4)} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in map_in_processes(process_of, range(8), killed=lost, jobs=2, chunk=4)}


def test_an_item_that_kills_its_process_is_lost_alone() -> None:
    results = list(map_in_processes(square_or_die, range(12), killed=lost, jobs=2, chunk=4))
    assert len(results) == 12
    assert dict(results) == {item: -item if item in (3, 10) else item * item for item in range(12)}


def test_an_error_comes_back() -> None:
    with pytest.raises(ValueError, match="7 is wrong"):
        list(map_in_processes(square_or_raise, range(16), killed=lost, jobs=2, chunk=4))
