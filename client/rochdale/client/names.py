"""Resource names from what people type: short ids, pasted names, and the caller's own organization filled in."""

from __future__ import annotations

from collections.abc import Callable

from rochdale.client.refusals import MarketError

# Given only when it is needed, because asking who one is takes a call.
Own = Callable[[], str]


def short(name: str) -> str:
    """What a table shows and every command takes back: "valley-health/off_…" for what belongs to a cooperative, else the id."""
    parts = name.split("/")
    if parts[0] == "cooperatives" and len(parts) == 4:
        return f"{parts[1]}/{parts[3]}"
    return parts[-1]


def in_collection(collection: str, text: str) -> str:
    """ "licenses/lic_…" of "lic_…" or of itself."""
    return text if text.startswith(f"{collection}/") else f"{collection}/{text}"


def in_cooperative(collection: str, text: str, own: Own) -> str:
    """ "cooperatives/{cooperative}/{collection}/{id}" of itself, of "{cooperative}/{id}", or of the id of one's own."""
    parts = text.split("/")
    if len(parts) == 4 and parts[0] == "cooperatives" and parts[2] == collection:
        return text
    if len(parts) == 2:
        return f"cooperatives/{parts[0]}/{collection}/{parts[1]}"
    if len(parts) == 1:
        try:
            return f"cooperatives/{own()}/{collection}/{text}"
        except MarketError as error:
            if error.reason != "KEY_MISSING":
                raise
    raise MarketError(
        "NAME_INCOMPLETE",
        f"{text!r} does not say of which cooperative; write it like valley-health/{text}.",
        {"name": text},
    )


def same_request(request_id: str, step: str) -> str:
    """The request id of one step of a command that takes several, the same whenever the command is run again."""
    return f"{request_id[:50]}-{step}"
