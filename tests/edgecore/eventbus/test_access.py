"""Who may touch which topics, and the files that say so."""

import stat

import pytest

from edgecore.eventbus.access import (
    AGENT,
    may,
    mosquitto_acl,
    password_fits,
    password_line,
    read_passwords,
)
from edgecore.eventbus.access_cli import main

OWN = "$hw/events/device/default/lamp-01/"


@pytest.mark.parametrize(
    ("user", "topic", "allowed"),
    [
        ("default/lamp-01", OWN + "twin/update", True),
        ("default/lamp-01", OWN + "#", True),
        ("default/lamp-01", "$hw/events/device/default/lamp-012/twin/update", False),
        ("default/lamp-01", "$hw/events/device/default/+/twin/update", False),
        ("default/lamp-01", "$hw/events/device/+/lamp-01/twin/update", False),
        ("default/lamp-01", "$hw/#", False),
        ("default/lamp-01", "#", False),
        ("default/lamp-01", "$hw/events/node/edge-1/membership/get", False),
        ("program:logger", "$hw/events/device/+/+/twin/update/document", True),
        ("program:logger", "#", False),
        ("program:logger", "$hw/events/upload/site/temperature", True),
        ("program:logger", "SYS/dis/upload_records", True),
        ("program:logger", "SYS/dis/other", False),
        ("program:logger", "app/user/x", True),
        ("program:logger", "+/user/#", True),
        ("program:logger", "a/b/user/x", False),
        ("program:logger", "$SYS/user/x", False),
        ("default/lamp-01", "$hw/events/upload/default/lamp-01/x", True),
        ("default/lamp-01", "$hw/events/upload/default/lamp-02/x", False),
        ("default/lamp-01", "$hw/events/upload/#", False),
        ("default/lamp-01", "app/user/x", False),
        ("default/lamp-01", "SYS/dis/upload_records", False),
        (AGENT, "$hw/#", True),
        ("", OWN + "twin/update", False),
        ("default/+", "$hw/events/device/default/+/twin/update", False),
        ("default/#", "$hw/events/device/default/#/x", False),
    ],
)
def test_a_user_may_touch_its_own_topics_only(user, topic, allowed):
    assert may(user, topic) == allowed


def test_a_password_is_known_by_its_hash():
    hashes = read_passwords(password_line("n/d", "secret", b"salt" * 3))
    assert password_fits(hashes["n/d"], "secret")
    assert not password_fits(hashes["n/d"], "Secret")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("me:$7$101$c2FsdA==$aGFzaA==", "line 1: 'me' is neither"),
        ("\nn/d:plain", "line 2: the password is not hashed"),
        ("n/d:$7$99999999$c2FsdA==$aGFzaA==", "line 1: the password is not hashed"),
        ("n/d:$7$1$*$aGFzaA==", "line 1: the password is not hashed"),
    ],
)
def test_a_wrong_line_is_named(text, said):
    with pytest.raises(ValueError, match="line") as caught:
        read_passwords(text)
    assert said in str(caught.value)


def test_the_acl_names_each_user_with_its_topics():
    text = mosquitto_acl(["default/lamp-01"])
    assert f"user default/lamp-01\ntopic readwrite {OWN}#\n" in text


def test_the_command_makes_files_and_keeps_who_has_a_password(tmp_path, capsys):
    assert main(["acl", "--out", str(tmp_path), "default/lamp-01"]) == 0
    first = (tmp_path / "passwords").read_text()
    assert [line.split()[0] for line in (tmp_path / "secrets").read_text().splitlines()] == [
        AGENT,
        "default/lamp-01",
    ]
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o600
    assert main(["acl", "--out", str(tmp_path), "default/lamp-01", "program:x"]) == 0
    assert (tmp_path / "passwords").read_text().startswith(first)
    assert "1 new users" in capsys.readouterr().out


def test_the_command_refuses_a_name_that_is_none(tmp_path, capsys):
    assert main(["acl", "--out", str(tmp_path), "a/b/c"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
