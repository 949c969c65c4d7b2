"""Whose account at a cloud a run was rented in, beside the one that is asked now: another lists nothing of a box that bills.

An account is named by the cloud's own id of it. Where the API tells none, by a mark of the key, a short hash: the same key is
the same account, another one may be of it as well.
"""

from __future__ import annotations

from collections.abc import Callable

from provision.clouds.programs import CLOUDS
from provision.clouds.programs.accounts.marks import MARK
from provision.seam import Answer, Claim, Owned


def is_id(account: str | None) -> bool:
    """Whether it names an account to a person."""
    return account is not None and not account.startswith(MARK)


def same_account(then: str | None, now: str | None) -> Answer:
    """Whether both are one account; another key of what tells no id may be of the same."""
    if then is not None and then == now:
        return Answer.YES
    return Answer.NO if is_id(then) and is_id(now) else Answer.UNKNOWN


def other_account_words(provider: str, run_id: str, then: str | None, now: str | None, *, command: str = "down") -> str | None:
    """That a run's box is in another account than these credentials are of, and what to do; None where that is not known."""
    if same_account(then, now) is not Answer.NO:
        return None
    row = CLOUDS[provider]
    return (
        f"Run {run_id} was rented in the {row.account_is} {then} of {row.title}, and the credentials here are of {now}, which "
        f"lists nothing of it: use those of {then} ({', '.join(row.account_variables)}), then `rentune {command} {run_id}`."
    )


class Whose:
    """The account that the credentials here are of, and what it may see of a run that was rented in one."""

    def __init__(self, provider: str, told: Callable[[], str | None]) -> None:
        self._provider = provider
        self._told = told
        self._account: str | None = None

    def account(self) -> str | None:
        """Asked until it is told: no other one's credentials come to this process later."""
        if self._account is None:
            try:
                self._account = self._told()
            except Exception:  # noqa: BLE001 - whoever can't be told, by an SDK either, is not known
                return None
        return self._account

    def id(self) -> str | None:
        """Its id, as the cloud tells it; None where there is but a mark, or nobody knows."""
        account = self.account()
        return account if is_id(account) else None

    def elsewhere(self, claim: Claim) -> str | None:
        """That the run is another account's, in a sentence; None where it is not, or nobody knows."""
        return other_account_words(self._provider, claim.run_id, claim.account, self.account())

    def unproven(self, claim: Claim) -> str:
        """That nothing is listed of what is known to have been there, in an account that is not known to be the run's."""
        row = CLOUDS[self._provider]
        return (
            f"{row.title} lists nothing of run {claim.run_id}, and whether the credentials here are of its {row.account_is} is "
            f"not known: use those that it was rented with ({', '.join(row.account_variables)}), then "
            f"`rentune down {claim.run_id}`."
        )

    def is_run_s(self, claim: Claim) -> bool:
        """Whether it is known to be the one that the run was rented in."""
        return same_account(claim.account, self.account()) is Answer.YES

    def doubts(self, claim: Claim, listed: Owned, *, told_s: float) -> bool:
        """Whether a list that shows nothing may be another account's.

        Not where this is the run's, nor once its cloud has surely ended its box (`told_s`: now, by the cloud's clock).
        """
        if self.is_run_s(claim) or listed.resources or listed.kept:
            return False
        return claim.gone_by_s is None or told_s < claim.gone_by_s
