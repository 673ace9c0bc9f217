"""What an analysis has seen, kept on disk look by look, so that a step that was killed goes on where it was.

One folder beside the report, for one trial under one configuration; that of another trial is not looked at. Answers are
appended and never rewritten: a look costs what is new, whatever came before.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from penstock.components.contracts.folder import append, text_sha256, write_atomically
from penstock.components.deployment.analyse_canary.observed import Answer
from penstock.components.evidence.sequential import State

__all__ = ["ANSWERS", "STATE", "Journal"]

ANSWERS, STATE = "answers.jsonl", "state.json"

logger = logging.getLogger(__name__)


class Journal:
    """The answers so far, and the state of the tests that were fed with them.

    Args:
        folder: is made where it is not there.
        trial: names the trial and everything that its evidence depends on.
    """

    def __init__(self, folder: Path, trial: str) -> None:
        self._folder, self._trial = folder, text_sha256(trial)
        self._answers = 0  # in the file, of this trial

    def load(self) -> tuple[list[Answer], State]:
        """Return what is there of this trial; nothing where there is none, or a file is damaged."""
        try:
            found = json.loads((self._folder / STATE).read_bytes())
            if found["trial"] != self._trial:
                logger.info("journal=%s of=another-trial action=begin-anew", self._folder)
                return [], {}
            lines = (self._folder / ANSWERS).read_bytes().splitlines()
            if len(lines) < found["answers"]:
                raise ValueError(f"{len(lines)} answers of {found['answers']}")
            answers = [Answer(*json.loads(line)) for line in lines[:found["answers"]]]  # further ones had no look yet
        except FileNotFoundError:
            return [], {}
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("journal=%s damaged=%r action=begin-anew", self._folder, error)
            return [], {}
        logger.info("journal=%s answers=%d action=go-on", self._folder, len(answers))
        return answers, found["state"]

    def begin(self, answers: Sequence[Answer]) -> None:
        """Keep these answers and no other, from now on."""
        write_atomically(self._folder / ANSWERS, _lines(answers))
        self._answers = len(answers)

    def save(self, new: Sequence[Answer], state: State) -> None:
        """Write down a look: the answers since the last, and the state after them.

        Raises:
            DiskFull: there is no room for it.
        """
        append(self._folder / ANSWERS, _lines(new))
        self._answers += len(new)
        write_atomically(self._folder / STATE, json.dumps(
            {"trial": self._trial, "answers": self._answers, "state": state}))


def _lines(answers: Sequence[Answer]) -> str:
    return "".join(f"{json.dumps(answer)}\n" for answer in answers)
