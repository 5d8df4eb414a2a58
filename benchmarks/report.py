"""The figures as a table to read and as JSON to keep."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contest import CONNECTIONS, Contest, Side
from benchmarks.growth import FirstSync, Memory
from benchmarks.moves import Lateness
from benchmarks.push import PushTimes

_MB, _KB = 1024 * 1024, 1024
_HEAD = (
    f"{'':26}{'':10}{'p50 ms':>9}{'p99 ms':>9}{'req/s':>9}"
    f"{'p50 @16':>9}{'p99 @16':>9}{'req/s @16':>10}{'CPU ms a call':>24}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One figure with its aim, and whether it is met (None: there is none)."""

    name: str
    value: float
    unit: str
    aim: str = ""
    is_met: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "met", False: "MISSED"}[self.is_met]
        return f"{self.name:48}{self.value:>10.{1 if self.value < 1000 else 0}f} {self.unit:14}{self.aim:22}{verdict}"


def print_head() -> None:
    print(f"\n{_HEAD}\n{'-' * len(_HEAD)}")


def print_contest(contest: Contest) -> None:
    """Two rows of figures and one of ratios."""
    for side in contest.sides:
        name = contest.name if side is contest.sides[0] else f"  {contest.note}"
        print(f"{name[:25]:26}{side.name:10}{_figures(side)}  {_cpu(side):>22}")
    for line in ratios(contest):
        print(f"  {line}")
    print(flush=True)


def _figures(side: Side) -> str:
    alone, together = side.alone, side.together
    columns = (
        (alone.quantile_ms(0.5), 9, 2),
        (alone.quantile_ms(0.99), 9, 2),
        (alone.rate, 9, 0),
        (together.quantile_ms(0.5), 9, 2),
        (together.quantile_ms(0.99), 9, 2),
        (together.rate, 10, 0),
    )
    return "".join(
        " " * width if math.isnan(value) else f"{value:>{width}.{digits}f}" for value, width, digits in columns
    )


def _cpu(side: Side) -> str:
    own, origin = side.cpu_ms("postgate"), side.cpu_ms("dovecot")
    return f"{origin:.2f} dovecot" if own < 0.01 else f"{own:.2f} + {origin:.2f} dovecot"


def ratios(contest: Contest) -> list[Line]:
    """Postgate's figures divided by the reference's."""
    reference, ours = contest.sides
    aim = contest.aim
    time = ours.alone.quantile_ms(0.5) / reference.alone.quantile_ms(0.5)
    rate = ours.together.rate / reference.together.rate
    has_time_aim, has_rate_aim = math.isfinite(aim.most_time), aim.least_rate > 0
    lines = [
        Line(
            f"{contest.name}: time, ratio",
            time,
            "x",
            f"aim <= {aim.most_time}" if has_time_aim else "",
            time <= aim.most_time if has_time_aim else None,
        )
    ]
    if not math.isnan(rate):
        lines.append(
            Line(
                f"{contest.name}: requests/s @{CONNECTIONS}, ratio",
                rate,
                "x",
                f"aim >= {aim.least_rate}" if has_rate_aim else "",
                rate >= aim.least_rate if has_rate_aim else None,
            )
        )
    return lines


def sync_lines(sync: FirstSync) -> list[Line]:
    probes = sorted(sync.probe_ms)
    return [
        Line("first sync", sync.rate, "messages/s", "aim >= 5000", sync.rate >= 5000),
        Line("  CPU of Postgate", sync.cpu_seconds, "s"),
        Line("  a list of another account meanwhile, p50", statistics.median(probes), "ms"),
        Line("  the slowest of these", probes[-1], "ms"),
    ]


def push_lines(name: str, times: PushTimes, aim_ms: float | None, word: str = "IDLE") -> list[Line]:
    """`word`: how the bare client waited."""
    over = times.over_line_ms
    return [
        Line(f"{name}: 250 to frame, p50", statistics.median(times.frame), "ms"),
        Line("  the slowest", max(times.frame), "ms"),
        Line(f"  250 to the bare {word}'s line, p50", statistics.median(times.line), "ms"),
        Line(
            "  frame after the line, p50",
            over,
            "ms",
            f"aim <= {aim_ms:.0f}" if aim_ms is not None else "",
            over <= aim_ms if aim_ms is not None else None,
        ),
    ]


def moving_lines(found: Lateness) -> list[Line]:
    """Deliveries while others move messages."""
    after, elsewhere = found.inbox_ms, found.elsewhere_ms
    lost = len(found.lost) + len(found.doubled)
    return [
        Line(f"push while {found.moved} move: frame after the line, p50", statistics.median(after), "ms"),
        Line("  the slowest", max(after), "ms", "aim <= 50", max(after) <= 50),
        Line("  two bare clients apart, at most", max(found.apart_ms), "ms"),
        Line("  in another mailbox: APPEND to frame, p50", statistics.median(elsewhere), "ms"),
        Line("  the slowest of these", max(elsewhere), "ms", "aim <= 5000", max(elsewhere) <= 5000),
        Line("  deliveries lost or doubled", lost, "", "aim = 0", lost == 0),
    ]


def memory_lines(memory: Memory) -> list[Line]:
    one, each = memory.one_account / _MB, memory.each_further / _KB
    return [
        Line("memory of the whole tree, one account, after load", one, "MB", "aim <= 160", one <= 160),
        Line(f"  for each of {memory.further} further idle accounts", each, "KB", "aim <= 80", each <= 80),
        Line(
            "  CPU while nothing happens",
            memory.idle_cpu * 100,
            "% of a core",
            "aim <= 5",
            memory.idle_cpu <= 0.05,
        ),
        Line("  live again after Dovecot's restart", memory.back_seconds, "s"),
        Line("  lost by it", memory.lost, "accounts", "aim <= 0", memory.lost == 0),
    ]


def print_lines(lines: Sequence[Line]) -> None:
    for line in lines:
        print(line)
    print(flush=True)


def contest_json(contest: Contest) -> dict[str, Any]:
    """All of a contest's figures; times in ms."""
    return {
        "name": contest.name,
        "sides": {side.name: _side_json(side) for side in contest.sides},
        "ratios": [line_json(line) for line in ratios(contest)],
    }


def _side_json(side: Side) -> dict[str, Any]:
    turns = {"1": side.alone, str(CONNECTIONS): side.together}
    return {
        "connections": {
            count: {
                "calls": len(one.seconds),
                "p50_ms": one.quantile_ms(0.5),
                "p99_ms": one.quantile_ms(0.99),
                "requests_per_second": one.rate,
            }
            for count, one in turns.items()
            if one.seconds
        },
        "cpu_ms_per_call": {server: side.cpu_ms(server) for server in side.cpu_seconds},
    }


def line_json(line: Line) -> dict[str, Any]:
    return {"name": line.name.strip(), "value": line.value, "unit": line.unit, "aim": line.aim, "is_met": line.is_met}
