"""Which proposal a command is about, and what the commands about votes fetch: the proposal, its whole board, the keys."""

from __future__ import annotations

from typing import Annotated

import typer

from rochdale.client.authority import PublicKeys
from rochdale.client.market import Market
from rochdale.client.names import in_cooperative
from rochdale.client.options import collect
from rochdale.client.output import spinner
from rochdale.governance.v1 import governance_pb2, proposals_pb2

OneProposal = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="prop_…, or valley-health/prop_… of another cooperative.")
]
Revision = Annotated[
    int | None, typer.Option("--revision", min=1, help="The revision you read. Default: as it stands now.")
]


def proposal_name(market: Market, text: str) -> str:
    """Resource name of a proposal."""
    return in_cooperative("proposals", text, lambda: market.organization)


def get_proposal(market: Market, text: str) -> proposals_pb2.Proposal:
    return market.call(market.proposals.GetProposal, proposals_pb2.GetProposalRequest(name=proposal_name(market, text)))


def whole_board(market: Market, name: str) -> list[proposals_pb2.BoardEntry]:
    """Every line of a proposal's board, in order."""
    with spinner("Reading the board"):
        request = proposals_pb2.ListBoardRequest(parent=name)
        return list(collect(market, market.proposals.ListBoard, request, "entries", 0))


def governance_keys(market: Market) -> PublicKeys:
    """The keys that sign tallies, receipts and notices."""
    answer = market.call(market.governance.GetKeySet, governance_pb2.GetKeySetRequest())
    return PublicKeys.of_jwks(answer.jwks_json)
