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

The command line prints the message of a `HybridError` without a traceback and exits with `exit_code`.
"""


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
