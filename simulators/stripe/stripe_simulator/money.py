"""Currencies, least amounts and fees as Stripe counts them, in whole minor units. Leaves out conversion."""

from .errors import StripeError, invalid

# Currencies Stripe presents in whole units, so that 500 means 500 and not 5.00.
ZERO_DECIMAL = frozenset(
    {"bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"}
)
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})

CURRENCIES = frozenset({
    "usd", "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn", "bam", "bbd", "bdt", "bgn",
    "bhd", "bif", "bmd", "bnd", "bob", "brl", "bsd", "bwp", "byn", "bzd", "cad", "cdf", "chf", "clp", "cny",
    "cop", "crc", "cve", "czk", "djf", "dkk", "dop", "dzd", "egp", "etb", "eur", "fjd", "fkp", "gbp", "gel",
    "gip", "gmd", "gnf", "gtq", "gyd", "hkd", "hnl", "htg", "huf", "idr", "ils", "inr", "isk", "jmd", "jod",
    "jpy", "kes", "kgs", "khr", "kmf", "krw", "kwd", "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "mad",
    "mdl", "mga", "mkd", "mmk", "mnt", "mop", "mur", "mvr", "mwk", "mxn", "myr", "mzn", "nad", "ngn", "nio",
    "nok", "npr", "nzd", "omr", "pab", "pen", "pgk", "php", "pkr", "pln", "pyg", "qar", "ron", "rsd", "rub",
    "rwf", "sar", "sbd", "scr", "sek", "sgd", "shp", "sle", "sos", "srd", "std", "szl", "thb", "tjs", "tnd",
    "top", "try", "ttd", "twd", "tzs", "uah", "ugx", "uyu", "uzs", "vnd", "vuv", "wst", "xaf", "xcd", "xof",
    "xpf", "yer", "zar", "zmw",
})  # fmt: skip

# https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts; 50 where the page names nothing.
LEAST_AMOUNT_MINOR = {
    "aed": 200, "bgn": 100, "czk": 1500, "dkk": 250, "gbp": 30, "hkd": 400, "huf": 17500, "jpy": 50, "mxn": 1000,
    "myr": 200, "nok": 300, "pln": 200, "ron": 200, "sek": 300, "thb": 1000,
}  # fmt: skip
MOST_AMOUNT_MINOR = 99_999_999
FEE_BASIS_POINTS = 290
FEE_FIXED_MINOR = 30


def display(amount_minor: int, currency: str) -> str:
    """`$12.34` or `12.34 EUR`, as error messages and pages show amounts."""
    digits = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    whole, part = divmod(amount_minor, 10**digits)
    text = f"{whole:,}.{part:0{digits}d}" if digits else f"{whole:,}"
    return f"${text}" if currency == "usd" else f"{text} {currency.upper()}"


def checked_currency(currency: str, param: str = "currency") -> str:
    """The currency in lower case; refuses one Stripe does not support."""
    lowered = currency.lower()
    if lowered not in CURRENCIES:
        known = ", ".join(sorted(CURRENCIES))
        raise invalid(f"Invalid currency: {lowered}. Stripe currently supports these currencies: {known}", param=param)
    return lowered


def check_amount(amount_minor: int, currency: str, param: str = "amount") -> None:
    """Refuses amounts that are not positive, below the currency's least, or above eight digits."""
    if amount_minor < 1:
        raise invalid("This value must be greater than or equal to 1.", param=param, code="parameter_invalid_integer")
    refused = _outside(amount_minor, currency, param)
    if refused:
        raise refused


def _outside(amount_minor: int, currency: str, param: str) -> StripeError | None:
    least = LEAST_AMOUNT_MINOR.get(currency, 50)
    if amount_minor < least:
        text = f"Amount must be at least {display(least, currency)} {currency}"
        return invalid(text, param=param, code="amount_too_small")
    if amount_minor > MOST_AMOUNT_MINOR:
        text = f"Amount must be no more than {display(MOST_AMOUNT_MINOR, currency)}"
        return invalid(text, param=param, code="amount_too_large")
    return None


def fee_minor(amount_minor: int, currency: str) -> int:
    """2.9 % and 30 minor units (2.9 % alone in zero-decimal currencies), half a unit rounded up, at most the amount."""
    fixed = 0 if currency in ZERO_DECIMAL else FEE_FIXED_MINOR
    return min(amount_minor, (amount_minor * FEE_BASIS_POINTS + 5_000) // 10_000 + fixed)
