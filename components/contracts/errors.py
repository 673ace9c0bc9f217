"""The errors every part of penstock raises, one tree.

    PenstockError
    ├── ConfigError          the user's configuration is wrong: nothing has started
    ├── ContractError        a folder is not what its producer promised: a retry will not help
    ├── StepError            a step did its work and the answer is no: bad data, diverged training, a lost verdict
    ├── DiskFull             nothing more can be written there: with room made, the same step succeeds
    ├── ControlError         in `control.base`: what a control plane can answer
    ├── Refusal              in `inference.protocol`: a request that gets no prediction, with its HTTP status
    └── ServiceError         in `inference.client`: a service that did not answer with predictions

Knows nothing of where they are raised. `str(error)` says what is wrong, the value given and what to do.
"""

__all__ = ["ConfigError", "ContractError", "DiskFull", "PenstockError", "StepError"]


class PenstockError(Exception):
    """Something a user can act on; the command line prints its text without a traceback."""


class ConfigError(PenstockError, ValueError):
    """The configuration names an unknown field, or a value that cannot be."""


class ContractError(PenstockError, ValueError):
    """A folder breaks its contract: the producer is at fault, a retry will not help."""


class StepError(PenstockError):
    """A step cannot succeed with these inputs: no retry will help, the text says what would."""


class DiskFull(PenstockError):
    """A file could not be written for want of room; what was begun has been removed."""
