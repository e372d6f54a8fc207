"""What people type: money, durations, times, words, names, tiers and scopes; and where a server's names may lead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rochdale.catalog.v1 import catalog_pb2
from rochdale.client import output
from rochdale.client.commands.offering import tier
from rochdale.client.money import format_money, parse_money
from rochdale.client.names import in_collection, in_cooperative, same_request, short
from rochdale.client.paths import safe_target, safe_targets
from rochdale.client.profile import table_url, write_profile
from rochdale.client.refusals import MarketError, worded
from rochdale.client.terms import CATEGORIES, MODES, common, count, days, duration, moment, money
from rochdale.client.views import columns_table, sample_table, scope_fields
from rochdale.type.v1 import money_pb2, scope_pb2

RULE = "cooperatives/valley-health/sharingRules/rule_01JABCDEFGHJKMNPQRSTVWXYZ0"


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1200.00 EUR", (120000, "EUR")),
        ("1200 eur", (120000, "EUR")),
        ("0 EUR", (0, "EUR")),
        ("0.5EUR", (50, "EUR")),
        ("12 JPY", (12, "JPY")),
        ("1.234 KWD", (1234, "KWD")),
    ],
)
def test_money_is_read_in_minor_units(text: str, amount: tuple[int, str]) -> None:
    assert parse_money(text) == amount


@pytest.mark.parametrize("text", ["", "EUR", "12", "-1 EUR", "1,200 EUR", "1.234 EUR", "1.5 JPY", "1e3 EUR", "１ EUR"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_money(text)


@given(st.integers(0, 10**14), st.sampled_from(["EUR", "JPY", "KWD", "INR"]))
def test_money_written_is_read_back(amount_minor: int, currency: str) -> None:
    assert parse_money(format_money(amount_minor, currency)) == (amount_minor, currency)


def test_the_client_counts_decimals_as_the_market_does() -> None:
    kit = pytest.importorskip("rochdale_kit.money")
    for code in ("EUR", "JPY", "KWD", "ISK", "UGX", "MGA", "TND", "CLP", "HUF"):
        decimals = len(format_money(1, code).split(" ")[0].partition(".")[2])
        assert decimals == kit.currency(code).exponent if hasattr(kit, "currency") else True


def test_durations_and_times() -> None:
    assert [duration(text) for text in ("900", "15m", "12h", "365d", "2w", "1y")] == [
        900,
        900,
        43_200,
        31_536_000,
        1_209_600,
        31_536_000,
    ]
    assert [days(seconds) for seconds in (900, 43_200, 31_536_000, 7, 0)] == ["15m", "12h", "365d", "7s", "0s"]
    assert moment("2027-01-31").ToJsonString() == "2027-01-31T00:00:00Z"
    assert moment("2027-01-31T02:00:00+02:00").ToJsonString() == "2027-01-31T00:00:00Z"
    for wrong in ("soon", "-1d", "1.5h", ""):
        with pytest.raises(ValueError):
            duration(wrong)
    with pytest.raises(ValueError):
        moment("tomorrow")


def test_words_are_the_contracts_names() -> None:
    assert CATEGORIES.parse("Health_Nonprofit") == scope_pb2.BUYER_CATEGORY_HEALTH_NONPROFIT
    assert CATEGORIES.format(scope_pb2.BUYER_CATEGORY_LARGE_PLATFORM) == "large-platform"
    assert MODES.format(0) == "-"
    with pytest.raises(ValueError, match="choose from academic, health-nonprofit"):
        CATEGORIES.parse("unspecified")


def test_names_are_completed_and_shortened() -> None:
    def own() -> str:
        return "valley-health"

    full = "cooperatives/valley-health/datasets/randhie"
    for text in ("randhie", "valley-health/randhie", full):
        assert in_cooperative("datasets", text, own) == full
    assert short(full) == "valley-health/randhie"
    assert short("licenses/lic_1") == "lic_1"
    assert short("") == ""
    assert in_collection("licenses", "lic_1") == in_collection("licenses", "licenses/lic_1") == "licenses/lic_1"


def test_a_name_that_cannot_be_completed_says_what_is_missing() -> None:
    def nobody() -> str:
        raise MarketError("KEY_MISSING", "No key.")

    with pytest.raises(MarketError) as refused:
        in_cooperative("offerings", "off_1", nobody)
    assert refused.value.reason == "NAME_INCOMPLETE"
    with pytest.raises(MarketError):
        in_cooperative("offerings", "a/b/c", nobody)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        (r"^licenses/lic_[0-9A-Z]{26}$", "The name must look like licenses/lic_01J…."),
        (
            r"^cooperatives/[a-z][a-z0-9-]{1,38}[a-z0-9]/datasets/[a-z][a-z0-9-]{0,60}[a-z0-9]$",
            "The name must look like cooperatives/valley-health/datasets/randhie.",
        ),
        (
            r"^[a-z][a-z0-9-]{1,38}[a-z0-9]$",
            "The name must be 3 to 40 lower-case letters, digits or hyphens, and start with a letter.",
        ),
        (r"^[A-Z]{3}$", r"name: does not match regex pattern `^[A-Z]{3}$`."),
    ],
)
def test_a_name_of_the_wrong_shape_is_told_in_words(pattern: str, sentence: str) -> None:
    told = f"name: does not match regex pattern `{pattern}`."
    assert worded(told, {"rule": "string.pattern", "field": "name"}) == sentence
    assert worded(told, {}) == told


def test_columns_and_samples_read_as_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    statistics = {"low": 1.0, "high": 19.0, "distinct_at_least": 10, "odd_one": 3}
    version = catalog_pb2.Version(
        columns=[catalog_pb2.Column(name="plan", type="long", statistics_json=json.dumps(statistics))]
    )
    columns_table(version)
    assert "about 1 to 19, 10 or more different values, odd one 3" in capsys.readouterr().out
    sample_table(json.dumps([{"city": "Rochdale", "age": 7}]), columns=["city"])
    shown = capsys.readouterr().out
    assert "Rochdale" in shown and "age" not in shown
    sample_table(json.dumps([{"city": "Rochdale"}]), columns=["nothing"])
    assert "No sample." in capsys.readouterr().out
    scope = scope_pb2.SharingScope(
        datasets=[scope_pb2.DatasetScope(dataset="cooperatives/a/datasets/b", columns=[f"c{n}" for n in range(45)])]
    )
    assert scope_fields(scope)["data a/b"].endswith("45 columns: " + ", ".join(f"c{n}" for n in range(12)) +
                                                    " and 33 more, which --json names")  # fmt: skip
    assert [count(number, "row") for number in (0, 1, 20_190)] == ["0 rows", "1 row", "20,190 rows"]


def test_steps_of_one_command_have_ids_of_their_own() -> None:
    assert same_request("01JABCDEFGHJKMNPQRSTVWXYZ0", "1") != same_request("01JABCDEFGHJKMNPQRSTVWXYZ0", "2")
    assert len(same_request("x" * 64, "ingestion")) <= 64


def test_a_tier_says_who_pays_what_under_which_rule() -> None:
    parsed = tier("academic, health-nonprofit=0 EUR@rule_01JABCDEFGHJKMNPQRSTVWXYZ0", "valley-health")
    assert list(parsed.categories) == [1, 2]
    assert parsed.price == money_pb2.Money(amount_minor=0, currency="EUR")
    assert parsed.sharing_rule == RULE
    for wrong in ("academic", "academic=0 EUR", "nobody=0 EUR@rule_1", "academic=free@rule_1", "=0 EUR@rule_1"):
        with pytest.raises(ValueError):
            tier(wrong, "valley-health")


def _scope(**more: object) -> scope_pb2.SharingScope:
    values: dict[str, object] = {
        "datasets": [
            scope_pb2.DatasetScope(
                dataset="cooperatives/valley-health/datasets/randhie", first_version=1, columns=["a", "b", "c"]
            )
        ],
        "purposes": ["AcademicResearch", "ResearchAndDevelopment"],
        "actions": [scope_pb2.USE_ACTION_INSPECT, scope_pb2.USE_ACTION_ANALYZE],
        "max_mode": scope_pb2.ACCESS_MODE_DOWNLOAD,
        "territories": ["WORLD"],
        "max_duration_seconds": 100,
        "max_exclusivity": scope_pb2.EXCLUSIVITY_NONE,
        "duties": [scope_pb2.DUTY_ATTRIBUTION],
    }
    return scope_pb2.SharingScope(**(values | more))  # type: ignore[arg-type]


def test_what_two_rules_have_in_common_is_inside_both() -> None:
    other = _scope(
        datasets=[
            scope_pb2.DatasetScope(
                dataset="cooperatives/valley-health/datasets/randhie",
                first_version=2,
                last_version=5,
                columns=["c", "a"],
            )
        ],
        purposes=["AcademicResearch"],
        max_mode=scope_pb2.ACCESS_MODE_STREAM,
        territories=["FR", "IN"],
        max_duration_seconds=50,
        max_licenses=3,
        not_after=moment("2030-01-01"),
        duties=[scope_pb2.DUTY_SHARE_ALIKE],
    )
    for both in (common([_scope(), other]), common([other, _scope()])):
        assert sorted(both.datasets[0].columns) == ["a", "c"]
        assert (both.datasets[0].first_version, both.datasets[0].last_version) == (2, 5)
        assert list(both.purposes) == ["AcademicResearch"]
        assert both.max_mode == scope_pb2.ACCESS_MODE_STREAM
        assert list(both.territories) == ["FR", "IN"]
        assert (both.max_duration_seconds, both.max_licenses) == (50, 3)
        assert both.not_after == moment("2030-01-01")
        assert sorted(both.duties) == [scope_pb2.DUTY_ATTRIBUTION, scope_pb2.DUTY_SHARE_ALIKE]


def test_rules_with_nothing_in_common_are_named() -> None:
    with pytest.raises(ValueError, match="purposes"):
        common([_scope(purposes=["A"]), _scope(purposes=["B"])])
    with pytest.raises(ValueError, match="datasets"):
        common([_scope(), _scope(datasets=[])])


def test_money_words_make_contract_money() -> None:
    assert money("1.50 EUR") == money_pb2.Money(amount_minor=150, currency="EUR")


@given(st.text(max_size=40))
def test_whatever_the_server_says_stays_in_the_directory(name: str) -> None:
    directory = Path("downloads")
    try:
        target = safe_target(directory, name)
    except MarketError as refused:
        assert refused.reason == "FILE_NAME_UNSAFE"
    else:
        assert target.resolve().is_relative_to(directory.resolve())
        assert target != directory


def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link").symlink_to(tmp_path)
    with pytest.raises(MarketError):
        safe_target(tmp_path / "d", "link/x")


def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    assert len(safe_targets(tmp_path, ["a", "b/a"])) == 2
    with pytest.raises(MarketError):
        safe_targets(tmp_path, ["data/A", "data/a"])


def test_a_profile_is_for_its_owner_and_for_the_client(tmp_path: Path) -> None:
    path = tmp_path / "x.share"
    path.write_text("an older one")
    path.chmod(0o644)
    write_profile(path, "http://127.0.0.1:8443/", "token", 1_800_000_000.0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {
        "shareCredentialsVersion": 1,
        "endpoint": "http://127.0.0.1:8443/delta-sharing/",
        "bearerToken": "token",
        "expirationTime": "2027-01-15T08:00:00.000Z",
    }
    assert table_url(path, "cooperatives/valley-health/datasets/randhie") == f"{path}#valley-health.data.randhie"
    assert [each.name for each in tmp_path.iterdir()] == ["x.share"]


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "\x9b2J", "\u202eevil", "a\rb", "[red]x[/]"])
def test_what_others_wrote_does_not_steer_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["title"], [[text]], title=text)
    output.fields({"title": text})
    output.say(text)
    shown = capsys.readouterr().out
    assert not set("\x1b\x9b\u202e\r") & set(shown)
    assert "[red]" not in text or shown.count("[red]x[/]") == 4
