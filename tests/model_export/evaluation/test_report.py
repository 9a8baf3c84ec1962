"""The tables of the model card."""

import pytest

from model_export.evaluation import report


def test_a_card_without_markers_is_refused(tmp_path):
    document = tmp_path / "CARD.md"
    document.write_text("prose")
    with pytest.raises(ValueError, match="lacks the lines"):
        report.write(document, "tables")
    assert document.read_text() == "prose"
