"""Whose a job is: its token is the key to it and, where there are accounts, in the hand of its account only.

Each function is given the account of who asks, "" where there are none, and says whether they may have it: not if it is
another account's. Of what is not there nobody need be told more. What was made before there were accounts is open to
whoever has its token. Raises `OrfeasError` if the index cannot be asked now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orfeas.web.callers import ACCOUNT

if TYPE_CHECKING:
    from orfeas.web.groups import Groups
    from orfeas.web.jobs import Jobs


def account_of(scope: Mapping[str, Any]) -> str:
    """The name of who sent an ASGI request, "" where there are no accounts."""
    return scope.get(ACCOUNT, "")


def may_have_job(jobs: Jobs, token: str, account: str) -> bool:
    return not account or _is_open(jobs.find(token), account)


def may_have_group(groups: Groups, token: str, account: str) -> bool:
    return not account or _is_open(groups.find(token), account)


def may_have_result(jobs: Jobs, result_id: str, account: str) -> bool:
    """Its files are for whoever was given their address; this is for making it again."""
    library = jobs.studio.library
    if not account or library.find(result_id) is None:
        return True
    with library.explain_index_errors():
        stored = library.index.find_result(result_id)
    return stored is None or may_have_job(jobs, stored.owner, account)


def _is_open(found: Any, account: str) -> bool:
    return found is None or found.account in ("", account)
