"""YAML to what JSON can say. PyYAML alone raises whatever a wrong scalar trips over, and its C parser can crash."""

from __future__ import annotations

from functools import cache
from typing import Any

# Deeper than any document of ours; PyYAML's C composer recurses without a check and ends the process at some 25,000.
MAX_DEPTH = 200


class YamlError(ValueError):
    """The text is not YAML that we take; the message is one line, a predicate of what the text is."""


_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"


def parse_yaml(content: bytes, *, aliases: bool = True) -> Any:
    """Return the document in `content`; a date stays the text that it is in JSON.

    Shapes:  aliases: whether `*name` is taken. With them a page of text can expand to gigabytes.
    Raises:  YamlError.
    """
    import yaml  # late: costs memory that most processes do not need to have spent twice

    try:
        _check_events(content, aliases=aliases)
        return yaml.load(content, Loader=_loader())  # noqa: S506 - a safe loader's subclass
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as exc:
        # The last three: a scalar that contradicts its tag (`!!bool x`, `!!int ""`, `!!timestamp x`).
        problem = " ".join(str(exc).split()) or "a value contradicts its tag"
        if (
            "nesting depth" in problem
        ):  # the library's own limit, far above ours, is met before an event of it comes
            raise YamlError(_TOO_DEEP) from exc
        raise YamlError(f"is not YAML: {problem}") from exc


def _check_events(content: bytes, *, aliases: bool) -> None:
    import yaml

    depth = 0
    for event in yaml.parse(content, Loader=_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlError(_TOO_DEEP)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent) and not aliases:
            raise YamlError("has aliases, which are not accepted")


@cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [entry for entry in entries if not entry[0].endswith(":timestamp")]
        for first, entries in base.yaml_implicit_resolvers.items()
    }
    return type("Loader", (base,), {"yaml_implicit_resolvers": resolvers})
