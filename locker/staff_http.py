"""The kiosk's API for staff: a visit with badge and PIN, and what is done in it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from locker.kiosk import Accepted, Refused
from locker.kiosk_answers_http import as_json, as_verdict, read_request
from locker.kiosk_guard_http import reply
from locker.staffing import (
    DoorRequest,
    EnterRequest,
    FoundRequest,
    NothingMore,
    OutOfServiceRequest,
    RecallRequest,
    Staff,
    VisitView,
)


def staff_routes(staff: Staff, body_seconds: float) -> list[Route]:
    """The routes below ``/api/staff``, each one question to ``staff``.

    What opens a door answers 202 with its session, ``leave`` 200 with an empty object, the rest 200 with the visit as
    it then stands. A refusal is ``locker.kiosk.STATUS`` of its reason; 404 with ``no_such_visit`` says that the visit
    is not known, or over.
    """
    api = _StaffApi(staff, body_seconds)
    acts = (
        *(("recall", api.recall), ("open", api.open), ("clean", api.clean), ("out_of_service", api.out_of_service)),
        *(("clear", api.clear), ("next", api.next), ("found", api.found), ("leave", api.leave)),
    )
    return [
        Route("/enter", api.enter, methods=["POST"]),
        Route("/{visit}", api.look, methods=["GET"]),
        *(Route(f"/{{visit}}/{name}", act, methods=["POST"]) for name, act in acts),
    ]


class _StaffApi:
    """The handlers, one for each route."""

    def __init__(self, staff: Staff, body_seconds: float) -> None:
        self._staff = staff
        self._seconds = body_seconds

    async def enter(self, request: Request) -> Response:
        asked = await read_request(request, EnterRequest, self._seconds)
        return _answer(await self._staff.enter(asked.badge, asked.pin))

    async def look(self, request: Request) -> Response:
        return _answer(await self._staff.look(_visit(request)))

    async def recall(self, request: Request) -> Response:
        asked = await read_request(request, RecallRequest, self._seconds)
        return _answer(await self._staff.recall(_visit(request), asked.parcel))

    async def open(self, request: Request) -> Response:
        asked = await read_request(request, DoorRequest, self._seconds)
        return _answer(await self._staff.open(_visit(request), asked.door))

    async def clean(self, request: Request) -> Response:
        asked = await read_request(request, DoorRequest, self._seconds)
        return _answer(await self._staff.clean(_visit(request), asked.door))

    async def out_of_service(self, request: Request) -> Response:
        asked = await read_request(request, OutOfServiceRequest, self._seconds)
        return _answer(await self._staff.out_of_service(_visit(request), asked.door, asked.on))

    async def clear(self, request: Request) -> Response:
        asked = await read_request(request, DoorRequest, self._seconds)
        return _answer(await self._staff.clear(_visit(request), asked.door))

    async def next(self, request: Request) -> Response:
        await read_request(request, NothingMore, self._seconds)
        return _answer(await self._staff.next(_visit(request)))

    async def found(self, request: Request) -> Response:
        asked = await read_request(request, FoundRequest, self._seconds)
        return _answer(await self._staff.found(_visit(request), asked.door, asked.found, asked.parcel))

    async def leave(self, request: Request) -> Response:
        await read_request(request, NothingMore, self._seconds)
        known = await self._staff.leave(_visit(request))
        return as_json({}) if known else _answer(None)


def _visit(request: Request) -> str:
    return str(request.path_params["visit"])


def _answer(answer: VisitView | Accepted | Refused | None) -> Response:
    if answer is None:
        return reply(404, "no_such_visit")
    return as_json(answer) if isinstance(answer, VisitView) else as_verdict(answer)
