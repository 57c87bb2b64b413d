"""Pictures of what benchmarks found, drawn from the JSON of results. They measure nothing.

They are drawn for the width of a phone: a text of 8 points is 11 pixels high where the picture is 390 pixels wide. The
white background belongs to the picture, so that it reads the same on a dark page.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

from .findings import OURS

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

WIDTH, DPI = 3.9, 200  # inches, dots an inch: 780 pixels
BLUE, GREY, INK, FAINT = "#1f6feb", "#a8b1bb", "#1f2328", "#59636e"
TOP = 2.2  # of settings: what takes longer leaves the picture, and is told in words
LINES = {"rpc_options()": (BLUE, "-"), "large_tensors": (BLUE, "--")}  # of settings: the others are grey
TIMES = "\N{MULTIPLICATION SIGN}"
TEXT, SMALL, TITLE = 8.0, 7.0, 9.5  # points
ROW, PANEL = 0.42, 1.2  # inches

Json = Mapping[str, Any]


def draw(question: str, found: Json, path: Path) -> None:
    """Draws what `question` found into the PNG file `path`."""
    figure = DRAWN.get(question, bars)(found)
    figure.savefig(path, dpi=DPI, facecolor="white")
    pyplot.close(figure)


# -- bars: who takes how long


def bars(found: Json) -> Figure:
    """Draws a bar for each contender, the best at the top; the name, the value and the ratio stand beside it."""
    rows = _ordered(found)
    scale, unit = _axis_unit(found, max(found["contenders"][name]["high"] for name in rows))
    subtitle = "Higher is better." if _is_rate(found) else "Lower is better."
    figure, (axes,) = _figure(found, f"{subtitle} Thin line: quartiles of the rounds.", [ROW * len(rows)])
    end = 1.02 * max(found["contenders"][name]["high"] for name in rows) * scale
    of_all = f"{OURS}, " if all(name.startswith(f"{OURS}, ") for name in rows) else ""  # says nothing then
    for position, name in enumerate(rows):
        summary = found["contenders"][name]
        value, ours = summary["median"] * scale, _is_ours(name, found)
        axes.barh(position + 0.22, value, height=0.44, color=BLUE if ours else GREY)
        axes.plot(
            [summary["low"] * scale, summary["high"] * scale], [position + 0.22] * 2, color=INK, lw=0.9, alpha=0.7
        )
        weight = "bold" if ours and not of_all else "normal"
        axes.text(0, position - 0.14, name.removeprefix(of_all), fontsize=TEXT, color=INK, weight=weight)
        shown = _shown(summary["median"], found["unit"])
        axes.text(end, position - 0.14, shown, fontsize=TEXT, color=INK, weight=weight, ha="right")
        _write_beside(axes, max(value, summary["high"] * scale), position + 0.235, end, _comparison(name, found), ours)
    axes.set_xlim(0, end)
    axes.set_ylim(len(rows) - 0.45, -0.45)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.set_xlabel(unit, fontsize=SMALL, color=FAINT, labelpad=1)
    return figure


def _write_beside(axes: Axes, value: float, position: float, end: float, text: str, ours: bool) -> None:
    """Writes behind a bar, or, where there is no room, into it."""
    room = 1 - value / end > 0.015 * len(text) + 0.02
    where = value + 0.012 * end if room else 0.012 * end
    color = INK if room or not ours else "white"
    axes.text(where, position, text, fontsize=SMALL, color=color, va="center", ha="left")


def _ordered(found: Json) -> list[str]:
    """Returns the contenders from best to worst, without limits; ours stands above the peer that it ran beside."""
    contenders = found["contenders"]
    sign = -1 if _is_rate(found) else 1
    names = [name for name in contenders if not _is_limit(contenders[name])]

    def rank(name: str) -> tuple[float, bool]:
        peer = name.partition(", beside ")[2]
        return sign * contenders[peer or name]["median"], not peer

    return sorted(names, key=rank)


def _comparison(name: str, found: Json) -> str:
    """Says how many times as fast ours is, as the ratios have it; or how much of its limit ours takes."""
    contenders, rate = found["contenders"], _is_rate(found)
    for ratio in found["ratios"]:
        if ratio["of"] == name and _is_limit(contenders[ratio["to"]]):
            return f"{ratio['value']:.0%} of the limit, {ratio['to'].replace('us', 'µs')}"
    if _is_ours(name, found):
        return ""
    said = {}
    for ratio in found["ratios"]:
        if ratio["to"] == name and _is_ours(ratio["of"], found):
            said[ratio["statistic"]] = ratio["value"]
    reference = _reference(name, found)
    said.setdefault("median", contenders[reference]["median"] / contenders[name]["median"])
    times = {statistic: _times(value if rate else 1 / value) for statistic, value in said.items()}
    at_p99 = f" ({times['p99']} at p99)" if "p99" in times else ""
    return f"ours is {times['median']} as fast{at_p99}"


def _reference(name: str, found: Json) -> str:
    """Returns which of ours a contender is compared with where no target says it."""
    ours = [contender for contender in found["contenders"] if _is_ours(contender, found)]
    ends = (f"{OURS}, {end}" for end in (name.partition(", ")[2], name.rpartition(", ")[2]))
    wanted = (f"{OURS}, beside {name}", *ends, OURS)
    return next((contender for contender in wanted if contender in ours), ours[0])


# -- lines: how it grows


def growth(found: Json) -> Figure:
    """Draws what a call takes over the number of modules, interfaces, arguments and levels of nesting."""
    contenders = found["contenders"]
    panels: dict[str, dict[int, Json]] = {}
    for name, summary in contenders.items():
        count, what = _counted(name)
        panels.setdefault(what, {})[count] = summary
    for what in ("modules on the owner", "interfaces on the owner"):
        panels[what][1] = contenders["one module"]
    top = 1.35 * max(summary["high"] for summary in contenders.values())
    figure, every = _figure(found, "Shaded: quartiles of the rounds.", [PANEL] * len(panels))
    for axes, (what, points) in zip(every, panels.items(), strict=True):
        counts = sorted(points)
        wide = counts[-1] > 100
        places = [counts.index(count) if wide else count for count in counts]
        medians = [points[count]["median"] for count in counts]
        low, high = ([points[count][side] for count in counts] for side in ("low", "high"))
        axes.fill_between(places, low, high, color=BLUE, alpha=0.15, lw=0)
        axes.plot(places, medians, color=BLUE, marker="o", markersize=3.5, lw=1.6)
        for place, median, upper in ((places[0], medians[0], high[0]), (places[-1], medians[-1], high[-1])):
            side = "left" if place == places[0] else "right"
            text = _shown(median, found["unit"])
            if place == places[-1]:
                text += f", {_times(median / medians[0])}"
            axes.annotate(text, (place, upper), (0, 3), textcoords="offset points", fontsize=TEXT, color=INK, ha=side)
        axes.set_xticks(places, [f"{count:,}" for count in counts])
        axes.set_ylim(0, top)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        axes.set_title(what, fontsize=TEXT, color=INK, loc="left", pad=3)
        axes.set_ylabel("µs", fontsize=SMALL, color=FAINT)
    return figure


def _counted(name: str) -> tuple[int, str]:
    """Reads the name of a contender of growth: "100,000 modules" is (100000, "modules on the owner")."""
    if name == "one module":
        return 1, "modules on the owner"
    if deep := re.fullmatch(r"nested (\d+) deep", name):
        return int(deep[1]), "levels of lists in the argument"
    count, _, what = name.partition(" ")
    kind = {"arguments": "arguments of the method"}.get(what, f"{what} on the owner")
    return int(count.replace(",", "")), kind


def settings(found: Json) -> Figure:
    """Draws, for each transport and direction, how long a call takes with each channel: ours is 1."""
    panels: dict[str, dict[str, dict[str, float]]] = {}
    for name, summary in found["contenders"].items():
        if read := re.fullmatch(r"(.*), (.*): (.*), (.* [KM]iB)", name):
            transport, channel, direction, size = read.groups()
            panels.setdefault(f"{transport}, {direction}", {}).setdefault(channel, {})[size] = summary["median"]
    subtitle = "How many times as long as with rpc_options(). Lower is better."
    figure, every = _figure(found, subtitle, [PANEL] * len(panels))
    for axes, (title, channels) in zip(every, panels.items(), strict=True):
        ours = channels["rpc_options()"]
        ends = {}
        for channel, took in channels.items():
            color, style = LINES.get(channel, (GREY, "-"))
            times = [took[size] / ours[size] for size in ours]
            axes.plot(range(len(ours)), times, color=color, ls=style, marker="o", markersize=3, lw=1.6)
            ends[channel] = times[-1]
            if max(times) > TOP:
                size, most = max(zip(ours, times, strict=True), key=lambda pair: pair[1])
                above = f"{channel}: up to {_times(most)}, at {size}"
                axes.text(len(ours) + 1.2, 1.76, above, fontsize=SMALL, color=FAINT, va="center", ha="right")
        for channel, height in _apart(ends, 0.13 * TOP).items():
            color, _ = LINES.get(channel, (FAINT, ""))
            axes.text(len(ours) - 0.8, height, channel, fontsize=SMALL, color=color, va="center")
        axes.set_xticks(range(len(ours)), [size.replace(" ", "\n") for size in ours])
        axes.set_xlim(-0.3, len(ours) + 1.2)
        axes.set_ylim(0, TOP)
        axes.set_yticks([0, 0.5, 1, 1.5, 2])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        axes.set_title(title, fontsize=TEXT, color=INK, loc="left", pad=3)
    return figure


def _apart(heights: Mapping[str, float], distance: float) -> dict[str, float]:
    """Moves labels apart that are nearer to one another than `distance`, and all of them back down to the middle."""
    moved: dict[str, float] = {}
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        moved[name] = max(height, max(moved.values(), default=-distance) + distance)
    too_high = sum(moved[name] - heights[name] for name in moved) / len(moved)
    return {name: height - too_high for name, height in moved.items()}


DRAWN: dict[str, Callable[[Json], Figure]] = {"growth": growth, "settings": settings}
"""How a question is drawn, unless with bars."""


# -- the sheet


def _figure(found: Json, subtitle: str, heights: list[float]) -> tuple[Figure, list[Axes]]:
    """Lays out a title, a subtitle, one plot under the other, of these heights in inches, and a line on the machine."""
    question = re.sub(r"[\[(].*?[\])]", lambda whole: whole[0].replace(" ", "\N{NO-BREAK SPACE}"), found["question"])
    title = textwrap.wrap(question, 46)
    under = textwrap.wrap(subtitle, 62)
    head = 0.12 + 0.17 * len(title) + 0.15 * len(under) + 0.08
    panels = heights[0] == PANEL
    gap = 0.52 if panels else 0.3  # for the labels below a plot, and the title of the next one
    head += 0.2 if panels else 0
    total = head + sum(heights) + gap * len(heights) + (0 if panels else 0.16)
    figure = pyplot.figure(figsize=(WIDTH, total))
    figure.text(0.04, 1 - 0.12 / total, "\n".join(title), fontsize=TITLE, weight="bold", color=INK, va="top")
    below = (0.14 + 0.17 * len(title)) / total
    figure.text(0.04, 1 - below, "\n".join(under), fontsize=SMALL, color=FAINT, va="top")
    machine = found["machine"]
    of = machine["processor"] if machine["accelerator"] == "none" else machine["accelerator"]
    where = f"{of}, {machine['cores']} cores, torch {machine['torch']}, {machine['date']}"
    figure.text(0.04, 0.06 / total, where, fontsize=SMALL - 0.5, color=FAINT)
    every = []
    top = total - head
    left = 0.13 if panels else 0.04
    for height in heights:
        axes = figure.add_axes((left, (top - height) / total, 0.96 - left, height / total))
        top -= height + gap
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(GREY)
        axes.tick_params(length=0, labelsize=SMALL, labelcolor=FAINT)
        axes.grid(axis="y" if panels else "x", color="#e6e9ec", lw=0.8)
        axes.set_axisbelow(True)
        every.append(axes)
    return figure, every


# -- names and numbers


def _is_ours(name: str, found: Json) -> bool:
    """Says whether a contender is torchremote. Where none has its name, all are."""
    return name.startswith(OURS) or all(not other.startswith(OURS) for other in found["contenders"])


def _is_limit(summary: Json) -> bool:
    """Says whether a contender is a limit that was set: it does not vary."""
    return bool(summary["low"] == summary["high"] == summary["p99"])


def _is_rate(found: Json) -> bool:
    return found["unit"].endswith("/s")


UNITS = {"us": 1e-6, "ms": 1e-3}


def _axis_unit(found: Json, highest: float) -> tuple[float, str]:
    """Returns by what to multiply values for the axis, and the unit that they then have."""
    if found["unit"] not in UNITS:
        return 1.0, found["unit"]
    if highest * UNITS[found["unit"]] < 10e-3:
        return UNITS[found["unit"]] * 1e6, "µs"
    return UNITS[found["unit"]] * 1e3, "ms"


def _shown(value: float, unit: str) -> str:
    """Writes a value with its unit, for times the one in which it is easiest to read: 4.11 µs, 55.2 ms."""
    if unit not in UNITS:
        return f"{plain(value)} {unit}"
    seconds = value * UNITS[unit]
    factor, shown = next(((by, name) for by, name in ((1e6, "µs"), (1e3, "ms")) if seconds * by < 1000), (1.0, "s"))
    return f"{plain(seconds * factor)} {shown}"


def _times(value: float) -> str:
    """Writes a ratio: 0.96, 1.0 or 162, and the sign."""
    return (f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}") + TIMES


def plain(value: float) -> str:
    """Writes a number with three digits that count, and never with a power of ten: 0.0041, 1.04, 48,036."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
