"""One question that the audit asks: what was done, what was seen, and what that says of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vallum.evaluation.statistics import rate

if TYPE_CHECKING:
    from vallum.evaluation.audit.subject import Subject

Verdict = Literal["passed", "doubtful", "failed"]

# A search that misses one adversarial image in twenty of those that are known to exist is still one to go by: the
# share at which Zimmermann et al. 2022 (arXiv 2206.13991) call their test passed.
TOLERATED = 0.05


@dataclass(frozen=True)
class Seen:
    """What a check says of a model."""

    done: str
    seen: str
    verdict: Verdict
    remedy: str = ""  # what to do, where it did not pass


@dataclass(frozen=True)
class Check:
    name: str
    passes: float  # about how many forward passes it costs per image, in units of one white-box attack, for the bar
    look: Callable[[Subject], Seen | None]  # None where the question does not arise


CHECKS: dict[str, Check] = {}  # in the order in which they are asked


def check(name: str, passes: float) -> Callable[[Callable[[Subject], Seen | None]], Callable[[Subject], Seen | None]]:
    """Register a function that looks at one side of a subject."""

    def keep(look: Callable[[Subject], Seen | None]) -> Callable[[Subject], Seen | None]:
        CHECKS[name] = Check(name, passes, look)
        return look

    return keep


def by_share(bad: int, of: int) -> Verdict:
    """Passed where `bad` is a tolerated share; failed where it is more than that beyond what chance would explain.

    >>> by_share(3, 64), by_share(5, 64), by_share(12, 64)
    ('passed', 'doubtful', 'failed')
    """
    if not of or bad <= TOLERATED * of:
        return "passed"
    return "failed" if rate(bad, of).low > TOLERATED else "doubtful"


def worst(*verdicts: Verdict) -> Verdict:
    return max(verdicts, key=("passed", "doubtful", "failed").index)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
