"""The error of a run that a signal cut off. Apart from the rest, so that the command line knows it at no cost."""

from penstock.components.contracts.errors import PenstockError

__all__ = ["Interrupted"]


class Interrupted(PenstockError):
    """The run was cut off by a signal, and cleaned up; the text says how to go on."""

    def __init__(self, text: str, signal: int) -> None:
        super().__init__(text)
        self.signal = signal
