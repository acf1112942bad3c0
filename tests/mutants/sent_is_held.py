"""What cloud-sync has sent, and so goes on from, the role agent takes for held: a PUBACK ends it, as it often does."""

from __future__ import annotations

from typing import Any

from edge.event import EventClass
from edge.link import Pull, Request
from edge.link_desk_sql import RoleLinkDesk
from edge.schema_sql import CLASS_NUMBERS


def apply() -> None:
    answer = RoleLinkDesk.answer

    async def trusting(desk: RoleLinkDesk, request: Request) -> Any:
        if isinstance(request, Pull):
            kind = CLASS_NUMBERS[EventClass(request.event_class)]

            def move(transaction: Any) -> None:
                transaction.sql.execute(
                    """UPDATE cursor SET seq = ?1 WHERE class = ?2 AND seq < ?1
                       AND epoch_no = (SELECT no FROM epoch WHERE id = ?3)""",
                    (request.after, kind, request.epoch),
                )

            await desk._journal.write(move)
        return await answer(desk, request)

    RoleLinkDesk.answer = trusting  # type: ignore[assignment,method-assign]
