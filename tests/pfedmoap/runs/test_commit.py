"""One manifest decides; in a divided run it is the private one, and the public one follows."""

import os

import pytest

from pfedmoap.runs.commit import commit, current_manifest
from pfedmoap.runs.layout import Layout
from pfedmoap.runs.manifest import Manifest, read_manifest


class Killed(BaseException):
    """Stands for the process being killed."""


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("survived", [0, 1, 2])
def test_what_is_shown_is_never_ahead_of_what_is_committed(
    survived, divided, tmp_path, monkeypatch
):
    layout = Layout(tmp_path, divided)
    if divided:
        layout.make()
    commit(layout, Manifest(1, "server/round-000001.safetensors"))
    real, left = os.replace, [survived]

    def replace(*given):
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(*given)

    later = Manifest(2, "server/round-000002.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        if survived < 1 + divided:
            with pytest.raises(Killed):
                commit(layout, later)
        else:
            commit(layout, later)
    shown, deciding = read_manifest(layout.run), read_manifest(layout.part)
    assert shown is not None
    assert deciding is not None
    assert deciding.round == 1 + (survived > 0)
    assert shown.round == 1 + (survived > divided)
    if not divided:
        assert current_manifest(tmp_path) == deciding
