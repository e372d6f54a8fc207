"""Webhook endpoints over HTTP: made, listed, deleted. Leaves out delivery."""

from stripe import params as shapes

from .. import objects
from ..errors import Json, invalid
from ..unit import Unit
from .table import Route, listing, merged_metadata, retrieving, taking


def create(unit: Unit, params: Json, _: str) -> Json:
    """A new endpoint; this answer alone shows its secret."""
    if not params["url"].startswith(("http://", "https://")):
        raise invalid(
            "Invalid URL: An explicit scheme (such as https) must be provided.", param="url", code="url_invalid"
        )
    params["metadata"] = merged_metadata({}, params.get("metadata"))
    endpoint = objects.webhook_endpoint(unit, params["url"], unit.new_id("whsec"), params)
    unit.put("webhook_endpoint", endpoint)
    return {**endpoint, "secret": endpoint["_secret"]}


def delete(unit: Unit, _: Json, ident: str) -> Json:
    """Forgets the endpoint; what is still undelivered to it is dropped."""
    unit.need("webhook_endpoint", ident)
    unit.delete("webhook_endpoint", ident)
    return {"id": ident, "object": "webhook_endpoint", "deleted": True}


_PATH = "/v1/webhook_endpoints"
_TAKEN = taking("connect", "enabled_events", "url", "description", "metadata")
ROUTES = (
    Route("POST", _PATH, shapes.WebhookEndpointCreateParams, _TAKEN, create),
    Route("DELETE", f"{_PATH}/{{id}}", shapes.WebhookEndpointDeleteParams, taking(), delete),
    retrieving("webhook_endpoint", _PATH, shapes.WebhookEndpointRetrieveParams),
    listing("webhook_endpoint", _PATH, shapes.WebhookEndpointListParams),
)
