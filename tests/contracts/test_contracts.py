"""Contracts and code speak with one tongue: every reason is published once, and every RPC says what a retry does."""

from __future__ import annotations

import ast
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from rochdale_kit.refusals import Kind

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "reference" / "refusals.md"
PRODUCT = ("kit", "services", "client", "local")
REASON = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
# Single words are states and rules, such as AGREED or DENY; no reason that an RPC names is a single word.
NAMED = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b")


# The published table


@cache
def rows() -> list[list[str]]:
    """The table's rows: reason, kind, who says it, what it means, what to do."""
    lines = re.findall(r"^\| (`[A-Z].*) \|$", TABLE.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def published() -> dict[str, str]:
    """reason -> kind"""
    return {row[0].strip("`"): row[1] for row in rows()}


# Reasons in the code


@dataclass(frozen=True)
class Made:
    """A reason that the code gives somebody, where, and of which kinds as far as that can be read there."""

    reason: str
    where: str
    kinds: frozenset[str]


def of_parameters(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> int | None:
    """At which place a function takes a reason, not counting self."""
    names = [argument.arg for argument in (*definition.args.posonlyargs, *definition.args.args)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    return names.index("reason") if "reason" in names else None


def of_fields(definition: ast.ClassDef) -> int | None:
    """At which place a class, a dataclass included, takes a reason."""
    for part in definition.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return of_parameters(part)
    fields = [name_of(part.target) for part in definition.body if isinstance(part, ast.AnnAssign)]
    return fields.index("reason") if "reason" in fields else None


def name_of(node: ast.expr) -> str:
    """`Refusal` of Refusal, `fail` of ingestions.fail."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def reasons_in(node: ast.expr) -> Iterator[str]:
    """Every text an expression may become that has the form of a reason: of `"A" if late else "B"` both."""
    if isinstance(node, ast.IfExp):
        yield from reasons_in(node.body)
        yield from reasons_in(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from reasons_in(value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and REASON.fullmatch(node.value):
        yield node.value


def kinds_in(call: ast.Call) -> frozenset[str]:
    """The kinds a call names. Those of a Refusal that names none are INVALID, of require_inside STATE."""
    nodes = [node for argument in call.args for node in ast.walk(argument)]
    named = {node.attr for node in nodes if isinstance(node, ast.Attribute) and name_of(node.value) == "Kind"}
    unnamed = {"Refusal": {"INVALID"}, "require_inside": {"STATE"}}.get(name_of(call.func), set())
    return frozenset(named or unnamed)


@cache
def trees() -> dict[str, ast.Module]:
    files = [path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files}


@cache
def makers() -> dict[str, set[int]]:
    """Whatever takes a reason, by name, and at which place: Refusal, MarketError, Flaw, require_inside and the like.

    They are found rather than listed, so that a helper written tomorrow is looked at, too.
    """
    found: dict[str, set[int]] = defaultdict(set)
    for tree in trees().values():
        for node in ast.walk(tree):
            place = None
            if isinstance(node, ast.ClassDef):
                place = of_fields(node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                place = of_parameters(node)
            if place is not None:
                found[node.name].add(place)  # type: ignore[attr-defined]  # only definitions have a place
    return dict(found)


def made_by(node: ast.AST, where: str) -> Iterator[Made]:
    """The reasons that one statement or expression gives: to a maker, to a variable, or as the answer of a function."""
    given: list[ast.expr] = []
    kinds: frozenset[str] = frozenset()
    if isinstance(node, ast.Call):
        places = makers().get(name_of(node.func), set())
        given = [argument for place, argument in enumerate(node.args) if place in places]
        given += [keyword.value for keyword in node.keywords if (keyword.arg or "").endswith("reason")]
        kinds = kinds_in(node)
    elif isinstance(node, ast.Assign) and name_of(node.targets[0]).endswith("reason"):
        given = [node.value]
    elif isinstance(node, ast.FunctionDef) and node.name.endswith("reason"):
        given = [part.value for part in ast.walk(node) if isinstance(part, ast.Return) and part.value]
    for expression in given:
        for reason in reasons_in(expression):
            yield Made(reason, f"{where}:{expression.lineno}", kinds)


@cache
def made() -> list[Made]:
    return [one for where, tree in trees().items() for node in ast.walk(tree) for one in made_by(node, where)]


# The contracts


@dataclass(frozen=True)
class Rpc:
    """comment: the prose above it, on one line."""

    name: str
    comment: str
    has_request_id: bool


@cache
def rpcs() -> list[Rpc]:
    """Every RPC, read from the contracts by the compiler itself, comments included."""
    folder = ROOT / "proto"
    files = sorted(str(path.relative_to(folder)) for path in (folder / "rochdale").rglob("*.proto"))
    contracts = compiled(folder, files)
    fields = {
        f".{file.package}.{message.name}": {field.name for field in message.field}
        for file in contracts.file
        for message in file.message_type
    }
    found = []
    for file in contracts.file:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        for at, service in enumerate(file.service):
            for number, method in enumerate(service.method):
                # 6: the services of a file; 2: the methods of a service.
                comment = " ".join(comments.get((6, at, 2, number), "").split())
                found.append(Rpc(f"{service.name}.{method.name}", comment, "request_id" in fields[method.input_type]))
    return found


def compiled(folder: Path, files: list[str]) -> FileDescriptorSet:
    # The compiler writes to a file and nowhere else.
    with tempfile.NamedTemporaryFile() as written:
        own = Path(grpc_tools.__file__).parent / "_proto"
        options = ["--include_source_info", "--include_imports", f"--descriptor_set_out={written.name}"]
        assert protoc.main(["protoc", f"-I{folder}", f"-I{own}", *options, *files]) == 0
        return FileDescriptorSet.FromString(Path(written.name).read_bytes())


by_name = pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.name)


def test_there_is_something_to_look_at() -> None:
    assert len(rpcs()) >= 60
    assert len(made()) >= 200
    assert {"Refusal", "IngestRefused", "MarketError", "Flaw", "Reject", "require_inside"} <= set(makers())


def test_a_row_says_all_five_things_about_one_reason() -> None:
    assert not [row for row in rows() if len(row) != 5 or not all(row)]
    assert not [reason for reason, count in Counter(row[0] for row in rows()).items() if count > 1]


def test_every_reason_in_the_code_is_published() -> None:
    assert not {one.reason: one.where for one in made() if one.reason not in published()}


def test_every_published_reason_is_in_the_code() -> None:
    assert not set(published()) - {one.reason for one in made()}


def test_a_reason_is_published_with_the_codes_it_comes_with() -> None:
    wrong = []
    for one in made():
        said = published().get(one.reason, "")
        # What an operator finds parked, or a steward in an ingestion, has no code and no status.
        if not re.search(r"[A-Z_]+ / \d", said):
            continue
        wrong += [f"{one.where} {one.reason} {kind}" for kind in one.kinds if Kind[kind].code.name not in said]
    assert not wrong


@by_name
def test_an_rpc_names_only_published_reasons(rpc: Rpc) -> None:
    assert rpc.comment
    assert not set(NAMED.findall(rpc.comment)) - set(published())


@by_name
def test_an_rpc_with_a_request_id_says_what_a_retry_does(rpc: Rpc) -> None:
    assert not rpc.has_request_id or re.search(r"\b(retry|again)\b", rpc.comment)
