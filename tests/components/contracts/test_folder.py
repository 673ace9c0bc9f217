"""Folders are complete or absent, and files are what their manifest says."""

from pathlib import Path

import pytest

from penstock.components.contracts.errors import ContractError
from penstock.components.contracts.folder import (
    SealedManifest,
    complete_folder,
    file_sha256,
    read_checked,
    text_sha256,
    write_atomically,
)


class Note(SealedManifest):
    text: str


def test_a_folder_appears_whole_and_readable_for_others(tmp_path: Path) -> None:
    with complete_folder(tmp_path / "deep" / "a") as building:
        (building / "file").write_text("content")
        assert not (tmp_path / "deep" / "a").exists()

    assert (tmp_path / "deep" / "a" / "file").read_text() == "content"
    assert (tmp_path / "deep" / "a").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ContractError])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def build() -> None:
        with complete_folder(tmp_path / "a") as building:
            (building / "half").write_text("…")
            raise error("stopped")

    with pytest.raises(error, match="stopped"):
        build()

    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_changed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ContractError, match="exists already"), complete_folder(tmp_path / "a"):
        pass

    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("content", ["new", b"\x00new"])
def test_a_file_is_replaced_at_once(tmp_path: Path, content: str | bytes) -> None:
    write_atomically(tmp_path / "deep" / "file", "old")
    write_atomically(tmp_path / "deep" / "file", content)

    expected = content.encode() if isinstance(content, str) else content
    assert (tmp_path / "deep" / "file").read_bytes() == expected
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


@pytest.mark.parametrize("operation", ["os.fsync", "pathlib.Path.chmod", "pathlib.Path.replace"])
def test_an_interrupted_replacement_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    write_atomically(tmp_path / "file", "old")
    monkeypatch.setattr(operation, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")

    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_manifest_vouches_for_itself(tmp_path: Path) -> None:
    saved = Note(text="hello").save(tmp_path / "note.json")
    assert Note.load(tmp_path / "note.json") == saved

    (tmp_path / "note.json").write_text((tmp_path / "note.json").read_text().replace("hello", "hallo"))
    with pytest.raises(ContractError, match=r"note\.json is damaged: its seal does not fit"):
        Note.load(tmp_path / "note.json")


@pytest.mark.parametrize(("content", "message"), [
    ("{", "is damaged: the file: Invalid JSON"),
    ('{"text": 3}', "is damaged: text: Input should be a valid string"),
    ('{"text": "", "more": 1}', "is damaged: more: Extra inputs"),
])
def test_a_manifest_that_cannot_be_read_says_where(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "note.json").write_text(content)
    with pytest.raises(ContractError, match=message):
        Note.load(tmp_path / "note.json")


def test_a_missing_manifest_means_an_incomplete_folder(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"is incomplete: note\.json is missing"):
        Note.load(tmp_path / "note.json")


def test_a_checked_file_is_the_one_that_was_described(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"1234")
    assert file_sha256(file) == text_sha256("1234")
    assert read_checked(file, text_sha256("1234"), "model.json") == b"1234"

    with pytest.raises(ContractError, match=r"weights is not the file that model.json describes \(4 bytes"):
        read_checked(file, text_sha256("1235"), "model.json")
    with pytest.raises(ContractError, match=r"absent is named in model.json but missing"):
        read_checked(tmp_path / "absent", "", "model.json")
