"""Reads a preset or a YAML file with overrides into a validated `RunConfig`."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import UserError
from configs.schema import RunConfig

PRESETS = Path(__file__).parent

Names = Mapping[str, Sequence[str] | Callable[[str], None]]

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-3 for a string; people mean the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def list_presets() -> dict[str, str]:
    """Name and first comment line of each preset that ships with the package."""
    return {path.stem: path.read_text().splitlines()[0].lstrip("# ") for path in sorted(PRESETS.glob("*.yaml"))}


def load_config(source: str | Path, overrides: Iterable[str] = (), names: Names | None = None) -> RunConfig:
    """The validated configuration of a preset's name or a YAML file, with `section.key=value` overrides.

    `names` is what the registries know: "methods", "masks", "operations", "strategies", …, each a list, or a function
    that raises ValueError for a wrong name.

    Raises:
        UserError: no such preset or file, no valid YAML, an unknown key, a wrong type or an impossible value.
    """
    path = _find(source)
    values = read_mapping(path, "sections like 'search:'")
    values.setdefault("name", path.stem)
    for entry in overrides:
        _apply(values, entry)
    return validate(RunConfig, values, names)


def override(config: RunConfig, overrides: Iterable[str], names: Names | None = None) -> RunConfig:
    """`config` with `section.key=value` overrides.

    Raises:
        UserError: as `load_config`.
    """
    values = config.model_dump(mode="json")
    for entry in overrides:
        _apply(values, entry)
    return validate(RunConfig, values, names)


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """What a YAML file holds; `what` it must hold is said where that is no mapping.

    Raises:
        UserError: unreadable, no valid YAML, or no mapping.
    """
    try:
        values = yaml.load(path.read_text(), _Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold {what}, not a {type(values).__name__}")
    return values


def validate(model: type[Model], values: Mapping[str, Any], names: Names | None = None, origin: str = "") -> Model:
    """`values` as `model`; `origin` begins the line about what is wrong.

    Raises:
        UserError: an unknown key, a wrong type or an impossible value.
    """
    try:
        return model.model_validate(values, context=names)
    except ValidationError as error:
        raise UserError(origin + _describe(error, model)) from None


def dump_config(config: RunConfig) -> str:
    """The whole resolved configuration as YAML text that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=110)


def differences(first: BaseModel, second: BaseModel, prefix: str = "") -> list[str]:
    """Where two configurations differ, as `key: first, second`."""
    found = []
    for key in type(first).model_fields:
        a, b = getattr(first, key), getattr(second, key)
        if isinstance(a, BaseModel) and isinstance(b, BaseModel):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} there, {b} here")
    return found


def _find(source: str | Path) -> Path:
    presets = list_presets()
    if str(source) in presets:
        return PRESETS / f"{source}.yaml"
    path = Path(source)
    if not path.is_file():
        raise UserError(f"config '{source}': no such file or preset; presets are {', '.join(presets)}")
    return path


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"'{override}': must be section.key=value, such as search.epochs=3")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise UserError(f"{key}: '{text}' is no YAML value; quote it as in {key}='\"…\"'") from None
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{key}: {section} is a value, not a section")
    if key == "photos" and isinstance(values.get(last), dict) and isinstance(value, str | list):
        # Folders alone replace the preset's folders, not the rest of the section.
        kept = {name: entry for name, entry in values[last].items() if name not in ("train", "val", "test")}
        value = {**kept, "dirs": value}
    values[last] = value


def _describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault as one line: key, value, what is allowed."""
    fault = error.errors(include_url=False)[0]
    # Which kind of value a union took stands there too, as "(weights)", and that a key is meant, as "[key]".
    places = [part for part in fault["loc"] if not str(part).startswith(("(", "["))]
    *parents, last = places or ("",)
    key = ".".join(map(str, places))
    if fault["type"] == "extra_forbidden":
        fields = _fields(model, [str(part) for part in parents])
        close = difflib.get_close_matches(str(last), fields, 1)
        hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(fields)}"
        return f"{key}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{key}: must be given"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if isinstance(fault["input"], dict | BaseModel):
        # What concerns several sections has no key, and names them itself.
        return f"{key}: {message}" if key else message
    return f"{key} = {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _fields(model: Any, parents: Sequence[str]) -> list[str]:
    for parent in parents:
        model = model.model_fields[parent].annotation
    return list(model.model_fields)
