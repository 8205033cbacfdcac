"""Settings: one YAML file per daemon into frozen dataclasses; an unknown or wrong key is one clear line."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

from corekit.errors import ConfigError
from corekit.yamltext import YamlError, parse_yaml

T = TypeVar("T")

# A settings file is a page of text; anything larger is the wrong file.
MAX_SETTINGS_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class LogSettings:
    """How the daemon logs."""

    format: str = "human"  # human | json
    level: str = "info"  # debug | info | warning | error

    def __post_init__(self) -> None:
        """Refuse what no formatter knows."""
        require_one_of("log.format", self.format, ("human", "json"))
        require_one_of("log.level", self.level, ("debug", "info", "warning", "error"))


def load_settings(path: Path, shape: type[T]) -> T:
    """Return the settings in the YAML file at `path`; what it does not say keeps its default.

    Raises:  ConfigError: naming the file and the dotted key.
    """
    source = str(path)
    try:
        text = path.read_bytes()
    except OSError as exc:
        raise ConfigError(source, "", f"cannot be read: {exc.strerror}") from exc
    if len(text) > MAX_SETTINGS_BYTES:
        raise ConfigError(source, "", f"larger than {MAX_SETTINGS_BYTES} bytes")
    try:
        tree = parse_yaml(text)
    except YamlError as exc:
        raise ConfigError(source, "", str(exc)) from exc
    return settings_from_tree(source, tree if tree is not None else {}, shape)


def settings_from_tree(source: str, tree: object, shape: type[T]) -> T:
    """Return `shape` built from a parsed document; errors as `load_settings`."""
    _refuse_unknown_keys(source, "", tree, shape)
    try:
        return msgspec.convert(tree, shape, strict=True)
    except msgspec.ValidationError as exc:
        problem, _, where = str(exc).partition(" - at `$")
        raise ConfigError(source, where.strip("`.") or "document", problem) from exc


def dump_settings(settings: object) -> str:
    """Return the settings as YAML in declaration order, for `--print-defaults` and generated files."""
    import yaml

    return yaml.safe_dump(msgspec.to_builtins(settings), sort_keys=False)


def require_one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError (which `load_settings` reports with its key) unless `value` is allowed."""
    if value not in allowed:
        raise ValueError(f"{key}: {value!r} is not one of {', '.join(allowed)}")


def _refuse_unknown_keys(source: str, prefix: str, tree: object, shape: Any) -> None:
    # msgspec checks unknown keys for its own Structs only, and settings are plain dataclasses.
    if not dataclasses.is_dataclass(shape):
        return
    if not isinstance(tree, dict):
        raise ConfigError(
            source, prefix.rstrip(".") or "document", f"expected a mapping, got {_kind(tree)}"
        )
    hints = get_type_hints(shape)
    for key, value in tree.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), list(hints), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(hints)}"
            raise ConfigError(source, f"{prefix}{key}", "unknown key" + hint)
        _refuse_unknown_keys(source, f"{prefix}{key}.", value, hints[key])


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", int: "a number", bool: "a boolean"}.get(
        type(value), type(value).__name__
    )
