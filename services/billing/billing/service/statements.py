"""RPCs of members' statements: one, a member's all, and as a file."""

from __future__ import annotations

from billing import store
from billing.dividend_views import payable_of, statement_of
from billing.domain.dividend_runs import SHOWN
from billing.service.base import Context
from billing.service.dividend_base import DividendParts, of_member, run_for
from billing.statements import exported
from rochdale.billing.v1 import dividends_pb2 as pb
from rochdale_kit import paging
from rochdale_kit.refusals import not_found


class Statements(DividendParts):
    """What a member got, and how it was worked out."""

    async def GetStatement(self, request: pb.GetStatementRequest, context: Context) -> pb.Statement:
        async with self._database.read() as connection:
            viewer, member_id = await of_member(connection, request.name, steward_too=True)
            run = await run_for(connection, request.name, viewer)
            line = await store.dividend_lines.get(connection, run.id, member_id)
            if line is None:
                raise not_found(request.name)
            return await statement_of(connection, run, line, viewer)

    async def ListStatements(self, request: pb.ListStatementsRequest, context: Context) -> pb.ListStatementsResponse:
        list_name = f"{request.parent}/statements"
        size, position = paging.size(request.page_size), paging.decode(list_name, request.page_token, str)
        async with self._database.read() as connection:
            viewer, member_id = await of_member(connection, request.parent, steward_too=True)
            before = str(position[0]) if position else None
            rows = await store.dividend_lines.page(connection, member_id, SHOWN, before, size + 1)
            shown, token = paging.page(list_name, rows, size, lambda row: (row[0],))
            statements = []
            for run_id, line in shown:
                run = await store.dividend_runs.get(connection, viewer.cooperative, run_id)
                if run is not None:
                    statements.append(await statement_of(connection, run, line, viewer, whole=False))
            payable = await payable_of(connection, viewer.cooperative, member_id)
        return pb.ListStatementsResponse(statements=statements, next_page_token=token, payable=payable)

    async def ExportStatement(self, request: pb.ExportStatementRequest, context: Context) -> pb.ExportStatementResponse:
        async with self._database.read() as connection:
            viewer, member_id = await of_member(connection, request.name, steward_too=True)
            run = await run_for(connection, request.name, viewer)
            line = await store.dividend_lines.get(connection, run.id, member_id)
            if line is None:
                raise not_found(request.name)
            statement = await statement_of(connection, run, line, viewer)
            sources = await store.dividend_runs.sources(connection, run.id)
        return exported(request.format, statement, run, line, sources)
