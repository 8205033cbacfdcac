from __future__ import annotations

import pytest

from corekit.keyfiles import warn_of_open_key


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o602, 1)])
def test_a_key_that_everybody_can_read_or_change_is_named(tmp_path, caplog, mode, warned):
    key = tmp_path / "node.key"
    key.write_text("secret")
    key.chmod(mode)
    warn_of_open_key(str(key))
    said = [record.getMessage() for record in caplog.records]
    wanted = f"{key}: mode {mode:04o} lets every user of this machine at the key; chmod o= {key}"
    assert said == [wanted] * warned


def test_a_key_that_is_not_there_is_somebody_elses_business(tmp_path, caplog):
    warn_of_open_key(str(tmp_path / "none.key"))
    assert not caplog.records
