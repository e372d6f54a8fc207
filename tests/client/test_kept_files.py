"""Files that the market sends: they are called as it says, and lie where the caller is and nowhere else."""

from pathlib import Path

import pytest

from rochdale.client.treasury_options import keep_file


@pytest.mark.parametrize("name", ["../outside.csv", "~/outside.csv", "/outside.csv", "..", "", ".bashrc", "a/../../b"])
def test_a_market_that_names_another_folder_writes_nothing_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = keep_file(name, b"payments", None)
    assert path is not None and path.parent == Path() and not path.name.startswith(".")
    assert [one.read_bytes() for one in here.iterdir()] == [b"payments"] and list(tmp_path.iterdir()) == [here]


def test_a_file_with_accounts_in_it_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "payouts-2026-11-25.csv"
    assert keep_file("other.csv", b"payments", path) == path
    assert path.stat().st_mode & 0o777 == 0o600
    assert keep_file("other.csv", b"payments", path) == path, "the same again"
    with pytest.raises(FileExistsError):
        keep_file("other.csv", b"others", path)
