"""What a YAML file says about an inpainting model of the user's: how it is called and what it takes and gives.

Nothing is loaded here. docs/adapters.md explains each key.
"""

import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from configs.errors import UserError
from configs.load import read_mapping, validate
from configs.schema import Section
from forgeries.methods.method import NAME, Speed

PLACEHOLDERS = ("{image}", "{mask}", "{output}")


def _sides(value: Any) -> list[int]:
    """[height, width] of a side or two."""
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and side >= 8 for side in sides):
        raise ValueError("must be a side in pixels, or [height, width], each at least 8")
    return sides


def _interval(value: list[float]) -> list[float]:
    if value[0] >= value[1]:
        raise ValueError("must be [low, high] with low below high")
    return value


def _inputs(value: Any) -> Any:
    contents = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(contents, list) or not contents or not all(
            isinstance(content, str) and re.fullmatch(r"(image|mask)(\+(image|mask))*", content)
            for content in contents):
        raise ValueError("must be what the model is given, such as [image, mask], [mask+image] for one input of "
                         "4 channels, or by the names of its inputs {x: image, hole: mask}")
    return value


def _words(value: list[str]) -> list[str]:
    missing = [word for word in PLACEHOLDERS if not any(word in entry for entry in value)]
    if missing:
        raise ValueError(f"must contain {' and '.join(missing)}, which stand for files")
    return value


Side = Annotated[int, Field(ge=8)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Level = Annotated[int, Field(ge=0, le=255)]
Interval = Annotated[list[Number], Field(min_length=2, max_length=2), AfterValidator(_interval)]
Device = Literal["cpu", "cuda"]


class Declaration(Section):
    """What all types have: how the method is shown, and the sizes of pictures that the model takes."""

    package: ClassVar[str | None] = None
    """What must be installed."""
    install: ClassVar[str] = ""

    type: str
    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    title: str = ""
    source: str = "given by the user"
    kind: str = "learned"
    speed: Speed = "slow"
    composite: bool = True
    blind: bool = True
    deterministic: bool = True
    size: Annotated[list[int], BeforeValidator(_sides)] | None = None
    shorter_side: Side | None = None
    multiple: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _one_size(self) -> "Declaration":
        if self.size and self.shorter_side:
            raise ValueError("give size, which keeps no aspect, or shorter_side, which does, not both")
        return self

    def files(self, folder: Path) -> list[Path]:
        """Files beside the declaration (in `folder`) on which the result depends, whether they exist or not."""
        return []

    def lacking(self, folder: Path) -> str | None:
        """What is missing to use the model, as the end of a line; nothing is loaded."""
        if self.package and not find_spec(self.package):
            return f"type = '{self.type}': needs {self.package}; install it with: {self.install}"
        return None


class Tensors(Declaration):
    """A network in a file, from tensors to a tensor."""

    file: str
    inputs: Annotated[Any, AfterValidator(_inputs)] = Field(default=["image", "mask"])
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    range: Interval = Field(default=[0, 1])
    blank: Number | None = None
    hole: Number = 1
    known: Number = 0
    output: Annotated[int, Field(ge=0)] | str = 0
    output_range: Interval | None = None
    device: Device = "cpu"

    @model_validator(mode="after")
    def _polarity(self) -> "Tensors":
        if self.hole == self.known:
            raise ValueError(f"hole = {self.hole:g}: known has the same value; give both")
        return self

    def files(self, folder: Path) -> list[Path]:
        return [_place(folder, self.file)]

    def lacking(self, folder: Path) -> str | None:
        if not _place(folder, self.file).is_file():
            return f"file = '{self.file}': no such file; give a path from the folder of this YAML file"
        return super().lacking(folder)


class OnnxModel(Tensors):
    """An ONNX file. Its inputs say their own types."""

    package, install = "onnxruntime", 'pip install -e ".[onnx]"'

    type: Literal["onnx"]

    def files(self, folder: Path) -> list[Path]:
        # Weights of large models stand in a file beside it.
        path = _place(folder, self.file)
        return [path, *(other for other in (path.with_name(f"{path.name}.data"), path.with_name(f"{path.name}_data"))
                        if other.exists())]


class TorchScriptModel(Tensors):
    """A TorchScript archive."""

    package, install = "torch", "pip install torch"

    type: Literal["torchscript"]
    dtype: Literal["float32", "float16", "uint8"] = "float32"


class DiffusersPipeline(Declaration):
    """An inpainting pipeline of `diffusers`; what is not given is the pipeline's own."""

    package, install = "diffusers", "pip install diffusers transformers accelerate"

    type: Literal["diffusers"]
    kind: str = "diffusion"
    model: str
    download: bool = False
    revision: str | None = None
    variant: str | None = None
    prompt: str = ""
    negative_prompt: str | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    guidance: Annotated[Number, Field(ge=0)] | None = None
    strength: Annotated[Number, Field(gt=0, le=1)] | None = None
    device: Device = "cpu"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    deterministic: bool = False
    multiple: Annotated[int, Field(ge=1)] = 8

    def place(self, folder: Path) -> str:
        """A folder of the user's, or else the name of a repository."""
        path = _place(folder, self.model)
        return str(path) if path.is_dir() else self.model

    def files(self, folder: Path) -> list[Path]:
        return sorted(path for path in _place(folder, self.model).rglob("*") if path.is_file())


class PythonFunction(Declaration):
    """A function of the user's with the signature of `forgeries.methods.Fill`."""

    type: Literal["callable"]
    callable: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    path: str = "."
    deterministic: bool = False

    def place(self, folder: Path) -> Path:
        """The folder that the function's module is looked for in first."""
        return _place(folder, self.path)

    def files(self, folder: Path) -> list[Path]:
        stem = self.place(folder) / self.callable.partition(":")[0].replace(".", "/")
        return [path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]


class Command(Declaration):
    """A program that reads a picture and a mask and writes a picture."""

    type: Literal["command"]
    command: Annotated[list[str], Field(min_length=1), AfterValidator(_words)]
    timeout: Annotated[Number, Field(gt=0)] = 120
    hole: Level = 255
    known: Level = 0

    @model_validator(mode="after")
    def _polarity(self) -> "Command":
        if self.hole == self.known:
            raise ValueError(f"hole = {self.hole}: known has the same value; give both")
        return self

    def files(self, folder: Path) -> list[Path]:
        return [path for path in (_place(folder, word) for word in self.command) if path.is_file()]

    def lacking(self, folder: Path) -> str | None:
        program = self.command[0]
        found = _place(folder, program).is_file() if "/" in program else shutil.which(program)
        return None if found else f"command = '{program}': no such program"


TYPES: Mapping[str, type[Declaration]] = {
    "onnx": OnnxModel, "torchscript": TorchScriptModel, "diffusers": DiffusersPipeline, "callable": PythonFunction,
    "command": Command}


def read_declaration(path: Path) -> Declaration:
    """The declaration in a YAML file; whether its model is there is not looked at.

    Raises:
        UserError: no such file, or a wrong key or value; the line begins with the file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; a method's YAML file is named by its path")
    values = read_mapping(path, "keys like 'name:'")
    kind = values.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise UserError(f"{path}: type{f' = {kind!r}' if 'type' in values else ''}: must be one of {', '.join(TYPES)}")
    return validate(TYPES[kind], values, origin=f"{path}: ")


def _place(folder: Path, text: str) -> Path:
    return folder / Path(text).expanduser()
