"""rochdale member: invite, join, apply, leave, be erased. What a member sees of their data is in member_data.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rochdale.client.commands import member_data
from rochdale.client.invitations import read_people, with_codes, written
from rochdale.client.keys import key_hash, secret_for
from rochdale.client.market import Market, read_addresses
from rochdale.client.member_options import (
    OneMember,
    OwnOrMember,
    get_member,
    member_fields,
    member_name,
    wait_for_key,
)
from rochdale.client.names import in_collection, same_request, short
from rochdale.client.options import Limit, RequestId, collect, flat, open_market, parser, request_id_or_new
from rochdale.client.output import as_dict, document, fields, note, progress_bar, say, settings, table
from rochdale.client.refusals import MarketError
from rochdale.client.terms import MEMBER_STATES, count, duration, when
from rochdale.governance.v1 import governance_pb2, membership_pb2

app = typer.Typer(help="Join, invite, leave; see who received your data.", no_args_is_help=True)

# As many as the contract takes at once.
_BATCH = 1000

OfCooperative = Annotated[
    str | None, typer.Option("--cooperative", metavar="ID", help="Of which cooperative. Default: your own.")
]
CooperativeId = Annotated[str, typer.Argument(metavar="COOPERATIVE", help='Its id, such as "valley-health".')]
References = Annotated[
    list[str] | None, typer.Argument(metavar="REFERENCE…", help="Your own references for the persons, never names.")
]
SaveKey = Annotated[
    Path, typer.Option("--save-key", metavar="FILE", help="Where to keep your key; it is made there if it is missing.")
]
Email = Annotated[str | None, typer.Option("--email", help='Where notices are mailed; "" for none.')]


def _text(file: Path | None) -> str:
    if file is None:
        return ""
    return typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")


@app.command()
def add(
    context: typer.Context,
    references: References = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="References, one a line; - for standard input.")
    ] = None,
    cooperative: OfCooperative = None,
    request_id: RequestId = None,
) -> None:
    """Add members by the references your cooperative uses for them. Those who are members already stay so.

    They vote once they have a key of their own: rochdale member invite.

    [dim]$[/] rochdale member add 1042 1043 1044

    [dim]$[/] tail -n +2 randhie.csv | cut -d, -f6 | sort -u | rochdale member add --file -
    """
    given = list(references or ()) + [line.strip() for line in _text(file).splitlines() if line.strip()]
    unique = list(dict.fromkeys(given))
    if not unique:
        raise typer.BadParameter("Name at least one member, as arguments or with --file.")
    market = open_market(context)
    request_id = request_id_or_new(request_id)
    parent = in_collection("cooperatives", cooperative or market.organization)
    added = already = 0
    with progress_bar() as bar:
        task = bar.add_task("Adding members", total=len(unique))
        for number, start in enumerate(range(0, len(unique), _BATCH)):
            request = governance_pb2.AddMembersRequest(
                request_id=same_request(request_id, str(number)),
                parent=parent,
                references=unique[start : start + _BATCH],
            )
            try:
                answer = market.call(market.governance.AddMembers, request)
            except MarketError as error:
                if added or already:
                    error.message += (
                        f" The {added + already} members before are in; run the command again for the rest."
                    )
                raise
            added += answer.added_count
            already += answer.already_member_count
            bar.update(task, completed=min(start + _BATCH, len(unique)))
    document({"added_count": added, "already_member_count": already})
    say(f"{added} joined; {already} were members already.")


@app.command()
def invite(
    context: typer.Context,
    references: References = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help='Lines "reference" or "reference,email"; - for standard input.'),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the codes here, readable for you alone."),
    ] = None,
    life: Annotated[
        int, typer.Option("--life", parser=parser(duration), metavar="TIME", help="How long codes work; at most 90d.")
    ] = 0,
    cooperative: OfCooperative = None,
    request_id: RequestId = None,
) -> None:
    """Invite persons, or give members without a key one. The codes are made here; the market gets their hashes.

    Whoever has a code can join with it once, so hand each to its person alone. Inviting again replaces the code.

    [dim]$[/] rochdale member invite 1042 1043

    [dim]$[/] rochdale member invite --file people.csv --output codes.csv --life 14d
    """
    people = read_people("\n".join([*(references or ()), _text(file)]))
    if not people:
        raise typer.BadParameter("Name at least one person, as arguments or with --file.")
    market = open_market(context)
    request_id = request_id_or_new(request_id)
    parent = in_collection("cooperatives", cooperative or market.organization)
    invited = with_codes(people, output)
    with progress_bar() as bar:
        task = bar.add_task("Inviting", total=len(invited))
        for number, start in enumerate(range(0, len(invited), _BATCH)):
            batch = invited[start : start + _BATCH]
            request = membership_pb2.InviteMembersRequest(
                request_id=same_request(request_id, str(number)),
                parent=parent,
                invitations=[
                    membership_pb2.Invitation(reference=each.reference, code_hash=each.code_hash, email=each.email)
                    for each in batch
                ],
                life_seconds=life,
            )
            market.call(market.membership.InviteMembers, request)
            bar.update(task, completed=start + len(batch))
    codes = [{"reference": each.reference, "email": each.email, "code": each.code} for each in invited]
    document({"invited_count": len(invited), "output": str(output or ""), "invitations": [] if output else codes})
    if output:
        say(f"{count(len(invited), 'person', 'persons')} invited; the codes are in {output}.")
    elif not settings.machine:
        sys.stdout.write(written(invited))
    note(f"Each joins with: rochdale member join {short(parent)} --code CODE --save-key me.key")


@app.command()
def join(
    context: typer.Context,
    cooperative: CooperativeId,
    code: Annotated[str, typer.Option("--code", help="The code you were given.")],
    save_key: SaveKey,
) -> None:
    """Join a cooperative with a code, and get a key of your own. With the same key file, again changes nothing.

    [dim]$[/] rochdale member join valley-health --code K7QD-… --save-key me.key
    """
    anybody = context.with_resource(Market(read_addresses(settings.market_file)))
    secret = secret_for(save_key)
    request = membership_pb2.AcceptInvitationRequest(
        parent=in_collection("cooperatives", cooperative), code=code.strip(), key_hash=key_hash(secret)
    )
    answer = anybody.call(anybody.membership.AcceptInvitation, request)
    works = wait_for_key(context.with_resource(Market(anybody.addresses, secret)))
    document(as_dict(answer) | {"key_file": str(save_key)})
    fields(member_fields(answer) | {"key file": str(save_key)})
    note(f"Keep {save_key}: it is you. Nothing of yours is shared until you say so: rochdale consent give")
    if not works:
        note("The key is not known everywhere yet; try it in a minute.")


@app.command("apply")
def apply_(
    context: typer.Context,
    cooperative: CooperativeId,
    reference: Annotated[str, typer.Option("--reference", help="By which the cooperative knows you.")],
    save_key: SaveKey,
    email: Email = None,
    statement: Annotated[str, typer.Option("--statement", help="What you want to say.")] = "",
) -> None:
    """Apply for membership. Your key works once a steward approved. With the same key file, again changes nothing.

    [dim]$[/] rochdale member apply valley-health --reference 1042 --save-key me.key --statement "I was in the study."
    """
    market = context.with_resource(Market(read_addresses(settings.market_file)))
    request = membership_pb2.ApplyForMembershipRequest(
        parent=in_collection("cooperatives", cooperative),
        reference=reference,
        email=email or "",
        statement=statement,
        key_hash=key_hash(secret_for(save_key)),
    )
    answer = market.call(market.membership.ApplyForMembership, request)
    document(as_dict(answer) | {"key_file": str(save_key)})
    fields(member_fields(answer) | {"key file": str(save_key)})
    note(f"Keep {save_key}. A steward answers; until then the key opens nothing.")


def _answer(context: typer.Context, member: str, approved: bool) -> None:
    market = open_market(context)
    request = membership_pb2.AnswerApplicationRequest(name=member_name(market, member), approved=approved)
    answer = market.call(market.membership.AnswerApplication, request)
    document(as_dict(answer))
    say(f"{short(answer.name)} is {MEMBER_STATES.format(answer.state)}.")


@app.command()
def approve(context: typer.Context, member: OneMember) -> None:
    """Approve an application, as a steward. Again changes nothing.

    [dim]$[/] rochdale member approve mem_01J…
    """
    _answer(context, member, True)


@app.command()
def reject(context: typer.Context, member: OneMember) -> None:
    """Turn an application down, as a steward. Again changes nothing.

    [dim]$[/] rochdale member reject mem_01J…
    """
    _answer(context, member, False)


@app.command("list")
def list_(context: typer.Context, cooperative: OfCooperative = None, limit: Limit = 50) -> None:
    """List members and applications, for the cooperative's stewards.

    [dim]$[/] rochdale member list --limit 10
    """
    market = open_market(context)
    request = governance_pb2.ListMembersRequest(
        parent=in_collection("cooperatives", cooperative or market.organization)
    )
    found = collect(market, market.governance.ListMembers, request, "members", limit)
    found.document("members")
    rows = [
        [
            each.reference,
            MEMBER_STATES.format(each.state) + (", steward" if each.steward else ""),
            "yes" if each.has_key else "no",
            when(each, "join_time"),
            short(each.name),
        ]
        for each in found
    ]
    table(["reference", "state", "own key", "joined", "member"], rows, empty="No members yet: rochdale member invite")


@app.command()
def show(context: typer.Context, member: OwnOrMember = None) -> None:
    """Show your own membership, or as a steward that of a member.

    [dim]$[/] rochdale member show --key-file me.key
    """
    market = open_market(context)
    answer = get_member(market, member_name(market, member))
    document(as_dict(answer))
    fields(member_fields(answer))


@app.command()
def update(
    context: typer.Context,
    email: Email = None,
    affiliation: Annotated[
        list[str] | None,
        typer.Option(
            "--affiliation", help='Domains or LEIs of employers and companies of yours; repeat. "none" for none.'
        ),
    ] = None,
) -> None:
    """Say where notices go, and with whom you are affiliated: you do not vote on what would benefit them.

    [dim]$[/] rochdale member update --email ada@example.org --affiliation hospital.example --key-file me.key
    """
    if email is None and affiliation is None:
        raise typer.BadParameter("Say what to change: --email or --affiliation.")
    market = open_market(context)
    current = get_member(market, market.member)
    affiliations = list(current.affiliations) if affiliation is None else flat(affiliation)
    request = membership_pb2.UpdateMemberRequest(
        name=market.member,
        email=current.email if email is None else email,
        affiliations=[] if affiliations == ["none"] else affiliations,
    )
    answer = market.call(market.membership.UpdateMember, request)
    document(as_dict(answer))
    fields(member_fields(answer))


@app.command()
def leave(context: typer.Context) -> None:
    """Leave the cooperative: your vote ends, your key stops working. Consents you gave stay until you withdraw them.

    [dim]$[/] rochdale consent withdraw --all --key-file me.key    [dim]# first, if you want that too[/]

    [dim]$[/] rochdale member leave --key-file me.key
    """
    market = open_market(context)
    request = membership_pb2.LeaveCooperativeRequest(name=market.member)
    answer = market.call(market.membership.LeaveCooperative, request)
    document(as_dict(answer))
    say(f"You left {market.organization}. What you consented to stays; your part of what was earned stays yours.")


@app.command()
def erase(
    context: typer.Context,
    member: OwnOrMember = None,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="MEMBER", help="The member again, mem_…, so that it is no mistake.")
    ] = "",
) -> None:
    """Erase a member for good: yourself, or as a steward on somebody's request. Every consent is withdrawn.

    What points at the person is overwritten; counts, hashes, tallies and what is owed stay. Nobody can undo it.

    [dim]$[/] rochdale member erase --confirm mem_01J… --key-file me.key
    """
    market = open_market(context)
    name = member_name(market, member)
    if not confirm:
        raise typer.BadParameter(
            f"This cannot be undone. Say --confirm {name.rpartition('/')[2]}.", param_hint="--confirm"
        )
    request = membership_pb2.EraseMemberRequest(name=name, confirm_name=member_name(market, confirm))
    answer = market.call(market.membership.EraseMember, request)
    document(as_dict(answer))
    say(f"{short(answer.name)} is erased. Licensees who received rows are told to delete them.")


@app.command()
def steward(
    context: typer.Context,
    member: OneMember,
    no_longer: Annotated[bool, typer.Option("--no-longer", help="Take it back.")] = False,
) -> None:
    """Make a member with a key a steward, or no longer one. Again changes nothing.

    [dim]$[/] rochdale member steward mem_01J…
    """
    market = open_market(context)
    request = membership_pb2.SetStewardRequest(name=member_name(market, member), steward=not no_longer)
    answer = market.call(market.membership.SetSteward, request)
    document(as_dict(answer))
    say(f"{short(answer.name)} is {'a steward' if answer.steward else 'no steward any more'}.")


app.command()(member_data.uses)
app.command()(member_data.contributions)
app.command()(member_data.notices)
