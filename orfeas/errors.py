"""What a user may read when something cannot be done.

    OrfeasError                 one sentence: what is wrong, the limit, the remedy
    ├── BadRequest              an option is unknown or out of its range
    ├── BadPicture              the uploaded picture cannot be used
    ├── BadMesh                 a mesh given or made cannot be used
    ├── BadWeights              a model file is missing, damaged or unsafe
    ├── EngineUnavailable       the engine asked for cannot run here
    ├── OutOfMemory             the device ran out of memory
    └── Cancelled               the job was stopped on request

Every door (page, API, CLI) shows ``str(error)`` and nothing else. Any other exception is a bug: it is logged with an
id and the user gets a general sentence that names the id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DISK_FULL = "The disk of this server is full: try again later, or tell whoever runs it."


class OrfeasError(Exception):
    """A sentence for the user, and ``code``, a stable word for programs."""

    default_code = "error"

    def __init__(self, message: str, code: str | None = None):
        super().__init__(message)
        self.code = code or self.default_code

    def __reduce__(self):  # the code has to survive a process boundary (ZeroGPU, Ray)
        return type(self), (str(self), self.code)


class BadRequest(OrfeasError):
    default_code = "bad_request"

    def renamed(self, names: Mapping[str, str]) -> BadRequest:
        """The same where an option is called otherwise; ``names``: by what it is called here.

        Only where it stands for the option and for no common word: as what "cannot be" so, or in brackets.
        """
        called = "|".join(map(re.escape, names))
        sentence = re.sub(rf"^({called})(?= cannot be )|(?<=\()({called})(?=\))", lambda at: names[at[0]], str(self))
        return BadRequest(sentence, self.code)


class BadPicture(OrfeasError):
    default_code = "bad_picture"


class BadMesh(OrfeasError):
    default_code = "bad_mesh"


class BadWeights(OrfeasError):
    default_code = "bad_weights"


class EngineUnavailable(OrfeasError):
    default_code = "engine_unavailable"


class OutOfMemory(OrfeasError):
    default_code = "out_of_memory"


class Cancelled(OrfeasError):
    default_code = "cancelled"
