"""Stop the run where a verdict is no.

A judging step succeeds, so that its report is kept; this one fails in its place. Judges nothing itself.
"""

from pathlib import Path

from penstock.components.contracts.errors import StepError
from penstock.components.contracts.reports import load_verdict

__all__ = ["run"]

GOOD = frozenset({"pass", "first", "promote"})


def run(report: Path | str) -> None:
    """Let a good verdict pass.

    Raises:
        StepError: the verdict is no; the text is its reason.
        ContractError: there is no report.
    """
    verdict, reason = load_verdict(report)
    if verdict not in GOOD:
        raise StepError(f"verdict {verdict}: {reason}")
