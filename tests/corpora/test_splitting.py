from pathlib import Path

import pytest

from sa2sr.audio import AudioInfo
from sa2sr.corpora.splitting import parse_shares, split_by_speaker
from sa2sr.cuts import make_cut, read_cuts, write_cuts
from sa2sr.errors import CorpusError


def manifest(path: Path, speakers: dict[str | None, int]) -> Path:
    info = AudioInfo(16_000, 16_000, 1)
    cuts = [
        make_cut(f"{speaker}-{number}", "absent.wav", info, speaker=speaker)
        for speaker, count in speakers.items()
        for number in range(count)
    ]
    write_cuts(path, cuts)
    return path


def test_parts_share_no_speaker_and_lose_no_cut(tmp_path: Path) -> None:
    source = manifest(tmp_path / "all.jsonl.gz", {f"s{i}": 3 + i % 4 for i in range(40)})
    parts = split_by_speaker([source], tmp_path / "parts", {"train": 0.8, "dev": 0.1, "test": 0.1})
    speakers = [{cut.supervisions[0].speaker for cut in cuts} for cuts in parts.values()]
    assert not any(a & b for i, a in enumerate(speakers) for b in speakers[i + 1 :])
    assert sorted(cut.id for cuts in parts.values() for cut in cuts) == sorted(cut.id for cut in read_cuts(source))
    total = sum(len(cuts) for cuts in parts.values())
    assert 0.7 < len(parts["train"]) / total < 0.85
    assert [cut.id for cut in read_cuts(tmp_path / "parts" / "dev.jsonl.gz")] == [cut.id for cut in parts["dev"]]


def test_division_depends_on_seed_and_names_only(tmp_path: Path) -> None:
    speakers = {f"s{i}": 2 for i in range(20)}
    one = manifest(tmp_path / "one.jsonl.gz", speakers)
    turned = manifest(tmp_path / "turned.jsonl.gz", dict(reversed(speakers.items())))
    shares = {"train": 0.5, "dev": 0.5}

    def divide(source: Path, seed: int) -> list[str]:
        return [cut.id for cut in split_by_speaker([source], tmp_path / "out", shares, seed)["dev"]]

    assert sorted(divide(one, 0)) == sorted(divide(turned, 0))
    assert sorted(divide(one, 0)) != sorted(divide(one, 1))


def test_few_speakers(tmp_path: Path) -> None:
    source = manifest(tmp_path / "all.jsonl.gz", {"a": 50, "b": 1, None: 1})
    parts = split_by_speaker([source], tmp_path / "out", {"train": 0.8, "dev": 0.1, "test": 0.1})
    assert all(parts.values())
    with pytest.raises(CorpusError, match="cannot fill 4 parts"):
        split_by_speaker([source], tmp_path / "out", dict.fromkeys("abcd", 1.0))


def test_a_part_never_replaces_what_is_divided(tmp_path: Path) -> None:
    source = manifest(tmp_path / "train.jsonl.gz", {f"s{i}": 1 for i in range(10)})
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    before = source.read_bytes()
    for out in (tmp_path, tmp_path / "linked"):
        with pytest.raises(CorpusError, match=r"train\.jsonl\.gz is one of the manifests to divide.*--out"):
            split_by_speaker([source], out, {"dev": 0.2, "train": 0.8})
    assert source.read_bytes() == before
    assert not (tmp_path / "dev.jsonl.gz").exists()


def test_an_id_is_divided_once(tmp_path: Path) -> None:
    source = manifest(tmp_path / "all.jsonl.gz", {"a": 2, "b": 2})
    other = manifest(tmp_path / "other.jsonl.gz", {"b": 1})
    for inputs in ([source, source], [source, other]):
        with pytest.raises(CorpusError, match=r"the id '[ab]-0' was in .*all\.jsonl\.gz already"):
            split_by_speaker(inputs, tmp_path / "out", {"train": 0.5, "dev": 0.5})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["train", "train=x", "../up=0.5", "train=0.5,=0.5", "train=0.5,train=0.5"])
def test_bad_shares(text: str) -> None:
    with pytest.raises(CorpusError, match=r"train=0\.9|name for a part|train twice"):
        parse_shares(text)


@pytest.mark.parametrize("shares", [{}, {"train": 0.0}, {"train": float("nan")}])
def test_shares_must_be_positive(tmp_path: Path, shares: dict[str, float]) -> None:
    with pytest.raises(CorpusError, match="above 0"):
        split_by_speaker([], tmp_path, shares)
