"""Events over HTTP: reading only. Leaves out their delivery."""

from fnmatch import fnmatchcase

from stripe import params as shapes

from ..errors import Json
from .table import listing, retrieving


def _of_type(event: Json, wanted: Json) -> bool:
    types = wanted.get("types") or ([wanted["type"]] if "type" in wanted else ["*"])
    return any(fnmatchcase(event["type"], pattern) for pattern in types)


ROUTES = (
    retrieving("event", "/v1/events", shapes.EventRetrieveParams, connected=True),
    listing("event", "/v1/events", shapes.EventListParams, keep=_of_type, also=("type", "types"), connected=True),
)
