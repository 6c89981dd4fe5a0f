"""A page of panels in Grafana's colours, measured in pixels from the top left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from benchmarks.dashboards.answers import Look, Series

PAGE, PANEL, EDGE, INK, FAINT = "#111217", "#181b1f", "#2c3235", "#ccccdc", "#8e8e99"
PALETTE: Final = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2"),
    *("#b877d9", "#705da0", "#37872d", "#fade2a", "#447ebc", "#c15c17"),
)
NAMED: Final = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
BLUES = LinearSegmentedColormap.from_list("blues", [PANEL, "#1f60c4", "#c0d8ff"])
WIDTH_PX, UNIT_PX, GAP_PX, DPI = 1600, 38, 8, 100


@dataclass(frozen=True)
class Place:
    """A rectangle in pixels, from the top left."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Sheet:
    """A page of pixels to draw on."""

    figure: Figure
    height_px: float

    @classmethod
    def of(cls, height_units: int) -> "Sheet":
        """Make an empty one."""
        height = height_units * UNIT_PX + GAP_PX
        size = (WIDTH_PX / DPI, height / DPI)
        return cls(Figure(figsize=size, dpi=DPI, facecolor=PAGE), height)

    def axes(self, place: Place) -> Axes:
        """Put axes at a place."""
        left, bottom = place.x / WIDTH_PX, 1 - (place.y + place.height) / self.height_px
        axes = self.figure.add_axes(
            (left, bottom, place.width / WIDTH_PX, place.height / self.height_px)
        )
        axes.set_facecolor("none")
        axes.tick_params(colors=FAINT, labelsize=8, length=0, pad=5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """Put text at a pixel."""
        style = {"color": INK, "fontsize": 9.5, "va": "center", **style}
        self.figure.text(x / WIDTH_PX, 1 - y / self.height_px, text, **style)

    def frame(self, place: Place) -> None:
        """Draw a panel's background."""
        axes = self.axes(place)
        axes.set_axis_off()
        axes.set_xlim(0, place.width)
        axes.set_ylim(0, place.height)
        axes.add_patch(
            FancyBboxPatch(
                (1, 1),
                place.width - 2,
                place.height - 2,
                boxstyle="round,pad=0,rounding_size=3",
                facecolor=PANEL,
                edgecolor=EDGE,
            )
        )


@dataclass(frozen=True)
class Shown:
    """One panel that is being drawn: what, where, and with which answers."""

    sheet: Sheet
    place: Place
    panel: Mapping[str, Any]
    series: Sequence[Series]
    look: Look

    def inside(self, left: float = 70, bottom: float = 54) -> Place:
        """Return where to plot: under the title and above the legend."""
        at = self.place
        return Place(at.x + left, at.y + 36, at.width - left - 16, at.height - 36 - bottom)

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """Write names with their colours in a line, as many as there is room for."""
        x, y = self.place.x + 12, self.place.y + self.place.height - 14
        for name, color in entries:
            width = 26 + 6.6 * len(name)
            if x + width > self.place.x + self.place.width:
                self.sheet.write(x, y, "…", fontsize=8)
                return
            self.sheet.write(x, y, "▬", color=color, fontsize=8)
            self.sheet.write(x + 14, y, name, fontsize=8)
            x += width
