"""What the levers under `/_simulator` share: JSON in, one unit of work, the object as it then stands out.

Leaves out what each of them does, and faults, the clock and the state, which the simulator itself answers.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .errors import Json, StripeError
from .expansion import render
from .unit import Unit

# The unit, what the path names, and the JSON's fields by name; ValueError or StripeError says what was wrong with them.
Act = Callable[..., Json]


def not_json(request: Request) -> Response | None:
    """The refusal (415) of anything but JSON: a foreign web page may post a form to this machine, but not JSON."""
    if request.headers.get("content-type", "").partition(";")[0] == "application/json":
        return None
    return JSONResponse({"error": "Send application/json."}, 415)


def lever(
    new_unit: Callable[[Request], Unit], announce: Callable[[list[Json]], None], act: Act
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that does `act`; it answers 400 to say what was wrong with what was sent, and 404 what there is not."""

    async def pulled(request: Request) -> Response:
        if (refusal := not_json(request)) is not None:
            return refusal
        unit = new_unit(request)
        try:
            done = act(unit, *request.path_params.values(), **await request.json())
        except StripeError as problem:
            return JSONResponse({"error": str(problem)}, problem.status)
        except (TypeError, ValueError) as problem:
            return JSONResponse({"error": str(problem)}, 400)
        announce(unit.commit())
        return JSONResponse(render(unit, done, []))

    return pulled
