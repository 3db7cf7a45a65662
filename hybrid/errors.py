"""Every error that Hybrid raises on purpose.

::

    HybridError
    ├── ConfigError           hybrid.yaml, an override or an argument is wrong
    ├── DocumentError         documents cannot be read, or none is left
    ├── QuestionError         a question file is malformed
    ├── ModelError            a model name cannot be resolved or its files are broken
    ├── EndpointError         a teacher's server cannot be reached, refuses the call or sends no usable reply
    ├── DependencyError       an optional package is missing; names the extra
    ├── ArtefactError         an artefact is missing, stale or damaged
    ├── LockedError           another command works on the same project
    ├── TrainingError         nothing to train on, or the training data cannot be used
    └── EvaluationError       nothing to compare, or the answers do not fit the questions

The command line prints the message of a `HybridError` without a traceback and exits with `exit_code`. A disk that is
full remains the `OSError` that Python raises for it; `writing` sees to it that libraries raise no other.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

_PROBE = 1 << 20  # bytes, more than a full disk has left


class HybridError(Exception):
    """Base of all errors a user can act on; the message names the value, the file and the way out."""

    exit_code = 1


class ConfigError(HybridError):
    """The configuration or an argument is wrong."""

    exit_code = 2


class DocumentError(HybridError):
    """Documents cannot be read, or no readable document is left."""


class QuestionError(HybridError):
    """A question file is malformed."""


class ModelError(HybridError):
    """A model cannot be found, or its files are damaged."""


class EndpointError(HybridError):
    """A teacher's server cannot be reached, refuses the call or sends no usable reply."""


class DependencyError(HybridError, ImportError):
    """An optional package is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package!r} is not installed; run: pip install 'hybrid-rag[{extra}]'")


class ArtefactError(HybridError):
    """An artefact of the project is missing, stale or damaged."""


class LockedError(HybridError):
    """Another command works on the same project."""


class TrainingError(HybridError):
    """The training data cannot be used."""


class EvaluationError(HybridError):
    """There is nothing to compare, or answers and questions do not fit together."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Has a write that fails inside the block, as on a full disk, raise an `OSError` with its number and a file name.

    Of libraries, safetensors hides the number in its text, and NumPy and torch do not tell it at all: then it is that
    of writing another file beside. An error that no write explains is raised as it is.

    Args:
        path: The file or folder that is written, which is named where the error names none.
    """
    try:
        yield
    except HybridError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            raise
        number = _error_number(error) or _cannot_write(next(p for p in (path, *path.absolute().parents) if p.is_dir()))
        if not number:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _error_number(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None


def _cannot_write(folder: Path) -> int | None:
    """The number of the error that stops a file of some size from being written; None if it can be written."""
    try:
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None
