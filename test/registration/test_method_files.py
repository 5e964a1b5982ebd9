"""Methods are files that users may add: one that is no method is refused with a sentence."""

import pytest

from fluoro_reg.errors import InputError
from fluoro_reg.registration import methods


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("description: none", "needs 'stages'"),
        ("stages: []", "needs 'stages'"),
        ("stages: [64]", "needs 'stages'"),
        ("stages: [{object_px: 64}]\nsearch: 3", "needs 'stages'"),
        ("stages: [{object: 64}]", "stage 0: unknown key 'object'"),
        ("stages: [{object_px: 64}]\nstage: 1", "unknown key 'stage'"),
        ("stages: [{similarity: mutual-information}]", "stage 0: 'similarity' must be one of .*, got 'mutual-information'"),
    ],
)
def test_a_file_that_is_no_method_is_refused_with_a_sentence(tmp_path, monkeypatch, content, sentence):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.yaml").write_text(content)
    monkeypatch.setattr(methods, "config_folder", lambda: tmp_path)
    with pytest.raises(InputError, match=sentence):
        methods.load_method("mine")
