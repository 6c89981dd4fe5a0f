"""Figures as Grafana writes them, for the units that the dashboards use."""

from math import isfinite

TIMES = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
COUNTS = ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"))
SUFFIXES = {"reqps": " req/s", "wps": " wr/s"}


def write(value: float, unit: str, decimals: int | None = None) -> str:
    """Write `value` in `unit`; with as many decimals as three digits need where none are given."""
    if not isfinite(value):
        return "none"
    match unit:
        case "percentunit":
            text = f"{_digits(100 * value, decimals)}%"
        case "currencyUSD":
            text = f"{'-' if value < 0 else ''}${_digits(abs(value), decimals)}"
        case "bool_yes_no":
            text = "yes" if value else "no"
        case "s":
            text = _scaled(value, TIMES) if value else "0 s"
        case "bytes":
            text = _scaled(value, SIZES)
        case _:
            text = _counted(value, decimals) + SUFFIXES.get(unit, "")
    return text


def _counted(value: float, decimals: int | None) -> str:
    for size, name in COUNTS:
        if abs(value) >= size:
            return f"{_digits(value / size, decimals)}{name}"
    return _digits(value, decimals)


def _scaled(value: float, scales: tuple[tuple[float, str], ...]) -> str:
    for size, name in scales:
        if abs(value) >= size:
            return f"{_digits(value / size, None)} {name}"
    return f"{value:.2g} {scales[-1][1]}"


def _digits(value: float, decimals: int | None) -> str:
    if decimals is not None and (value == 0 or abs(value) >= 10.0**-decimals):
        return f"{value:.{decimals}f}"
    text = f"{value:.3g}"
    if "e" in text:
        text = f"{value:.0f}" if abs(value) >= 1 else f"{value:.8f}".rstrip("0")
    return text
