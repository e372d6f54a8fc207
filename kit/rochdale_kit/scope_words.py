"""A sharing scope in plain words, for members who vote on one and buyers who license under one. Decides nothing.

Every function here answers for any message, however broken: a sentence about a refusal must never fail itself.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from rochdale.type.v1 import scope_pb2 as pb
from rochdale_kit import purposes
from rochdale_kit.money import format_money

CATEGORIES: Mapping[int, str] = {
    pb.BUYER_CATEGORY_ACADEMIC: "universities and public research institutes",
    pb.BUYER_CATEGORY_HEALTH_NONPROFIT: "health charities",
    pb.BUYER_CATEGORY_COOPERATIVE: "data cooperatives",
    pb.BUYER_CATEGORY_PUBLIC_BODY: "public administrations",
    pb.BUYER_CATEGORY_SME: "small and medium-sized enterprises",
    pb.BUYER_CATEGORY_COMPANY: "other companies",
    pb.BUYER_CATEGORY_LARGE_PLATFORM: "the largest technology platforms",
}
ACTIONS: Mapping[int, str] = {
    pb.USE_ACTION_INSPECT: "inspect the data",
    pb.USE_ACTION_ANALYZE: "analyze it",
    pb.USE_ACTION_EVALUATE_MODEL: "evaluate models",
    pb.USE_ACTION_PRETRAIN: "train models from the start",
    pb.USE_ACTION_FINETUNE: "fine-tune models",
    pb.USE_ACTION_RAG_INPUT: "use it as input for retrieval",
    pb.USE_ACTION_RESEARCH_PUBLISH: "publish research results",
    pb.USE_ACTION_PUBLISH_MODEL: "publish trained models",
    pb.USE_ACTION_COMMERCIALIZE_MODEL: "sell trained models",
}
MODES: Mapping[int, str] = {
    pb.ACCESS_MODE_AGGREGATE: "prepared aggregates",
    pb.ACCESS_MODE_DP_QUERY: "queries with differential privacy",
    pb.ACCESS_MODE_COMPUTE: "code run beside the data",
    pb.ACCESS_MODE_FEDERATED: "federated training",
    pb.ACCESS_MODE_STREAM: "rows read over the network",
    pb.ACCESS_MODE_DOWNLOAD: "whole files downloaded",
}
DUTIES: Mapping[int, str] = {
    pb.DUTY_ATTRIBUTION: "name the cooperative in publications",
    pb.DUTY_DELETE_AT_END: "delete the data when the license ends",
    pb.DUTY_HONOR_DELETIONS: "delete the rows of members who withdraw",
    pb.DUTY_NO_ONWARD_TRANSFER: "pass the data on to nobody",
    pb.DUTY_NO_REIDENTIFICATION: "never try to find out who a member is",
    pb.DUTY_SHARE_ALIKE: "share derived data under the same terms",
    pb.DUTY_REPORT_MODELS: "report the models trained on the data",
    pb.DUTY_PUBLISH_RESULTS: "publish the results openly",
}
EXCLUSIVITIES: Mapping[int, str] = {
    pb.EXCLUSIVITY_UNSPECIFIED: "not exclusive",
    pb.EXCLUSIVITY_NONE: "not exclusive",
    pb.EXCLUSIVITY_FIELD: "exclusive in one field of use",
    pb.EXCLUSIVITY_FULL: "fully exclusive",
}

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def word(value: int, words: Mapping[int, str]) -> str:
    """One enum value in words; a value from a newer contract is given by its number."""
    return words.get(value) or ("not stated" if value == 0 else f"unknown ({value})")


def worded(values: Iterable[int], words: Mapping[int, str]) -> str:
    """Enum values in words, in the contract's order."""
    return listed(word(value, words) for value in sorted(set(values)))


def listed(items: Iterable[str], limit: int = 20) -> str:
    """Texts as one list; what is beyond the limit is counted, never dropped in silence."""
    everything = list(items)
    rest = len(everything) - limit
    text = ", ".join(everything[:limit]) or "nothing"
    return f"{text} and {rest} more" if rest > 0 else text


def moment(stamp: Timestamp) -> str:
    """A time in UTC to the second; one outside the calendar is given in seconds since 1970."""
    try:
        return (_EPOCH + dt.timedelta(seconds=stamp.seconds)).strftime("%Y-%m-%d %H:%M:%S UTC")
    except OverflowError:
        return f"{stamp.seconds} seconds since 1970"


def duration(seconds: int) -> str:
    """A length of time in the largest unit that divides it: "365 days", "90 seconds"."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}{'' if seconds == size else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def versions(first: int, last: int) -> str:
    """An interval of versions: "version 3", "versions 1 to 3", "versions from 2 on"."""
    if last == 0:
        return f"versions from {first} on"
    return f"version {first}" if first == last else f"versions {first} to {last}"


def epsilon(nano: int) -> str:
    """Privacy loss in billionths as a decimal: 1_500_000_000 is "epsilon 1.5"."""
    whole, rest = divmod(abs(nano), 1_000_000_000)
    return f"epsilon {'-' if nano < 0 else ''}{whole}" + (f".{rest:09}".rstrip("0") if rest else "")


def licenses(count: int) -> str:
    """How many licenses at once; 0 is no limit."""
    return "no limit" if count == 0 else f"at most {count} at once"


def describe(scope: pb.SharingScope) -> str:
    """A scope in plain English, one line a subject: what, who, why, how, where, when, at what price."""
    lines = [
        f"Data: {dataset.dataset or 'a dataset without a name'}, "
        f"{versions(dataset.first_version, dataset.last_version)}, columns {listed(dataset.columns, 40)}."
        for dataset in scope.datasets
    ] or ["Data: nothing."]
    lines.append(f"Who: {worded(scope.categories, CATEGORIES)}.")
    lines.append(f"What for: {listed(purposes.label(term) for term in scope.purposes)}.")
    lines.append(f"They may: {worded(scope.actions, ACTIONS)}.")
    spent = epsilon(scope.max_epsilon_nano) if scope.max_epsilon_nano else "none"
    lines.append(f"Access: at most {word(scope.max_mode, MODES)}; privacy loss to spend: {spent}.")
    where = ["anywhere in the world"] if list(scope.territories) == ["WORLD"] else sorted(scope.territories)
    lines.append(f"Where: {listed(where, 40)}.")
    since = f"from {moment(scope.not_before)}" if scope.HasField("not_before") else "from any time"
    until = f"until {moment(scope.not_after)}" if scope.HasField("not_after") else "without an end"
    lines.append(f"When: {since}, {until}; one license lasts at most {duration(scope.max_duration_seconds)}.")
    price = f"at least {format_money(scope.floor_price)}" if scope.HasField("floor_price") else "not stated"
    lines.append(
        f"Price: {price} for a license; licenses: {licenses(scope.max_licenses)}, "
        f"at most {word(scope.max_exclusivity, EXCLUSIVITIES)}."
    )
    lines.append(f"Duties: {worded(scope.duties, DUTIES) if scope.duties else 'none'}.")
    return "\n".join(lines)
