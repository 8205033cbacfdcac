"""`armadillo-mapper`: what it writes, and what it refuses."""

import subprocess
import sys

import pytest
import yaml

from devicemodels.objects import decode_device, decode_model
from mappers.cli import main
from mappers.sdk.process import load_driver

pytestmark = pytest.mark.timeout(90)

# Not "boiler": who has followed docs/mappers.md has installed a driver of that name.
NAME = "boiler-2"


def test_the_skeletons_own_test_passes_as_it_stands(tmp_path, capsys):
    folder = tmp_path / NAME
    assert main(["new", NAME, "--folder", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/pyproject.toml",
        f"{folder}/driver_boiler_2.py",
        f"{folder}/test_driver_boiler_2.py",
        f"{folder}/device.yaml",
        f"next: pip install -e '{folder}[test]' && python -m pytest {folder}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_skeletons_driver_is_under_fifty_lines_and_its_manifest_is_valid(tmp_path):
    assert main(["new", NAME, "--folder", str(tmp_path / "b")]) == 0
    assert len((tmp_path / "b" / "driver_boiler_2.py").read_text().splitlines()) < 50
    model, device = yaml.safe_load_all((tmp_path / "b" / "device.yaml").read_text())
    import json

    assert decode_model(json.dumps(model).encode()).property("level")
    assert decode_device(json.dumps(device).encode()).model_name == NAME


@pytest.mark.parametrize("name", ["", "Boiler", "2go", "a_b", "a--b", "-a", "ü", "x" * 41, "a\n"])
def test_what_is_no_name_is_refused_in_one_line(tmp_path, capsys, name):
    assert main(["new", "--folder", str(tmp_path / "f"), "--", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"armadillo-mapper: name: {name!r} is no name: a to z, 0 to 9 and '-', at most 40"
    )
    assert not (tmp_path / "f").exists()


def test_the_name_of_an_installed_driver_is_refused(tmp_path, capsys):
    assert main(["new", "modbus", "--folder", str(tmp_path / "f")]) == 2
    assert "'modbus' is the name of an installed driver" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["new", NAME, "--folder", str(tmp_path)]) == 2
    assert f"folder: {tmp_path} is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["new", NAME, "--folder", str(tmp_path / "file")]) == 2
    assert "armadillo-mapper: folder: " in capsys.readouterr().err


def test_a_driver_that_is_not_installed_is_refused_with_those_that_are(tmp_path, capsys):
    assert main(["list"]) == 0
    names = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"http", "modbus", "mqtt", "opcua", "virtual"} <= set(names)
    assert main(["run", "zigbee", "--edge-socket", str(tmp_path / "dmi.sock")]) == 2
    said = capsys.readouterr().err
    assert f"'zigbee' is not installed; there are: {', '.join(names)}\n" in said


TANK = """
import msgspec
from mappers.sdk import Driver

class Config(msgspec.Struct):
    path: str

class Tank(Driver[Config, msgspec.Struct]):
    Config = Config
"""


def test_a_driver_may_be_a_file(tmp_path):
    (tmp_path / "tank.py").write_text(TANK)
    driver = load_driver(str(tmp_path / "tank.py"))
    assert (driver.__name__, driver.Config.__name__) == ("Tank", "Config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "FileNotFoundError: No such file or directory"),
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind' (line 1)"),
        ("x = 1\nraise KeyError('x')", "KeyError: 'x' (line 2)"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("x = 1", "there must be one subclass of Driver in it; there is: none"),
        (TANK + TANK.replace("Tank", "Other"), "there is: Tank, Other"),
    ],
)
def test_a_file_without_a_driver_is_refused_in_one_line(tmp_path, capsys, text, said):
    path = tmp_path / "tank.py"
    if text is not None:
        path.write_text(text)
    assert main(["run", str(path), "--edge-socket", str(tmp_path / "dmi.sock")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"armadillo-mapper: driver: {path}: ")
    assert said in line


def test_the_socket_of_edgecore_is_not_the_mappers_own(tmp_path, capsys):
    assert main(["run", "virtual", "--name", "dmi", "--edge-socket", f"{tmp_path}/dmi.sock"]) == 2
    assert f"{tmp_path}/dmi.sock is edgecore's own" in capsys.readouterr().err


def test_the_drivers_that_are_shipped_are_listed(capsys):
    assert main(["list"]) == 0
    drivers = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, where in drivers if where.startswith("mappers.drivers.")] == [
        "http", "modbus", "mqtt", "opcua", "virtual",
    ]  # fmt: skip


def test_an_attached_mapper_ends_with_its_standard_input(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable, "-m", "mappers", "run", "virtual", "--attached",
            "--edge-socket", str(tmp_path / "dmi.sock"), "--socket", str(tmp_path / "own.sock"),
        ],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    try:
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
