"""Where a set may be prepared, and what is not taken for photographs there."""

from model_export.__main__ import main
from tests.model_export.preparing.test_command import FILES, faces, prepare_one


def test_what_an_earlier_run_left_among_the_photographs_is_not_taken_for_some(tmp_path, capsys):
    (tmp_path / "one.jpg").write_bytes(FILES["people/original.jpg"])
    (tmp_path / "two.jpg").write_bytes(FILES["people/wider.jpg"])
    for _ in range(2):
        prepare_one(tmp_path, tmp_path / "set", workers=1)
        assert set(faces(tmp_path / "set")) == {"one.jpg", "two.jpg"}
    assert "nothing to do" in capsys.readouterr().out


def test_the_folder_of_the_photographs_is_not_written_to(tmp_path, capsys):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "one.jpg").write_bytes(FILES["people/original.jpg"])
    assert main(["prepare", str(tmp_path), str(tmp_path), "--workers", "1"]) == 2
    assert "holds the photographs; name another folder" in capsys.readouterr().err
    assert (tmp_path / "report" / "one.jpg").exists()
