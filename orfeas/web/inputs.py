"""Input components whose values are judged by ORFEAS and not by Gradio."""

from __future__ import annotations

import functools
from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import GradioRootModel, ImageData

from orfeas.errors import BadMesh, BadPicture, BadRequest, OrfeasError
from orfeas.request import GenerationRequest

_NOT_AN_UPLOAD = (
    "The {} must be uploaded: a path or an address of another file is not accepted; in Python, gradio_client uploads"
    ' what you give it as handle_file("{}").'
)
# Of Linux; what is longer names no file, and to follow it takes a time that grows with its square.
PATH_LENGTH = 4096
# What the page calls the options that a visitor can get wrong.
LABELS = {"size_mm": "Longest side, mm", "seed": "Seed", "max_faces": "At most so many faces"}


class _WritesNoStub(type(gr.Image)):
    """Gradio's metaclass writes a .pyi file beside the source of each component class; an import must write nothing."""

    def __new__(cls, name, bases, attrs):
        return ABCMeta.__new__(cls, name, bases, attrs)


class Picture(gr.Image, metaclass=_WritesNoStub):
    """A picture that was uploaded, as the path of its file, undecoded: `orfeas.picture` judges it.

    ``type`` and ``image_mode`` have no effect.

    Gradio 6.31's own `gr.Image` opens any file of the server whose path a caller sends without the upload's metadata,
    and fetches addresses. Here the file must lie in Gradio's upload folder.
    """

    is_template = True  # the browser draws a plain Image
    takes_uploads = True  # `orfeas.web.calls` hands on nothing else

    meaning = ""

    def api_info(self) -> dict[str, Any]:
        return _explained(super().api_info(), self.meaning)

    def example_payload(self) -> Any:
        """For the snippets of "Use via API": Gradio's own example is an address, which is refused here."""
        return {"path": "photo.jpg", "url": "photo.jpg", "meta": {"_type": "gradio.FileData"}}

    example_value = example_payload

    def preprocess(self, payload: Any) -> str | None:
        if payload is None:
            return None
        return str(uploaded_file(payload.path, self.GRADIO_CACHE))


class MeshFile(gr.File, metaclass=_WritesNoStub):
    """A mesh that was uploaded, as the path of its file, unread: `orfeas.mesh.load` judges it.

    Guarded as `Picture` is, whatever Gradio's own `gr.File` does with paths and addresses.
    """

    is_template = True
    takes_uploads = True
    meaning = ""

    @functools.wraps(gr.File.__init__)  # Gradio reads the signature
    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.data_model = ImageData  # FileData answers what was not uploaded with an empty error, before `preprocess`

    def api_info(self) -> dict[str, Any]:
        return _explained(super().api_info(), self.meaning)

    def example_payload(self) -> Any:
        return {"path": "part.stl", "url": "part.stl", "meta": {"_type": "gradio.FileData"}}

    example_value = example_payload

    def preprocess(self, payload: Any) -> str | None:
        if payload is None:
            return None
        return str(uploaded_file(payload.path, self.GRADIO_CACHE, BadMesh, "mesh"))


class _Files(GradioRootModel):
    root: list[ImageData]


class Pictures(gr.File, metaclass=_WritesNoStub):
    """Pictures that were uploaded, as the paths of their files, undecoded; guarded as `Picture` is."""

    is_template = True
    takes_uploads = True
    meaning = ""

    @functools.wraps(gr.File.__init__)  # Gradio reads the signature
    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options, file_count="multiple")
        self.data_model = _Files  # as `MeshFile` does

    def api_info(self) -> dict[str, Any]:
        # written out: MCP's schemas cannot refer to a definition
        files = {"type": "array", "title": "Files", "items": ImageData.model_json_schema()}
        return _explained(files, self.meaning)

    def example_payload(self) -> Any:
        return [{"path": "photo.jpg", "url": "photo.jpg", "meta": {"_type": "gradio.FileData"}}]

    example_value = example_payload

    def preprocess(self, payload: Any) -> list[str] | None:
        if payload is None:
            return None
        return [str(uploaded_file(file.path, self.GRADIO_CACHE)) for file in payload.root]


def default_of(option: str) -> Any:
    """The default of an option of `GenerationRequest`."""
    return GenerationRequest.__dataclass_fields__[option].default


def on_page(error: OrfeasError) -> OrfeasError:
    """The error with options called as the page calls them."""
    if isinstance(error, BadRequest):
        return error.renamed({name: f"“{label}”" for name, label in LABELS.items()})
    return error


def uploaded_file(
    path: str | None, upload_folder: str, kind: type[OrfeasError] = BadPicture, thing: str = "picture"
) -> Path:
    """``path`` as a file within ``upload_folder``, links resolved. Raises `gr.Error` for anything else."""
    try:
        if len(path or "") > PATH_LENGTH:
            raise ValueError
        file = Path(path or "").resolve(strict=True)
        if file.is_file() and file.is_relative_to(Path(upload_folder).resolve()):
            return file
    except (OSError, ValueError):  # ValueError: also a NUL in the path
        pass
    example = {"picture": "photo.jpg", "mesh": "part.stl"}[thing]
    raise refusal(kind(_NOT_AN_UPLOAD.format(thing, example), "not_an_upload"), toast=True)


class Choice(gr.Radio, metaclass=_WritesNoStub):
    """A choice that `orfeas.request` checks, so that page and API say the same sentence."""

    is_template = True
    meaning = ""

    def api_info(self) -> dict[str, Any]:
        return _explained(super().api_info(), self.meaning)

    def preprocess(self, payload: Any) -> Any:
        return payload


class Amount(gr.Number, metaclass=_WritesNoStub):
    """A number that `orfeas.request` checks; minimum and maximum only guide the browser's input field."""

    is_template = True
    meaning = ""

    def api_info(self) -> dict[str, Any]:
        return _explained(super().api_info(), self.meaning)

    def preprocess(self, payload: Any) -> Any:
        return payload


def _explained(info: dict[str, Any], meaning: str) -> dict[str, Any]:
    """``info`` with what the option means, a sentence that "Use via API" shows beside its type."""
    return {**info, "additional_description": meaning}


def refusal(error: Exception | str, toast: bool = False) -> gr.Error:
    """``error`` as Gradio hands it to callers: the sentence, and no trace in the log.

    toast: whether a page shows it in its corner too; ours shows a failed job where the model would be.
    """
    return gr.Error(str(error), title="This did not work", duration=12, visible=toast, print_exception=False)
